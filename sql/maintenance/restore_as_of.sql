-- Make a table of what another one was at a time of the last seven days; never over one that is there.
-- Source: https://cloud.google.com/bigquery/docs/table-clones-create
-- {{ table }} NAME: the table
-- @at TIMESTAMP: as of when
-- {{ to }} NAME: name of the new table
-- Cost: metadata
CREATE TABLE `{{ project }}.{{ dataset }}.{{ to }}`
CLONE `{{ project }}.{{ dataset }}.{{ table }}`
FOR SYSTEM_TIME AS OF @at
OPTIONS (partition_expiration_days = {{ retention_days }})
