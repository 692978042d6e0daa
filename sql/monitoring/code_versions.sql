-- Which versions of the code processed events, and did a deployment increase dead letters or lag?
-- To compare two versions that share the traffic, choose @hours so that both ran all the time. Lag is the time from the
-- publication of an event to its row or dead letter; p50 and p95 are approximate. Requests that were answered with 5xx
-- are not included: see the logs of the revision, which has the name of the version.
-- @hours INT64 = 24 (1 to 8760): how many hours back
-- @days INT64 = 7 (0 to 1825): how many days back the events may be dated; see ingestion_freshness
-- Cost: partitions
WITH outcomes AS (
  {% for event_type in event_types %}
  SELECT
    ingest.code_version AS code_version,
    processed_timestamp AS happened_at,
    ingest.publish_time AS publish_time,
    ingest.event_id AS event_id,
    FALSE AS is_dead
  FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}`
  WHERE event_date >= DATE_SUB(CURRENT_DATE(), INTERVAL @days DAY)
    AND processed_timestamp >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
  {% if not loop.last %}
  UNION ALL
  {% endif %}
  {% endfor %}
  UNION ALL
  SELECT
    code_version,
    failed_at,
    publish_time,
    event_id,
    TRUE
  FROM `{{ project }}.{{ dataset }}.dead_letters`
  WHERE failed_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL @hours HOUR)
)
SELECT
  code_version,
  MIN(happened_at) AS first_at,
  MAX(happened_at) AS last_at,
  COUNT(DISTINCT event_id) AS events,
  COUNT(DISTINCT IF(is_dead, event_id, NULL)) AS dead_letters,
  COUNT(DISTINCT IF(is_dead, event_id, NULL)) / COUNT(DISTINCT event_id) AS dead_letter_rate,
  APPROX_QUANTILES(TIMESTAMP_DIFF(happened_at, publish_time, MILLISECOND) / 1000, 100)[SAFE_OFFSET(50)] AS p50_lag_seconds,
  APPROX_QUANTILES(TIMESTAMP_DIFF(happened_at, publish_time, MILLISECOND) / 1000, 100)[SAFE_OFFSET(95)] AS p95_lag_seconds
FROM outcomes
GROUP BY code_version
ORDER BY last_at DESC, code_version
