CREATE OR REPLACE VIEW `{{ project }}.{{ dataset }}.{{ table }}_all`
OPTIONS (
  description = "Each event of {{ table }} once, from the live and the historical dataset",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("definition", "{{ definition }}")]
)
AS
SELECT *
FROM (
  SELECT * FROM `{{ project }}.{{ dataset }}.{{ table }}`
  UNION ALL BY NAME
  SELECT * FROM `{{ project }}.{{ historical_dataset }}.{{ table }}`
)
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY event_date, ingest.event_id
  ORDER BY {{ latest_first }}
) = 1
