-- Take a snapshot of a table, which is read-only and expires after some days.
-- A snapshot costs storage for what changes in its table afterwards. Rows that were streamed in during the last 90
-- minutes may be missing; the archive has them. The snapshot is in the historical dataset, where nothing expires by
-- default. In the live dataset, it would get the default partition expiration and lose its days one by one.
-- Source: https://cloud.google.com/bigquery/docs/table-snapshots-intro
-- {{ table }} NAME: table of the live dataset
-- {{ snapshot }} NAME: name of the snapshot
-- @days INT64 = 30 (1 to 3650): how many days to keep it
-- Cost: metadata
CREATE SNAPSHOT TABLE `{{ project }}.{{ historical_dataset }}.{{ snapshot }}`
CLONE `{{ project }}.{{ dataset }}.{{ table }}`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL @days DAY))
