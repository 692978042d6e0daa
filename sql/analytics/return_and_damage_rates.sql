-- Which products come back or break?
-- Units of each product over all warehouses. Both rates are per unit sold in the same days, and NULL if none was sold.
-- A returned unit may have been sold earlier.
-- @days INT64 = 90 (0 to 3650): how many days back
-- Chart: bars of return_rate by product_id
-- Cost: partitions
SELECT
  product_id,
  SUM(IF(reason = 'sale', -quantity_change, 0)) AS units_sold,
  SUM(IF(reason = 'return', quantity_change, 0)) AS units_returned,
  SUM(IF(reason = 'damage', -quantity_change, 0)) AS units_damaged,
  SAFE_DIVIDE(SUM(IF(reason = 'return', quantity_change, 0)), SUM(IF(reason = 'sale', -quantity_change, 0)))
    AS return_rate,
  SAFE_DIVIDE(SUM(IF(reason = 'damage', -quantity_change, 0)), SUM(IF(reason = 'sale', -quantity_change, 0)))
    AS damage_rate
FROM `{{ project }}.{{ dataset }}.inventory_all`
WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
GROUP BY product_id
ORDER BY return_rate DESC, damage_rate DESC, product_id
