-- Which days are about to expire, and does the historical dataset have their events?
-- A day expires when it is RETENTION_DAYS days old. If not_in_history is not 0, keep_history copies these events, as
-- they were processed last. Both leave out events of the smoke test.
-- The query reads the days of history that keep_history copies. If a table keeps its days longer than RETENTION_DAYS,
-- run both with a larger @overdue; otherwise a day that should have expired earlier is reported as not_in_history.
-- @days INT64 = 7 (0 to 1825): days that expire within this number of days
-- @overdue INT64 = 7 (0 to 1825): include days that should have expired at most this number of days ago
-- Cost: partitions
WITH days AS (
  {% for event_type in event_types %}
  SELECT
    '{{ event_type.table }}' AS table_name,
    live.event_date,
    COUNT(*) AS events,
    SUM(live.row_count) AS row_count,
    COUNTIF(kept.event_id IS NULL) AS not_in_history
  FROM (
    SELECT
      event_date,
      ingest.event_id AS event_id,
      COUNT(*) AS row_count,
      MAX(processed_timestamp) AS processed_timestamp
    FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
    WHERE event_date <= DATE_SUB(CURRENT_DATE(), INTERVAL {{ retention_days }} - @days DAY)
      AND REGEXP_CONTAINS(ingest.event_id, '^smoke-[0-9a-f]{32}-') IS NOT TRUE
    GROUP BY event_date, event_id
  ) AS live
  LEFT JOIN (
    SELECT
      event_date,
      ingest.event_id AS event_id,
      MAX(processed_timestamp) AS processed_timestamp
    FROM `{{ project }}.{{ historical_dataset }}.{{ event_type.table }}`
    WHERE event_date BETWEEN DATE_SUB(CURRENT_DATE(), INTERVAL {{ retention_days }} + @overdue DAY)
      AND DATE_SUB(CURRENT_DATE(), INTERVAL {{ retention_days }} - @days DAY)
    GROUP BY event_date, event_id
  ) AS kept
    ON kept.event_date = live.event_date
    AND kept.event_id = live.event_id
    AND (kept.processed_timestamp >= live.processed_timestamp OR live.processed_timestamp IS NULL)
  GROUP BY live.event_date
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
)
SELECT
  DATE_ADD(event_date, INTERVAL {{ retention_days }} DAY) AS expires_on,
  table_name,
  event_date,
  row_count,
  events,
  not_in_history
FROM days
ORDER BY expires_on, table_name
