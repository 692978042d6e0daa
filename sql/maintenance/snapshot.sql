-- Keep a table as it is now, read-only, for some days.
-- A snapshot costs what its table changes afterwards. What was streamed in during the last 90 minutes may not be in it
-- yet; the archive has it. It lies in the historical dataset, where nothing expires by default: in the live one it
-- would get the default partition expiration, and lose its days one by one.
-- Source: https://cloud.google.com/bigquery/docs/table-snapshots-intro
-- {{ table }} NAME: table of the live dataset
-- {{ snapshot }} NAME: name of the snapshot
-- @days INT64 = 30 (1 to 3650): how long to keep it
-- Cost: metadata
CREATE SNAPSHOT TABLE `{{ project }}.{{ historical_dataset }}.{{ snapshot }}`
CLONE `{{ project }}.{{ dataset }}.{{ table }}`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL @days DAY))
