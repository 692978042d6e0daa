-- Copy the events that expire soon into the historical dataset, each once.
-- A row that is already there is not added again, so the query can run repeatedly; run it daily, as a scheduled query.
-- An event that was processed again since then gets a second row, and the views show the last one. Rows of the smoke
-- test are left out, as they have the days that expire next. expiring_partitions reports what is missing.
-- The query reads only those days of history that it copies. So it leaves out a day that should have expired more than
-- @overdue days ago. If a table keeps its days longer than RETENTION_DAYS, because the bootstrap rejected a shorter
-- retention, run it with a larger @overdue first.
-- @days INT64 = 7 (0 to 1825): copy events that expire within this number of days
-- @overdue INT64 = 7 (0 to 1825): copy events that should have expired at most this number of days ago
-- Cost: partitions

{% for event_type in event_types %}
MERGE `{{ project }}.{{ historical_dataset }}.{{ event_type.table }}` AS target
USING (
  -- BY NAME puts the columns into the order of the historical table, whatever the order in the live one.
  SELECT *
  FROM `{{ project }}.{{ historical_dataset }}.{{ event_type.table }}`
  WHERE FALSE
  UNION ALL BY NAME
  SELECT *
  FROM `{{ project }}.{{ dataset }}.{{ event_type.table }}_deduplicated`
  WHERE event_date BETWEEN DATE_SUB(CURRENT_DATE(), INTERVAL {{ retention_days }} + @overdue DAY)
      AND DATE_SUB(CURRENT_DATE(), INTERVAL {{ retention_days }} - @days DAY)
    AND REGEXP_CONTAINS(ingest.event_id, '^smoke-[0-9a-f]{32}-') IS NOT TRUE
) AS source
ON target.event_date = source.event_date
  AND target.ingest.event_id = source.ingest.event_id
  AND target.processed_timestamp IS NOT DISTINCT FROM source.processed_timestamp
  AND target.ingest.message_id IS NOT DISTINCT FROM source.ingest.message_id
  AND target.ingest.archive_uri IS NOT DISTINCT FROM source.ingest.archive_uri
  AND target.event_date BETWEEN DATE_SUB(CURRENT_DATE(), INTERVAL {{ retention_days }} + @overdue DAY)
    AND DATE_SUB(CURRENT_DATE(), INTERVAL {{ retention_days }} - @days DAY)
WHEN NOT MATCHED BY TARGET THEN
  INSERT ROW;
{% endfor %}
