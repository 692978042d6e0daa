CREATE TABLE IF NOT EXISTS `{{ project }}.{{ dataset }}.replays` (
  replay_id STRING NOT NULL OPTIONS (description = "The run of the command"),
  event_id STRING NOT NULL OPTIONS (description = "Identity of the event"),
  message_id STRING NOT NULL OPTIONS (description = "Id of the message that was replayed"),
  source STRING NOT NULL OPTIONS (description = "dead_letter, archive or undeliverable"),
  fingerprint STRING OPTIONS (description = "Fingerprint of the dead letter that was replayed"),
  replayed_at TIMESTAMP NOT NULL OPTIONS (description = "When the run began; its day is the partition"),
  replayed_by STRING NOT NULL OPTIONS (description = "User or service account that ran it, as BigQuery knows them"),
  outcome STRING NOT NULL OPTIONS (description = "row or dead_letter"),
  new_fingerprint STRING OPTIONS (description = "Fingerprint of the new dead letter; the same as before if nothing changed"),
  transform STRING OPTIONS (description = "Name and digest of the file that changed the payload"),
  table_name STRING NOT NULL OPTIONS (description = "Table that has the event now: DATASET.TABLE"),
  archive_uri STRING OPTIONS (description = "Object with the replayed bytes; NULL if the event was there before"),
  code_version STRING NOT NULL OPTIONS (description = "Code that replayed it")
)
PARTITION BY DATE(replayed_at)
CLUSTER BY event_id
OPTIONS (
  description = "Replayed events: when, by whom, and with which result; one row for each event and run",
  partition_expiration_days = {{ retention_days }},
  labels = [
    ("environment", "{{ environment }}"),
    ("managed_by", "cloud_function"),
    ("table_type", "replays"),
    ("assessment", "data_engineering")
  ]
);
