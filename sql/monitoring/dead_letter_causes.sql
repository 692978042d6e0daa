-- Why are events refused, and which causes are new?
-- A cause is a fingerprint: stage, rule and place. before is the same span of time just before; first_seen_at is within
-- the retention. One event of each cause is named, to look at in dead_letters.
-- @hours INT64 = 24 (1 to 8760): how many hours back
-- Cost: table
SELECT
  stage,
  MIN(errors[SAFE_OFFSET(0)].rule) AS rule,
  MIN(errors[SAFE_OFFSET(0)].path) AS path,
  COUNT(DISTINCT IF(is_recent, event_id, NULL)) AS events,
  COUNT(DISTINCT IF(is_before, event_id, NULL)) AS before,
  MIN(failed_at) AS first_seen_at,
  MAX(failed_at) AS last_seen_at,
  MIN(IF(is_recent, event_id, NULL)) AS example_event_id,
  fingerprint
FROM (
  SELECT
    *,
    failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR) AS is_recent,
    failed_at < TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
      AND failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 2 * @hours HOUR) AS is_before
  FROM `${project}.${dataset}.dead_letters`
)
GROUP BY stage, fingerprint
HAVING events > 0
ORDER BY events DESC, fingerprint
