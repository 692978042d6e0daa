CREATE OR REPLACE VIEW `{{ project }}.{{ dataset }}.orders_current`
OPTIONS (
  description = "The latest state of each order within the retention, even if events arrived out of order",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("definition", "{{ definition }}")]
)
AS
SELECT *
FROM `{{ project }}.{{ dataset }}.orders_deduplicated`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY order_id
  ORDER BY
    order_date DESC,
    CASE status WHEN 'delivered' THEN 4 WHEN 'shipped' THEN 3 WHEN 'processing' THEN 2 WHEN 'pending' THEN 1 ELSE 0 END DESC,
    ingest.event_id DESC
) = 1
