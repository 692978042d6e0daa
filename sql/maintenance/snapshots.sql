-- Which snapshots are there?
-- Source: https://cloud.google.com/bigquery/docs/information-schema-snapshots
-- Cost: metadata
SELECT
  table_name AS snapshot,
  base_table_name AS table_name,
  snapshot_time
FROM `{{ project }}`.{{ historical_dataset }}.INFORMATION_SCHEMA.TABLE_SNAPSHOTS
WHERE base_table_schema = '{{ dataset }}'
ORDER BY snapshot_time DESC, snapshot
