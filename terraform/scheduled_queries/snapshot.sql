-- Take a snapshot of a table, which is read-only and expires after some days.
-- Rendered from sql/maintenance/snapshot.sql.
EXECUTE IMMEDIATE REPLACE(r'''
CREATE SNAPSHOT TABLE `${project}.${historical_dataset}.${table}_{now}`
CLONE `${project}.${dataset}.${table}`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL ${days} DAY))
''', '{now}', FORMAT_TIMESTAMP('%Y%m%dT%H%M%S', CURRENT_TIMESTAMP()))
