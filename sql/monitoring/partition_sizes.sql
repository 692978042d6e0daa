-- How big is each day of each live table?
-- The partition __UNPARTITIONED__ has rows that were streamed in and are not in their day yet; __NULL__ would have rows
-- without a date. Check a day that is much smaller than its neighbors.
-- Source: https://cloud.google.com/bigquery/docs/information-schema-partitions
-- @days INT64 = 14 (0 to 1825): how many days back
-- Cost: metadata
SELECT
  table_name,
  partition_id,
  total_rows,
  total_logical_bytes,
  last_modified_time,
  storage_tier
FROM `{{ project }}`.{{ dataset }}.INFORMATION_SCHEMA.PARTITIONS
WHERE partition_id >= FORMAT_DATE('%Y%m%d', DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY))
ORDER BY table_name, partition_id DESC
