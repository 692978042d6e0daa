CREATE OR REPLACE VIEW `{{ project }}.{{ dataset }}.{{ table }}_deduplicated`
OPTIONS (
  description = "Each event of {{ table }} once, as it was processed last",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("definition", "{{ definition }}")]
)
AS
SELECT *
FROM `{{ project }}.{{ dataset }}.{{ table }}`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY event_date, ingest.event_id
  ORDER BY {{ latest_first }}
) = 1
