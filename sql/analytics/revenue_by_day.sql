-- How much do we sell each day?
-- An order counts once, on the UTC day of its first event, with its latest amounts. A day without orders has a row too.
-- The query also reads the 30 days before, so that an older order does not count because of a later status.
-- @days INT64 = 30 (0 to 3650): how many days back
-- Chart: series of revenue by day
-- Cost: partitions
WITH orders AS (
  SELECT
    customer_id,
    total_amount,
    item_count,
    MIN(event_date) OVER (PARTITION BY order_id) AS ordered_on
  FROM `{{ project }}.{{ dataset }}.orders_all`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days + 30 DAY)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY order_id
    ORDER BY order_date DESC, STRPOS('pending processing shipped delivered', status) DESC, ingest.event_id DESC
  ) = 1
)
SELECT
  day,
  COUNT(ordered_on) AS orders,
  COUNT(DISTINCT customer_id) AS customers,
  COALESCE(SUM(item_count), 0) AS units,
  COALESCE(SUM(total_amount), 0) AS revenue,
  ROUND(AVG(total_amount), 2) AS avg_order_value
FROM UNNEST(GENERATE_DATE_ARRAY(DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY), CURRENT_DATE())) AS day
LEFT JOIN orders ON ordered_on = day
GROUP BY day
ORDER BY day
