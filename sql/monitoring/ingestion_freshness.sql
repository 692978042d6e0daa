-- Do events still arrive, and how long do they take?
-- Lag is the time from the publication of an event to its row, for rows of the last @hours; p50 and p95 are
-- approximate. A table without new rows is in the result too, with 0 rows. Replayed events keep the time of their first
-- publication, so a replay appears as lag.
-- Events that are processed now may be dated days ago. @days covers the seven days for which Pub/Sub keeps a message,
-- and prunes partitions; increase it while a backfill of older events runs.
-- @hours INT64 = 1 (0 to 8760): how many hours of rows
-- @days INT64 = 7 (0 to 1825): how many days back the events may be dated
-- Cost: partitions
WITH recent AS (
  {% for event_type in event_types %}
  SELECT
    '{{ event_type.table }}' AS table_name,
    MAX(IF(processed, {{ event_type.time_field }}, NULL)) AS newest_event_at,
    MAX(processed_timestamp) AS newest_row_at,
    COUNTIF(processed) AS row_count,
    APPROX_QUANTILES(IF(processed, lag_seconds, NULL), 100) AS lags,
    MAX(IF(processed, lag_seconds, NULL)) AS max_lag_seconds
  FROM (
    SELECT
      {{ event_type.time_field }},
      processed_timestamp,
      processed_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR) AS processed,
      TIMESTAMP_DIFF(processed_timestamp, ingest.publish_time, MILLISECOND) / 1000 AS lag_seconds
    FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
    WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
  )
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
)
SELECT
  table_name,
  row_count,
  newest_event_at,
  newest_row_at,
  TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), newest_row_at, SECOND) AS seconds_since_newest_row,
  lags[SAFE_OFFSET(50)] AS p50_lag_seconds,
  lags[SAFE_OFFSET(95)] AS p95_lag_seconds,
  max_lag_seconds
FROM recent
ORDER BY table_name
