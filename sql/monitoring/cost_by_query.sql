-- Which queries cost most?
-- Queries that differ only in their literals are one. Prices are on demand, for this project and region. The statements
-- of a script count; the script itself does not. `source` of the most expensive run is as in cost_by_user. The first
-- TiB of a month is free, which is not considered.
-- Source: https://cloud.google.com/bigquery/docs/information-schema-jobs, https://cloud.google.com/bigquery/pricing
-- @days INT64 = 7 (1 to 180): how many days back; BigQuery keeps 180
-- @usd_per_tib FLOAT64 = 6.25 (0 to 1000): price of what is billed
-- Cost: metadata
SELECT
  SUM(total_bytes_billed) AS bytes_billed,
  ROUND(SUM(total_bytes_billed) / POW(2, 40) * @usd_per_tib, 2) AS usd,
  COUNT(*) AS runs,
  COUNTIF(cache_hit) AS from_cache,
  COUNTIF(error_result.reason IS NOT NULL) AS failed,
  ROUND(SUM(total_slot_ms) / 3600000, 2) AS slot_hours,
  ROUND(AVG(TIMESTAMP_DIFF(end_time, start_time, MILLISECOND)) / 1000, 2) AS avg_seconds,
  COUNT(DISTINCT user_email) AS users,
  MAX(creation_time) AS last_run_at,
  ARRAY_AGG(
    STRUCT(
      job_id,
      user_email,
      (SELECT MIN(value) FROM UNNEST(labels) WHERE key IN ('sluice', 'data_source_id')) AS source,
      query
    )
    ORDER BY total_bytes_billed DESC LIMIT 1
  )[OFFSET(0)] AS dearest
FROM `{{ project }}`.`region-{{ location }}`.INFORMATION_SCHEMA.JOBS
WHERE creation_time >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @days DAY)
  AND job_type = 'QUERY'
  AND (statement_type IS NULL OR statement_type != 'SCRIPT')
GROUP BY query_info.query_hashes.normalized_literals
ORDER BY bytes_billed DESC
LIMIT 50
