CREATE OR REPLACE VIEW `{{ project }}.{{ dataset }}.user_sessions` (
  event_date OPTIONS (description = "UTC day; a visit over midnight has a row on each day"),
  session_id OPTIONS (description = "The visit"),
  user_id OPTIONS (description = "The user; the same id as customer_id of an order"),
  platform OPTIONS (description = "web, mobile or tablet, at the start"),
  is_bot OPTIONS (description = "Whether the user is a bot"),
  started_at OPTIONS (description = "First event of the day"),
  ended_at OPTIONS (description = "Last event of the day"),
  duration_seconds OPTIONS (description = "From the first to the last event"),
  events OPTIONS (description = "Number of events"),
  products_viewed OPTIONS (description = "Number of view_product events"),
  added_to_cart OPTIONS (description = "Number of add_to_cart events"),
  removed_from_cart OPTIONS (description = "Number of remove_from_cart events"),
  funnel_step OPTIONS (description = "Last step that it reached: 1 visit, 2 view_product, 3 add_to_cart")
)
OPTIONS (
  description = "Visits: what each user did in a session, day by day",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("definition", "{{ definition }}")]
)
AS
SELECT
  event_date,
  metadata.session_id AS session_id,
  user_id,
  ARRAY_AGG(metadata.platform ORDER BY timestamp, ingest.event_id LIMIT 1)[OFFSET(0)] AS platform,
  LOGICAL_OR(is_bot) AS is_bot,
  MIN(timestamp) AS started_at,
  MAX(timestamp) AS ended_at,
  TIMESTAMP_DIFF(MAX(timestamp), MIN(timestamp), MICROSECOND) / 1e6 AS duration_seconds,
  COUNT(*) AS events,
  COUNTIF(activity_type = 'view_product') AS products_viewed,
  COUNTIF(activity_type = 'add_to_cart') AS added_to_cart,
  COUNTIF(activity_type = 'remove_from_cart') AS removed_from_cart,
  MAX(CASE activity_type WHEN 'add_to_cart' THEN 3 WHEN 'remove_from_cart' THEN 3 WHEN 'view_product' THEN 2 ELSE 1 END)
    AS funnel_step
FROM `{{ project }}.{{ dataset }}.user_activity_deduplicated`
GROUP BY event_date, session_id, user_id
