-- How many rows are duplicates, day by day?
-- A duplicate is a row whose event id is already in its table: Pub/Sub delivers at least once, and BigQuery drops a
-- repeated insertId only for about a minute. The views show each event once, so duplicates with the same content are
-- harmless; deduplicate_partition removes them. Duplicates with different contents are not harmless: see
-- conflicting_event_ids.
-- @days INT64 = 7 (1 to 1825): how many days back, today included
-- Chart: series of duplicates by event_date, table_name
-- Cost: partitions
WITH days AS (
  {% for event_type in event_types %}
  SELECT
    '{{ event_type.table }}' AS table_name,
    event_date,
    COUNT(*) AS row_count,
    COUNT(DISTINCT ingest.event_id) AS events
  FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
  WHERE event_date > DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
  GROUP BY event_date
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
)
SELECT
  table_name,
  event_date,
  row_count,
  row_count - events AS duplicates,
  (row_count - events) / row_count AS duplicate_rate
FROM days
ORDER BY event_date DESC, table_name
