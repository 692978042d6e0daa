-- Read a day of a table as it was at a time within the last seven days.
-- Source: https://cloud.google.com/bigquery/docs/access-historical-data
-- {{ table }} NAME = orders: an event table
-- @at TIMESTAMP (7d to now): a time, or how long ago, such as 90m or 24h
-- @day DATE = today: day of the events
-- Cost: partitions
SELECT *
FROM `{{ project }}.{{ dataset }}.{{ table }}` FOR SYSTEM_TIME AS OF @at
WHERE event_date = @day
