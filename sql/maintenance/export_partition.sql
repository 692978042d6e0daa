-- Write a day of a table to Cloud Storage, as Parquet.
-- extras is exported as JSON text, which every reader of Parquet supports. An earlier export of the day is overwritten.
-- Rows of the smoke test are left out.
-- Source: https://cloud.google.com/bigquery/docs/reference/standard-sql/export-statements
-- {{ table }} NAME = orders: an event table
-- {{ partition }} NAME: the day, such as 20261123
-- Cost: partitions
EXPORT DATA OPTIONS (
  uri = 'gs://{{ archive_bucket }}/exports/{{ table }}/{{ partition }}/*.parquet',
  format = 'PARQUET',
  compression = 'SNAPPY',
  overwrite = TRUE
)
AS
SELECT * REPLACE (TO_JSON_STRING(extras) AS extras)
FROM `{{ project }}.{{ dataset }}.{{ table }}`
WHERE event_date = PARSE_DATE('%Y%m%d', '{{ partition }}')
  AND REGEXP_CONTAINS(ingest.event_id, '^smoke-[0-9a-f]{32}-') IS NOT TRUE
