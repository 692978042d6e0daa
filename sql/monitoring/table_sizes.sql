-- How big are the tables, and since when has nothing been written to them?
-- Includes snapshots, clones and materialized views. The data is a few minutes old, and up to a day after partitions
-- expire. Physical bytes are compressed and include time travel and fail-safe.
-- Source: https://cloud.google.com/bigquery/docs/information-schema-table-storage
-- Chart: bars of total_logical_bytes by dataset, table_name
-- Cost: metadata
SELECT
  table_schema AS dataset,
  table_name,
  table_type,
  total_rows,
  total_partitions,
  total_logical_bytes,
  long_term_logical_bytes,
  total_physical_bytes,
  storage_last_modified_time AS last_written_at
FROM `{{ project }}`.`region-{{ location }}`.INFORMATION_SCHEMA.TABLE_STORAGE
WHERE table_schema IN ('{{ dataset }}', '{{ historical_dataset }}')
  AND NOT deleted
ORDER BY total_logical_bytes DESC, dataset, table_name
