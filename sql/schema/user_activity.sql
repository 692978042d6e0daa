CREATE TABLE IF NOT EXISTS `{{ project }}.{{ dataset }}.user_activity` (
  event_type STRING NOT NULL OPTIONS (description = "Always `user_activity`"),
  user_id STRING NOT NULL OPTIONS (description = "The user; the same id as customer_id of an order"),
  activity_type STRING NOT NULL OPTIONS (
    description = "login, logout, view_product, add_to_cart or remove_from_cart"
  ),
  ip_address STRING NOT NULL OPTIONS (description = "Address, as IP_POLICY shows it"),
  user_agent STRING NOT NULL OPTIONS (description = "The User-Agent header of the client"),
  timestamp TIMESTAMP NOT NULL OPTIONS (description = "The event's own time"),
  metadata STRUCT<
    session_id STRING NOT NULL OPTIONS (description = "The visit"),
    platform STRING NOT NULL OPTIONS (description = "web, mobile or tablet")
  > NOT NULL OPTIONS (description = "Session tracking"),
  browser STRING OPTIONS (description = "Family of the browser, from user_agent"),
  os STRING OPTIONS (description = "Family of the operating system, from user_agent"),
  device STRING OPTIONS (description = "Family of the device, from user_agent"),
  is_bot BOOL OPTIONS (description = "Whether user_agent is a bot's: a crawler, an HTTP client or a headless browser"),
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
CLUSTER BY user_id, activity_type
OPTIONS (
  description = "User activity events with session and platform tracking",
  partition_expiration_days = {{ retention_days }},
  labels = [
    ("environment", "{{ environment }}"),
    ("managed_by", "cloud_function"),
    ("table_type", "user_activity"),
    ("assessment", "data_engineering")
  ]
);
