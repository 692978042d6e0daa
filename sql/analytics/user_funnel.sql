-- How far do people get in the shop?
-- Bots are left out. The steps are login, view_product and add_to_cart. users_this_far took this step or a later one,
-- and conversion is their share of the users who reached the previous step. remove_from_cart counts as add_to_cart,
-- since the cart was filled before. Other activities are no steps.
-- @hours INT64 = 24 (0 to 8760): how many hours back
-- Chart: funnel of users_this_far by activity_type
-- Cost: partitions
WITH activity AS (
  SELECT
    user_id,
    activity_type,
    CASE activity_type WHEN 'add_to_cart' THEN 3 WHEN 'remove_from_cart' THEN 3 WHEN 'view_product' THEN 2 ELSE 1 END
      AS step
  FROM `{{ project }}.{{ dataset }}.user_activity_deduplicated`
  WHERE event_date >= DATE(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR))
    AND timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
    AND is_bot IS NOT TRUE
),
activities AS (
  SELECT
    activity_type,
    COUNT(DISTINCT user_id) AS unique_users,
    COUNT(*) AS total_events
  FROM activity
  GROUP BY activity_type
),
users AS (
  SELECT MAX(step) AS furthest
  FROM activity
  GROUP BY user_id
),
funnel AS (
  SELECT [COUNT(*), COUNTIF(furthest >= 2), COUNTIF(furthest >= 3)] AS users
  FROM users
),
answer AS (
  SELECT
    position,
    activity_type,
    COALESCE(unique_users, 0) AS unique_users,
    COALESCE(total_events, 0) AS total_events,
    users[SAFE_OFFSET(position)] AS users_this_far
  FROM UNNEST(['login', 'view_product', 'add_to_cart', 'remove_from_cart', 'logout']) AS activity_type
    WITH OFFSET AS position
  LEFT JOIN activities USING (activity_type)
  CROSS JOIN funnel
)
SELECT
  activity_type,
  unique_users,
  total_events,
  users_this_far,
  SAFE_DIVIDE(users_this_far, LAG(users_this_far) OVER (ORDER BY position)) AS conversion
FROM answer
ORDER BY position
