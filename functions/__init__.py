"""The deployed code: the way of an event from Pub/Sub to BigQuery and Cloud Storage."""
