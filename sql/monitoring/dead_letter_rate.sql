-- What share of the events becomes dead letters?
-- By the UTC day of processing; an event counts once. Rows processed within @days may be dated up to seven days
-- earlier, as Pub/Sub keeps messages no longer than that.
-- @days INT64 = 7 (1 to 1825): how many days back, today included
-- Chart: series of dead_letter_rate by day
-- Cost: partitions
WITH outcomes AS (
  {% for event_type in event_types %}
  SELECT
    DATE(processed_timestamp) AS day,
    ingest.event_id AS event_id,
    FALSE AS is_dead
  FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days + 7 DAY)
    AND DATE(processed_timestamp) > DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
  UNION ALL
  SELECT
    DATE(failed_at) AS day,
    event_id,
    TRUE AS is_dead
  FROM `{{ project }}.{{ dataset }}.dead_letters`
  WHERE DATE(failed_at) > DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
)
SELECT
  day,
  COUNT(DISTINCT event_id) AS events,
  COUNT(DISTINCT IF(is_dead, event_id, NULL)) AS dead_letters,
  COUNT(DISTINCT IF(is_dead, event_id, NULL)) / COUNT(DISTINCT event_id) AS dead_letter_rate
FROM outcomes
GROUP BY day
ORDER BY day DESC
