-- Delete the duplicates of a day: of each event, the row that the deduplicated view shows stays.
-- Writes the whole partition again, in one step: readers see it as it was or as it is after. BigQuery refuses it while
-- a row of the day is younger than 30 minutes: what insertAll wrote cannot be changed at once
-- (https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations).
-- {{ table }} NAME = orders: an event table
-- @day DATE = yesterday: which day's events
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
