-- Do the historical tables and the views have the columns of the live tables?
-- One row for each column that is missing, additional, or of another type; the expected result is empty. A difference
-- in a table of the historical dataset breaks its *_all view; a difference in a view means that it is older than its
-- table. Differences between live tables and their DDL are not checked here: GET of the bootstrap reports them, and
-- POST fixes them.
-- Source: https://cloud.google.com/bigquery/docs/information-schema-column-field-paths
-- Cost: metadata
WITH live AS (
  SELECT
    table_name,
    field_path,
    data_type
  FROM `{{ project }}`.{{ dataset }}.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS
),
historical AS (
  SELECT
    table_name,
    field_path,
    data_type
  FROM `{{ project }}`.{{ historical_dataset }}.INFORMATION_SCHEMA.COLUMN_FIELD_PATHS
),
columns AS (
  SELECT
    table_name,
    column_name,
    data_type
  FROM `{{ project }}`.{{ dataset }}.INFORMATION_SCHEMA.COLUMNS
),
both AS (
  {% for event_type in event_types %}
  SELECT
    '{{ historical_dataset }}.{{ event_type.table }}' AS compared,
    field_path,
    live.data_type AS live_type,
    historical.data_type AS other_type
  FROM (SELECT * FROM live WHERE table_name = '{{ event_type.table }}') AS live
  FULL JOIN (SELECT * FROM historical WHERE table_name = '{{ event_type.table }}') AS historical
    USING (field_path)
  UNION ALL
  SELECT
    CONCAT('{{ dataset }}.', view_name) AS compared,
    column_name,
    live.data_type,
    other.data_type
  FROM (
    SELECT
      view_name,
      column_name,
      data_type
    FROM columns
    CROSS JOIN UNNEST(['{{ event_type.table }}_deduplicated', '{{ event_type.table }}_all']) AS view_name
    WHERE table_name = '{{ event_type.table }}'
  ) AS live
  FULL JOIN (
    SELECT
      table_name AS view_name,
      column_name,
      data_type
    FROM columns
    WHERE table_name IN ('{{ event_type.table }}_deduplicated', '{{ event_type.table }}_all')
  ) AS other
    USING (view_name, column_name)
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
)
SELECT
  compared,
  field_path AS column_name,
  live_type,
  other_type
FROM both
WHERE live_type IS DISTINCT FROM other_type
ORDER BY compared, column_name
