-- Put a restored table in the place of a live one, whose rows are gone then.
-- The command takes a snapshot of the live one before, compares the two, and makes the views again; this does not.
-- Stop the ingestion while it runs: what is streamed into a table that is being replaced may be lost to it
-- (https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery).
-- ${restored} NAME: the restored table
-- ${table} NAME: the live table
-- Cost: metadata
-- Part of: sluice restore --replace
CREATE OR REPLACE TABLE `${project}.${dataset}.${table}`
CLONE `${project}.${dataset}.${restored}`
OPTIONS (partition_expiration_days = ${retention_days})
