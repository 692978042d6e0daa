-- How far do people get in the shop? The last 24 hours, without bots.
WITH activity AS (
  SELECT
    activity_type,
    user_id
  FROM `${project}.${dataset}.user_activity`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL 1 DAY)
    AND timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR)
    AND NOT is_bot
  QUALIFY ROW_NUMBER() OVER (PARTITION BY ingest.event_id ORDER BY processed_timestamp) = 1
)
SELECT
  activity_type,
  COUNT(DISTINCT user_id) AS unique_users,
  COUNT(*) AS total_events
FROM activity
GROUP BY activity_type
ORDER BY total_events DESC, activity_type
