CREATE OR REPLACE EXTERNAL TABLE `{{ project }}.{{ dataset }}.archive_events` (
  origin STRING,
  event_id STRING,
  event_type STRING,
  message_id STRING,
  publish_time TIMESTAMP,
  attributes JSON,
  ordering_key STRING,
  payload STRING,
  payload_base64 BYTES
)
WITH PARTITION COLUMNS (dt DATE, hr STRING)
OPTIONS (
  description = "The archive as it is stored: every message, good or bad, by the hour of its arrival; an event may be there more than once",
  format = "NEWLINE_DELIMITED_JSON",
  compression = "GZIP",
  uris = ["gs://{{ archive_bucket }}/raw/*"],
  hive_partition_uri_prefix = "gs://{{ archive_bucket }}/raw",
  require_hive_partition_filter = TRUE,
  ignore_unknown_values = TRUE,
  labels = [
    ("environment", "{{ environment }}"),
    ("managed_by", "cloud_function"),
    ("table_type", "archive"),
    ("assessment", "data_engineering"),
    ("definition", "{{ definition }}")
  ]
);
