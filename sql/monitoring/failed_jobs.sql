-- Which jobs failed, and why?
-- Queries, loads, copies and exports of this project and region, newest first.
-- Source: https://cloud.google.com/bigquery/docs/information-schema-jobs
-- @hours INT64 = 24 (1 to 4320): how many hours back
-- Cost: metadata
SELECT
  creation_time,
  job_type,
  statement_type,
  user_email,
  error_result.reason AS reason,
  error_result.message AS message,
  job_id,
  query
FROM `{{ project }}`.`region-{{ location }}`.INFORMATION_SCHEMA.JOBS
WHERE creation_time >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
  AND error_result.reason IS NOT NULL
ORDER BY creation_time DESC
LIMIT 200
