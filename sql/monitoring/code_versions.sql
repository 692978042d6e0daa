-- Which versions of the code processed events, and did a deploy bring dead letters?
-- @hours INT64 = 24 (1 to 8760): how many hours back
-- @days INT64 = 7 (0 to 1825): how many days back the events may be dated; see ingestion_freshness
-- Cost: partitions
WITH outcomes AS (
  -- Each table:
  SELECT
    ingest.code_version AS code_version,
    processed_timestamp AS happened_at,
    ingest.event_id AS event_id,
    FALSE AS is_dead
  FROM `${project}.${dataset}.${table}`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
    AND processed_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
  -- End.
  UNION ALL
  SELECT
    code_version,
    failed_at,
    event_id,
    TRUE
  FROM `${project}.${dataset}.dead_letters`
  WHERE failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
)
SELECT
  code_version,
  MIN(happened_at) AS first_at,
  MAX(happened_at) AS last_at,
  COUNT(DISTINCT event_id) AS events,
  COUNT(DISTINCT IF(is_dead, event_id, NULL)) AS dead_letters
FROM outcomes
GROUP BY code_version
ORDER BY last_at DESC, code_version
