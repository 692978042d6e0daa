-- Which customers are worth most to us?
-- An order has an event for each of its states, and an event may be there twice: only the latest state counts.
WITH latest AS (
  SELECT
    order_id,
    customer_id,
    total_amount
  FROM `${project}.${dataset}.orders`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL 90 DAY)
  QUALIFY ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY order_date DESC, processed_timestamp DESC) = 1
)
SELECT
  customer_id,
  COUNT(*) AS order_count,
  SUM(total_amount) AS lifetime_value,
  ROUND(AVG(total_amount), 2) AS avg_order_value
FROM latest
GROUP BY customer_id
ORDER BY lifetime_value DESC, customer_id
