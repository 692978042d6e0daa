-- Create a table with the content of another one at a time within the last seven days; never overwrite a table.
-- Source: https://cloud.google.com/bigquery/docs/table-clones-create
-- {{ table }} NAME: the table
-- @at TIMESTAMP: time of the content
-- {{ to }} NAME: name of the new table
-- Cost: metadata
CREATE TABLE `{{ project }}.{{ dataset }}.{{ to }}`
CLONE `{{ project }}.{{ dataset }}.{{ table }}`
FOR SYSTEM_TIME AS OF @at
OPTIONS (partition_expiration_days = {{ retention_days }})
