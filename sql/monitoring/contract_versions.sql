-- Which version of a contract rejects how many events, and is the code the cause?
-- Counts accepted and rejected events by event type, version of the contract and version of the code. An event that
-- requests an unknown version counts under that version.
-- @hours INT64 = 24 (1 to 8760): how many hours back
-- @days INT64 = 7 (0 to 1825): how many days back the events may be dated; see ingestion_freshness
-- Cost: partitions
WITH outcomes AS (
  {% for event_type in event_types %}
  SELECT
    '{{ event_type.name }}' AS event_type,
    CAST(ingest.schema_version AS STRING) AS schema_version,
    ingest.code_version AS code_version,
    processed_timestamp AS happened_at,
    ingest.event_id AS event_id,
    FALSE AS is_rejected
  FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
    AND processed_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
  UNION ALL
  SELECT
    event_type,
    schema_version,
    code_version,
    failed_at,
    event_id,
    TRUE
  FROM `{{ project }}.{{ dataset }}.dead_letters`
  WHERE failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
    AND stage = 'contract'
)
SELECT
  event_type,
  schema_version,
  code_version,
  COUNT(DISTINCT event_id) AS events,
  COUNT(DISTINCT IF(is_rejected, event_id, NULL)) AS rejected,
  COUNT(DISTINCT IF(is_rejected, event_id, NULL)) / COUNT(DISTINCT event_id) AS rejected_rate,
  MIN(IF(is_rejected, happened_at, NULL)) AS first_rejected_at
FROM outcomes
GROUP BY event_type, schema_version, code_version
ORDER BY event_type, schema_version, code_version
