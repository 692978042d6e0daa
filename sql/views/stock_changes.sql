CREATE OR REPLACE MATERIALIZED VIEW `${project}.${dataset}.stock_changes`
PARTITION BY event_date
CLUSTER BY product_id, warehouse_id
OPTIONS (
  description = "Each stock change once, with what stock_levels needs of it; kept up to date by BigQuery",
  labels = [("environment", "${environment}"), ("managed_by", "cloud_function"), ("definition", "${definition}")]
)
AS
SELECT
  event_date,
  product_id,
  warehouse_id,
  ingest.event_id AS event_id,
  MAX(quantity_change) AS quantity_change,
  MAX(timestamp) AS changed_at
FROM `${project}.${dataset}.inventory`
GROUP BY event_date, product_id, warehouse_id, event_id
