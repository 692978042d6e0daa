-- Which products are about to run out, and where?
-- Stock is the sum of all changes ever, each counted once.
-- @threshold INT64 = 10: number of units below which stock is low
-- Chart: bars of current_stock by product_id, warehouse_id
-- Cost: history
SELECT
  product_id,
  warehouse_id,
  current_stock,
  last_changed_at
FROM `{{ project }}.{{ dataset }}.stock_levels`
WHERE current_stock < @threshold
ORDER BY current_stock, product_id, warehouse_id
