CREATE OR REPLACE VIEW `{{ project }}.{{ dataset }}.dead_letter_summary` (
  failed_on OPTIONS (description = "UTC day"),
  stage OPTIONS (description = "decode, contract, enrich, time_bounds or warehouse"),
  cause OPTIONS (description = "The fingerprint; for dead letters without place made from stage, type, rule and path"),
  event_type OPTIONS (description = "Event type; NULL if it is not valid"),
  place OPTIONS (description = "Path of the first error of one of them, with [*] as in dead_letter_status"),
  rule OPTIONS (description = "The rule that it broke"),
  events OPTIONS (description = "Number of events"),
  open_events OPTIONS (description = "Number of these that are open; see dead_letter_status"),
  first_failed_at OPTIONS (description = "First time that day"),
  last_failed_at OPTIONS (description = "Last time that day"),
  example_event_id OPTIONS (description = "One of the events")
)
OPTIONS (
  description = "Dead letters by day, stage and cause; shows nothing of their payloads",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("definition", "{{ definition }}")]
)
AS
SELECT
  failed_on,
  stage,
  cause,
  MIN(IF(place = '$.event_type', NULL, event_type)) AS event_type,
  MIN(place) AS place,
  MIN(rule) AS rule,
  COUNT(DISTINCT CONCAT(event_id, COALESCE(content_digest, ''))) AS events,
  COUNT(DISTINCT IF(is_open, CONCAT(event_id, COALESCE(content_digest, '')), NULL)) AS open_events,
  MIN(failed_at) AS first_failed_at,
  MAX(failed_at) AS last_failed_at,
  MIN(event_id) AS example_event_id
FROM `{{ project }}.{{ dataset }}.dead_letter_status`
GROUP BY failed_on, stage, cause
