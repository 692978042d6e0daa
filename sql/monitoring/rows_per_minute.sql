-- How many rows arrive each minute, and were there gaps?
-- By the time of processing. Minutes without a row are in the result, with 0; the current minute is not. For @days, see
-- ingestion_freshness.
-- @minutes INT64 = 60 (1 to 10080): how many minutes back
-- @days INT64 = 7 (0 to 1825): how many days back the events may be dated
-- Chart: series of row_count by minute, table_name
-- Cost: partitions
WITH arrivals AS (
  {% for event_type in event_types %}
  SELECT
    '{{ event_type.table }}' AS table_name,
    TIMESTAMP_TRUNC(processed_timestamp, MINUTE) AS minute
  FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
    AND processed_timestamp >= TIMESTAMP_TRUNC(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @minutes MINUTE), MINUTE)
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
),
tables AS (
  {% for event_type in event_types %}
  SELECT '{{ event_type.table }}' AS table_name
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
),
minutes AS (
  SELECT
    minute,
    table_name
  FROM
    UNNEST(GENERATE_TIMESTAMP_ARRAY(
      TIMESTAMP_TRUNC(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @minutes MINUTE), MINUTE),
      TIMESTAMP_TRUNC(TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 MINUTE), MINUTE),
      INTERVAL 1 MINUTE
    )) AS minute
  CROSS JOIN tables
)
SELECT
  minutes.minute,
  minutes.table_name,
  COUNT(arrivals.minute) AS row_count
FROM minutes
LEFT JOIN arrivals
  ON arrivals.minute = minutes.minute
  AND arrivals.table_name = minutes.table_name
GROUP BY minutes.minute, minutes.table_name
ORDER BY minutes.minute DESC, minutes.table_name
