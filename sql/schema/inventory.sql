CREATE TABLE IF NOT EXISTS `{{ project }}.{{ dataset }}.inventory` (
  event_type STRING NOT NULL OPTIONS (description = "Always `inventory`"),
  inventory_id STRING NOT NULL OPTIONS (description = "The change"),
  product_id STRING NOT NULL OPTIONS (description = "The product whose stock changed"),
  warehouse_id STRING NOT NULL OPTIONS (description = "The warehouse"),
  quantity_change INT64 NOT NULL OPTIONS (description = "Units, -100 to 100; negative when stock shrinks"),
  reason STRING NOT NULL OPTIONS (description = "restock, sale, return or damage"),
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
CLUSTER BY product_id, warehouse_id
OPTIONS (
  description = "Inventory changes table with product and warehouse clustering",
  partition_expiration_days = {{ retention_days }},
  labels = [
    ("environment", "{{ environment }}"),
    ("managed_by", "cloud_function"),
    ("table_type", "inventory"),
    ("assessment", "data_engineering")
  ]
);
