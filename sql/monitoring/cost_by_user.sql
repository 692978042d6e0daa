-- Who spends how much on queries?
-- By user or service account, on demand, for this project and region; see cost_by_query. `source` is the part of Sluice
-- that ran the query (`reconcile`, `bootstrap`, or `command` for the sluice command), by the label of the job.
-- `scheduled_query` is a label of BigQuery itself. NULL is everybody else.
-- Source: https://cloud.google.com/bigquery/docs/information-schema-jobs, https://cloud.google.com/bigquery/pricing
-- @days INT64 = 7 (1 to 180): how many days back; BigQuery keeps 180
-- @usd_per_tib FLOAT64 = 6.25 (0 to 1000): price of what is billed
-- Cost: metadata
SELECT
  user_email,
  (SELECT MIN(value) FROM UNNEST(labels) WHERE key IN ('sluice', 'data_source_id')) AS source,
  SUM(total_bytes_billed) AS bytes_billed,
  ROUND(SUM(total_bytes_billed) / POW(2, 40) * @usd_per_tib, 2) AS usd,
  COUNT(*) AS queries,
  COUNTIF(cache_hit) AS from_cache,
  COUNTIF(error_result.reason IS NOT NULL) AS failed,
  ROUND(SUM(total_slot_ms) / 3600000, 2) AS slot_hours,
  MAX(total_bytes_billed) AS most_bytes_billed_at_once
FROM `{{ project }}`.`region-{{ location }}`.INFORMATION_SCHEMA.JOBS
WHERE creation_time >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @days DAY)
  AND job_type = 'QUERY'
  AND (statement_type IS NULL OR statement_type != 'SCRIPT')
GROUP BY user_email, source
ORDER BY bytes_billed DESC, user_email
