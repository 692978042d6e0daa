-- What do we sell each day?
-- An order counts once, on the UTC day of its first event, with its latest lines. Revenue is quantity times price of
-- the lines; shipping costs or discounts in the total of an order belong to no product.
-- The query also reads the 30 days before, so that an older order does not count because of a later status.
-- @days INT64 = 30 (0 to 3650): how many days back
-- Chart: bars of revenue by product_id
-- Cost: partitions
WITH orders AS (
  SELECT
    order_id,
    items,
    MIN(event_date) OVER (PARTITION BY order_id) AS ordered_on
  FROM `{{ project }}.{{ dataset }}.orders_all`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days + 30 DAY)
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY order_id
    ORDER BY order_date DESC, STRPOS('pending processing shipped delivered', status) DESC, ingest.event_id DESC
  ) = 1
)
SELECT
  ordered_on AS day,
  item.product_id AS product_id,
  MAX(item.product_name) AS product_name,
  COUNT(DISTINCT order_id) AS orders,
  SUM(item.quantity) AS units,
  SUM(item.quantity * item.price) AS revenue
FROM orders
CROSS JOIN UNNEST(items) AS item
WHERE ordered_on >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
GROUP BY day, product_id
ORDER BY day, revenue DESC, product_id
