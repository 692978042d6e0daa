-- How many filled carts are abandoned?
-- A cart is a visit, without bots, that added more products than it removed; it belongs to the UTC day on which the
-- visit began. It is ordered if the same person places an order between the start of the visit and @hours after its
-- end. Until then it is open, afterwards abandoned. abandonment_rate leaves out open carts.
-- The query also reads the day before, for visits over midnight, and 30 days of orders, so that an older order does not
-- count because of a later status.
-- @days INT64 = 7 (0 to 3650): how many days back
-- @hours INT64 = 24 (0 to 720): hours after the visit in which an order counts
-- Chart: series of abandonment_rate by day
-- Cost: partitions
WITH visits AS (
  SELECT
    session_id,
    user_id,
    MIN(started_at) AS began_at,
    MAX(ended_at) AS left_at
  FROM `{{ project }}.{{ dataset }}.user_sessions`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days + 1 DAY)
  GROUP BY session_id, user_id
  HAVING SUM(added_to_cart) > SUM(removed_from_cart)
    AND LOGICAL_OR(is_bot) IS NOT TRUE
    AND DATE(MIN(started_at)) >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
),
orders AS (
  SELECT
    customer_id,
    MIN(order_date) AS ordered_at
  FROM `{{ project }}.{{ dataset }}.orders_all`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days + 30 DAY)
  GROUP BY customer_id, order_id
),
carts AS (
  SELECT
    DATE(began_at) AS day,
    COUNT(ordered_at) > 0 AS is_ordered,
    TIMESTAMP_ADD(left_at, INTERVAL @hours HOUR) >= CURRENT_TIMESTAMP() AS is_in_time
  FROM visits
  LEFT JOIN orders
    ON customer_id = user_id
    AND ordered_at BETWEEN began_at AND TIMESTAMP_ADD(left_at, INTERVAL @hours HOUR)
  GROUP BY session_id, user_id, began_at, left_at
)
SELECT
  day,
  COUNT(*) AS carts,
  COUNTIF(is_ordered) AS ordered,
  COUNTIF(NOT is_ordered AND is_in_time) AS still_open,
  COUNTIF(NOT is_ordered AND NOT is_in_time) AS abandoned,
  SAFE_DIVIDE(COUNTIF(NOT is_ordered AND NOT is_in_time), COUNTIF(is_ordered OR NOT is_in_time)) AS abandonment_rate
FROM carts
GROUP BY day
ORDER BY day
