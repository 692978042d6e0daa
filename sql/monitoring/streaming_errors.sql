-- Which inserts does BigQuery reject, and since when?
-- Requests of insertAll by table and error; the row without an error code counts the successful ones. quotaExceeded and
-- rateLimitExceeded require fewer, larger requests. invalid means that a table is older than the code.
-- Source: https://cloud.google.com/bigquery/docs/information-schema-streaming
-- @hours INT64 = 24 (1 to 4320): how many hours back
-- Cost: metadata
SELECT
  table_id AS table_name,
  error_code,
  SUM(total_requests) AS requests,
  SUM(total_rows) AS row_count,
  SUM(total_input_bytes) AS input_bytes,
  MIN(start_timestamp) AS first_minute,
  MAX(start_timestamp) AS last_minute
FROM `{{ project }}`.`region-{{ location }}`.INFORMATION_SCHEMA.STREAMING_TIMELINE_BY_PROJECT
WHERE start_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
  AND dataset_id = '{{ dataset }}'
GROUP BY table_name, error_code
ORDER BY table_name, requests DESC
