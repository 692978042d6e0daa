-- What has become of an event?
-- Every row and dead letter with this event id or Pub/Sub message id, and the object with its raw bytes. Nothing found:
-- it has not come, or its partition has expired; the archive has it longer.
-- @id STRING: an event id or a Pub/Sub message id
-- Cost: table
WITH found AS (
  -- Each table:
  SELECT
    '${table}' AS table_name,
    ingest.event_id AS event_id,
    ingest.message_id AS message_id,
    ingest.publish_time AS publish_time,
    processed_timestamp AS processed_at,
    CAST(NULL AS STRING) AS stage,
    CAST(NULL AS STRING) AS error,
    ingest.archive_uri AS archive_uri
  FROM `${project}.${dataset}.${table}`
  WHERE @id IN (ingest.event_id, ingest.message_id)
  -- End.
  UNION ALL
  SELECT
    'dead_letters',
    event_id,
    message_id,
    publish_time,
    failed_at,
    stage,
    errors[SAFE_OFFSET(0)].message,
    archive_uri
  FROM `${project}.${dataset}.dead_letters`
  WHERE @id IN (event_id, message_id)
)
SELECT *
FROM found
ORDER BY processed_at, table_name
