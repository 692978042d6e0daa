-- Which products are about to run out, and where?
-- Stock is the sum of all changes, each counted once.
WITH changes AS (
  SELECT
    product_id,
    warehouse_id,
    quantity_change
  FROM `${project}.${dataset}.inventory`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY ingest.event_id ORDER BY processed_timestamp) = 1
)
SELECT
  product_id,
  warehouse_id,
  SUM(quantity_change) AS current_stock
FROM changes
GROUP BY product_id, warehouse_id
HAVING current_stock < 10
ORDER BY current_stock, product_id, warehouse_id
