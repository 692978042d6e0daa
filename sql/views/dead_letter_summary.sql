CREATE OR REPLACE VIEW `${project}.${dataset}.dead_letter_summary` (
  failed_on OPTIONS (description = "UTC day"),
  stage OPTIONS (description = "decode, contract, enrich, time_bounds or warehouse"),
  fingerprint OPTIONS (description = "The same for the same cause"),
  event_type OPTIONS (description = "What the payloads say of their type"),
  path OPTIONS (description = "Place of the first error, of one of them"),
  rule OPTIONS (description = "The rule that it broke"),
  events OPTIONS (description = "How many events"),
  first_failed_at OPTIONS (description = "When it began that day"),
  last_failed_at OPTIONS (description = "When it was seen last that day"),
  example_event_id OPTIONS (description = "One of the events")
)
OPTIONS (
  description = "Dead letters by day, stage and cause; shows nothing of their payloads",
  labels = [("environment", "${environment}"), ("managed_by", "cloud_function"), ("definition", "${definition}")]
)
AS
SELECT
  DATE(failed_at) AS failed_on,
  stage,
  fingerprint,
  event_type,
  MIN(errors[SAFE_OFFSET(0)].path) AS path,
  MIN(errors[SAFE_OFFSET(0)].rule) AS rule,
  COUNT(DISTINCT event_id) AS events,
  MIN(failed_at) AS first_failed_at,
  MAX(failed_at) AS last_failed_at,
  MIN(event_id) AS example_event_id
FROM `${project}.${dataset}.dead_letters`
GROUP BY failed_on, stage, fingerprint, event_type
