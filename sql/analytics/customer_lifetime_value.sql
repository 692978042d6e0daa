-- Which customers are worth most to us?
-- An order counts once, with its latest amount, if it was placed in the last @days days or today. The query also reads
-- the 30 days before, so that an older order does not count because of a later status.
-- @days INT64 = 90 (0 to 3650): how many days back
-- Chart: bars of lifetime_value by customer_id
-- Cost: partitions
WITH orders AS (
  SELECT
    order_id,
    customer_id,
    total_amount,
    MIN(order_date) OVER (PARTITION BY order_id) AS ordered_at
  FROM `{{ project }}.{{ dataset }}.orders_all`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days + 30 DAY)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY order_id
    ORDER BY order_date DESC, STRPOS('pending processing shipped delivered', status) DESC, ingest.event_id DESC
  ) = 1
)
SELECT
  customer_id,
  COUNT(*) AS order_count,
  SUM(total_amount) AS lifetime_value,
  ROUND(AVG(total_amount), 2) AS avg_order_value,
  MAX(ordered_at) AS last_ordered_at
FROM orders
WHERE DATE(ordered_at) >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
GROUP BY customer_id
ORDER BY lifetime_value DESC, customer_id
