-- Make a table of a snapshot; never over one that is there.
-- The new table has the snapshot's rows, partitions and clustering.
-- Source: https://cloud.google.com/bigquery/docs/table-snapshots-restore
-- {{ snapshot }} NAME: the snapshot
-- {{ to }} NAME: name of the new table, in the live dataset
-- Cost: metadata
CREATE TABLE `{{ project }}.{{ dataset }}.{{ to }}`
CLONE `{{ project }}.{{ historical_dataset }}.{{ snapshot }}`
OPTIONS (partition_expiration_days = {{ retention_days }})
