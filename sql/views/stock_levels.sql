CREATE OR REPLACE VIEW `{{ project }}.{{ dataset }}.stock_levels` (
  product_id OPTIONS (description = "The product"),
  warehouse_id OPTIONS (description = "The warehouse"),
  current_stock OPTIONS (description = "Units: the sum of all changes, live and historical"),
  changes OPTIONS (description = "Number of these changes"),
  last_changed_at OPTIONS (description = "Time of the last change")
)
OPTIONS (
  description = "Running stock of each product in each warehouse, over all changes ever, each counted once",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("definition", "{{ definition }}")]
)
AS
SELECT
  product_id,
  warehouse_id,
  SUM(quantity_change) AS current_stock,
  COUNT(*) AS changes,
  MAX(timestamp) AS last_changed_at
FROM `{{ project }}.{{ dataset }}.inventory_all`
GROUP BY product_id, warehouse_id
