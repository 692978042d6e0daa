-- Why are events rejected, and which causes are new?
-- A cause is a fingerprint: stage, rule and place, without any text of the producers. before counts the same span of
-- time just before. first_seen_at is within the retention. open_events counts all events of the retention that no
-- replay has turned into rows. Look at the example event with `sluice dead-letters show`.
-- @hours INT64 = 24 (1 to 8760): how many hours back
-- Chart: bars of events by stage, rule, place
-- Cost: table
SELECT
  stage,
  MIN(rule) AS rule,
  MIN(place) AS place,
  COUNT(DISTINCT IF(is_recent, CONCAT(event_id, COALESCE(content_digest, '')), NULL)) AS events,
  COUNT(DISTINCT IF(is_before, CONCAT(event_id, COALESCE(content_digest, '')), NULL)) AS before,
  COUNT(DISTINCT IF(is_open, CONCAT(event_id, COALESCE(content_digest, '')), NULL)) AS open_events,
  MIN(failed_at) AS first_seen_at,
  MAX(failed_at) AS last_seen_at,
  MIN(IF(is_recent, event_id, NULL)) AS example_event_id,
  cause
FROM (
  SELECT
    *,
    failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR) AS is_recent,
    failed_at < TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
      AND failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 2 * @hours HOUR) AS is_before
  FROM `{{ project }}.{{ dataset }}.dead_letter_status`
)
GROUP BY stage, cause
HAVING events > 0
ORDER BY events DESC, cause
