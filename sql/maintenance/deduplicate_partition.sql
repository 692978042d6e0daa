-- Delete the duplicates of a day; the row that the deduplicated view shows stays.
-- Rewrites the whole partition in one step, so that readers see either the old or the new rows. BigQuery rejects the
-- statement while a row of the day is younger than 30 minutes, as rows that insertAll wrote cannot be changed earlier
-- (https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations).
-- {{ table }} NAME = orders: an event table
-- @day DATE = yesterday: day of the events
-- Cost: partitions
MERGE `{{ project }}.{{ dataset }}.{{ table }}` AS target
USING (
  SELECT *
  FROM `{{ project }}.{{ dataset }}.{{ table }}`
  WHERE event_date = @day
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY event_date, ingest.event_id
    ORDER BY {{ latest_first }}
  ) = 1
) AS source
ON FALSE
WHEN NOT MATCHED BY SOURCE AND target.event_date = @day THEN
  DELETE
WHEN NOT MATCHED BY TARGET THEN
  INSERT ROW
