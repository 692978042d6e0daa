CREATE TABLE IF NOT EXISTS `{{ project }}.{{ dataset }}.$table` (
  event_type STRING NOT NULL OPTIONS (description = "Always `$name`"),
  ${name}_id STRING NOT NULL OPTIONS (description = "What the event is about"),
  amount NUMERIC OPTIONS (description = "An example; exact to nine decimals"),
  note STRING OPTIONS (description = "An example"),
  timestamp TIMESTAMP NOT NULL OPTIONS (description = "The event's own time"),
  processed_timestamp TIMESTAMP OPTIONS (description = "When Sluice processed the event"),
  event_date DATE OPTIONS (description = "UTC date of timestamp; the partition"),
  extras JSON OPTIONS (description = "Fields that the contract does not know, by their path"),
  ingest STRUCT<
    event_id STRING OPTIONS (description = "Identity of the event"),
    message_id STRING OPTIONS (description = "Pub/Sub's id of the message"),
    publish_time TIMESTAMP OPTIONS (description = "When Pub/Sub accepted the message"),
    schema_version INT64 OPTIONS (description = "Version of the contract that the event passed"),
    archive_uri STRING OPTIONS (description = "Object with the event's raw bytes"),
    code_version STRING OPTIONS (description = "Code that made the row"),
    content_digest STRING OPTIONS (description = "Digest of event_id and the producer's fields")
  > OPTIONS (description = "Lineage: from the row to its raw bytes")
)
PARTITION BY event_date
CLUSTER BY ${name}_id
OPTIONS (
  description = "Events of type $name",
  partition_expiration_days = {{ retention_days }},
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("table_type", "$table")]
);
