-- Which products are bought together?
-- support is the share of all orders that have both products. confidence is the share of the orders with the first
-- product that also have the second. lift compares that with the share to expect if the two products were unrelated.
-- An order counts once, with its latest lines. The query also reads the 30 days before, so that an older order does not
-- count because of a later status.
-- @days INT64 = 90 (0 to 3650): how many days back
-- @min_orders INT64 = 5 (1 to 1000000): minimum number of orders with a pair
-- Chart: bars of lift by product_a, product_b
-- Cost: partitions
WITH latest AS (
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
),
orders AS (
  SELECT
    order_id,
    items
  FROM latest
  WHERE ordered_on >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
),
baskets AS (
  SELECT DISTINCT
    order_id,
    item.product_id AS product_id
  FROM orders
  CROSS JOIN UNNEST(items) AS item
),
products AS (
  SELECT
    product_id,
    COUNT(*) AS orders
  FROM baskets
  GROUP BY product_id
),
pairs AS (
  SELECT
    one.product_id AS product_a,
    other.product_id AS product_b,
    COUNT(*) AS orders
  FROM baskets AS one
  JOIN baskets AS other ON other.order_id = one.order_id AND other.product_id > one.product_id
  GROUP BY product_a, product_b
  HAVING orders >= @min_orders
),
total AS (
  SELECT COUNT(*) AS orders
  FROM orders
)
SELECT
  product_a,
  product_b,
  pairs.orders,
  SAFE_DIVIDE(pairs.orders, total.orders) AS support,
  SAFE_DIVIDE(pairs.orders, a.orders) AS confidence_a_to_b,
  SAFE_DIVIDE(pairs.orders, b.orders) AS confidence_b_to_a,
  SAFE_DIVIDE(pairs.orders * total.orders, a.orders * b.orders) AS lift
FROM pairs
JOIN products AS a ON a.product_id = product_a
JOIN products AS b ON b.product_id = product_b
CROSS JOIN total
ORDER BY lift DESC, orders DESC, product_a, product_b
