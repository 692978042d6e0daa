-- Create a table from a snapshot; never overwrite a table.
-- The new table has the rows, partitions and clustering of the snapshot.
-- Source: https://cloud.google.com/bigquery/docs/table-snapshots-restore
-- {{ snapshot }} NAME: the snapshot
-- {{ to }} NAME: name of the new table, in the live dataset
-- Cost: metadata
CREATE TABLE `{{ project }}.{{ dataset }}.{{ to }}`
CLONE `{{ project }}.{{ historical_dataset }}.{{ snapshot }}`
OPTIONS (partition_expiration_days = {{ retention_days }})
