CREATE TABLE IF NOT EXISTS `{{ project }}.{{ dataset }}.dead_letters` (
  event_id STRING NOT NULL OPTIONS (description = "Identity of the event"),
  message_id STRING NOT NULL OPTIONS (description = "Pub/Sub's id of the message"),
  publish_time TIMESTAMP NOT NULL OPTIONS (description = "When Pub/Sub accepted the message"),
  failed_at TIMESTAMP NOT NULL OPTIONS (description = "When Sluice rejected the event; its day is the partition"),
  event_type STRING OPTIONS (description = "Event type that the payload states, known or not"),
  schema_version STRING OPTIONS (description = "Version of the contract that it was checked against or requested"),
  stage STRING NOT NULL OPTIONS (description = "decode, contract, enrich, time_bounds or warehouse"),
  errors ARRAY<STRUCT<
    path STRING NOT NULL OPTIONS (description = "JSON path of the place, or attributes.NAME"),
    rule STRING NOT NULL OPTIONS (description = "The broken rule, in JSON Schema's words where it has one"),
    message STRING NOT NULL OPTIONS (description = "Description for people")
  >> OPTIONS (description = "Reasons of the rejection; the first 20"),
  fingerprint STRING NOT NULL OPTIONS (description = "The same for the same cause"),
  place STRING OPTIONS (
    description = "Path of the first error with [*] for indexes and for names that no contract has; NULL of older code"
  ),
  content_digest STRING OPTIONS (description = "Digest of event_id and the original bytes; NULL of older code"),
  payload BYTES OPTIONS (
    description = "The original bytes; NULL for more than 2 MiB, which only the archive object has"
  ),
  payload_bytes INT64 NOT NULL OPTIONS (description = "Length of the original bytes"),
  attributes JSON OPTIONS (description = "The message's attributes"),
  delivery_attempt INT64 OPTIONS (description = "Number of the delivery"),
  archive_uri STRING NOT NULL OPTIONS (description = "Object with the message"),
  code_version STRING NOT NULL OPTIONS (description = "Code that rejected the event")
)
PARTITION BY DATE(failed_at)
CLUSTER BY stage, fingerprint
OPTIONS (
  description = "Events that could not become rows, with the reasons and their original bytes",
  partition_expiration_days = {{ retention_days }},
  labels = [
    ("environment", "{{ environment }}"),
    ("managed_by", "cloud_function"),
    ("table_type", "dead_letters"),
    ("assessment", "data_engineering")
  ]
);
