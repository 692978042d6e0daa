-- How long does it take from order to delivery?
-- Hours from the first pending event of an order to its first delivered event, by country, for orders delivered in the
-- last @days days or today. An order that lacks one of the two events, or was delivered before it was pending, is left
-- out. The query also reads the 30 days before, for the beginning of these orders.
-- @days INT64 = 30 (0 to 3650): how many days back
-- Chart: bars of median_hours by country
-- Cost: partitions
WITH orders AS (
  SELECT
    MIN(IF(status = 'pending', order_date, NULL)) AS pending_at,
    MIN(IF(status = 'delivered', order_date, NULL)) AS delivered_at,
    MIN(IF(status = 'delivered', shipping_address.country, NULL)) AS country
  FROM `{{ project }}.{{ dataset }}.orders_all`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days + 30 DAY)
  GROUP BY order_id
),
deliveries AS (
  SELECT
    country,
    TIMESTAMP_DIFF(delivered_at, pending_at, MICROSECOND) / 3.6e9 AS hours
  FROM orders
  WHERE DATE(delivered_at) >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
    AND delivered_at >= pending_at
),
percentiles AS (
  SELECT
    country,
    PERCENTILE_CONT(hours, 0.5) OVER (PARTITION BY country) AS median_hours,
    PERCENTILE_CONT(hours, 0.9) OVER (PARTITION BY country) AS p90_hours
  FROM deliveries
)
SELECT
  country,
  COUNT(*) AS deliveries,
  MIN(median_hours) AS median_hours,
  MIN(p90_hours) AS p90_hours
FROM percentiles
GROUP BY country
ORDER BY median_hours DESC, country
