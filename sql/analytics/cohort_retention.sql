-- Do customers come back?
-- A cohort is the customers whose first order is of the same month. Retention is the share of them that placed an order
-- the given number of months later. Months are in UTC. An order is placed with its first event. The current month is
-- incomplete.
-- @months INT64 = 12 (0 to 120): how many months of cohorts before the current one
-- Chart: matrix of retention by cohort, months_later
-- Cost: history
WITH orders AS (
  SELECT
    customer_id,
    DATE_TRUNC(MIN(event_date), MONTH) AS month
  FROM `{{ project }}.{{ dataset }}.orders_all`
  GROUP BY customer_id, order_id
),
active AS (
  SELECT
    customer_id,
    month,
    MIN(month) OVER (PARTITION BY customer_id) AS first_month
  FROM orders
  GROUP BY customer_id, month
),
cohorts AS (
  SELECT
    first_month AS cohort,
    COUNT(DISTINCT customer_id) AS customers
  FROM active
  WHERE first_month >= DATE_SUB(DATE_TRUNC(CURRENT_DATE(), MONTH), INTERVAL @months MONTH)
  GROUP BY cohort
)
SELECT
  cohort,
  months_later,
  customers,
  COUNT(customer_id) AS active_customers,
  SAFE_DIVIDE(COUNT(customer_id), customers) AS retention
FROM cohorts
CROSS JOIN UNNEST(GENERATE_ARRAY(0, DATE_DIFF(CURRENT_DATE(), cohort, MONTH))) AS months_later
LEFT JOIN active
  ON first_month = cohort
  AND month = DATE_ADD(cohort, INTERVAL months_later MONTH)
GROUP BY cohort, months_later, customers
ORDER BY cohort, months_later
