CREATE TABLE IF NOT EXISTS `{{ project }}.{{ dataset }}.orders` (
  event_type STRING NOT NULL OPTIONS (description = "Always `order`"),
  order_id STRING NOT NULL OPTIONS (description = "The order; its events share it"),
  customer_id STRING NOT NULL OPTIONS (description = "The customer who ordered"),
  order_date TIMESTAMP NOT NULL OPTIONS (description = "The event's own time"),
  status STRING NOT NULL OPTIONS (description = "pending, processing, shipped or delivered"),
  items ARRAY<STRUCT<
    product_id STRING NOT NULL OPTIONS (description = "The product"),
    product_name STRING NOT NULL OPTIONS (description = "Its name at that time"),
    quantity INT64 NOT NULL OPTIONS (description = "Units"),
    price NUMERIC NOT NULL OPTIONS (description = "Price of one unit")
  >> OPTIONS (description = "The order's lines, at least one"),
  shipping_address STRUCT<
    street STRING NOT NULL OPTIONS (description = "Street and number"),
    city STRING NOT NULL OPTIONS (description = "City"),
    country STRING NOT NULL OPTIONS (description = "Country")
  > NOT NULL OPTIONS (description = "Where the order goes"),
  total_amount NUMERIC NOT NULL OPTIONS (description = "What the customer pays"),
  item_count INT64 OPTIONS (description = "Units of all lines"),
  items_total NUMERIC OPTIONS (description = "Sum of quantity x price, to compare with total_amount"),
  processed_timestamp TIMESTAMP OPTIONS (description = "When Sluice processed the event"),
  event_date DATE OPTIONS (description = "UTC date of order_date; the partition"),
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
CLUSTER BY customer_id, status
OPTIONS (
  description = "Order events table with daily partitioning and customer clustering",
  partition_expiration_days = {{ retention_days }},
  labels = [
    ("environment", "{{ environment }}"),
    ("managed_by", "cloud_function"),
    ("table_type", "orders"),
    ("assessment", "data_engineering")
  ]
);
