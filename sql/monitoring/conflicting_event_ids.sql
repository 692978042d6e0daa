-- Which event ids have several contents?
-- Rows of one event id whose producer fields differ are no redeliveries: the producer uses the id for several events,
-- and the deduplicated views show only one of them a day. Rows of older code are left out, as they have no digest.
-- @days are days of the events, so late events need more of them.
-- @days INT64 = 7 (1 to 1825): how many days back, today included
-- Cost: partitions
SELECT *
FROM (
  {% for event_type in event_types %}
  SELECT
    '{{ event_type.table }}' AS table_name,
    ingest.event_id AS event_id,
    COUNT(DISTINCT ingest.content_digest) AS contents,
    COUNT(*) AS row_count,
    MIN(processed_timestamp) AS first_processed_at,
    MAX(processed_timestamp) AS last_processed_at
  FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
  WHERE event_date > DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
  GROUP BY event_id, ingest.schema_version
  HAVING COUNT(DISTINCT ingest.content_digest) > 1
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
)
ORDER BY contents DESC, table_name, event_id
