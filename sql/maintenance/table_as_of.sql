-- Read a day of a table as it was at a time of the last seven days.
-- Source: https://cloud.google.com/bigquery/docs/access-historical-data
-- {{ table }} NAME = orders: an event table
-- @at TIMESTAMP (7d to now): as of when: a time, or 90m, 24h ago
-- @day DATE = today: which day's events
-- Cost: partitions
SELECT *
FROM `{{ project }}.{{ dataset }}.{{ table }}` FOR SYSTEM_TIME AS OF @at
WHERE event_date = @day
