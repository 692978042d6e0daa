# Addresses are hashed, personal columns masked, an instance is always warm, and a daily copy of both datasets lies in another region.
environment        = "prod"
dataset            = "events"
historical_dataset = "events_historical"
labels             = { managed_by = "cloud_function" }
ip_policy          = "hash"
column_security    = true
ingest             = { min_instances = 1, max_instances = 100 }
archive            = { delete_days = 2555, soft_delete_days = 30 }
backup             = { snapshot_days = 90, copy_region = "us-east1" }
