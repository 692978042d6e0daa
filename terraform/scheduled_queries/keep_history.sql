-- Copy the events that expire soon into the historical dataset, each once.
-- Rendered from sql/maintenance/keep_history.sql.
MERGE `${project}.${historical_dataset}.${table}` AS target
USING (
  -- BY NAME puts the columns into the order of the historical table, whatever the order in the live one.
  SELECT *
  FROM `${project}.${historical_dataset}.${table}`
  WHERE FALSE
  UNION ALL BY NAME
  SELECT *
  FROM `${project}.${dataset}.${table}_deduplicated`
  WHERE event_date BETWEEN DATE_SUB(CURRENT_DATE(), INTERVAL ${retention_days} + 7 DAY)
      AND DATE_SUB(CURRENT_DATE(), INTERVAL ${retention_days} - ${days} DAY)
    AND REGEXP_CONTAINS(ingest.event_id, '^smoke-[0-9a-f]{32}-') IS NOT TRUE
) AS source
ON target.event_date = source.event_date
  AND target.ingest.event_id = source.ingest.event_id
  AND target.processed_timestamp IS NOT DISTINCT FROM source.processed_timestamp
  AND target.ingest.message_id IS NOT DISTINCT FROM source.ingest.message_id
  AND target.ingest.archive_uri IS NOT DISTINCT FROM source.ingest.archive_uri
  AND target.event_date BETWEEN DATE_SUB(CURRENT_DATE(), INTERVAL ${retention_days} + 7 DAY)
    AND DATE_SUB(CURRENT_DATE(), INTERVAL ${retention_days} - ${days} DAY)
WHEN NOT MATCHED BY TARGET THEN
  INSERT ROW;
