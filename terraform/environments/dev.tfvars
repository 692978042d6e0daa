# The data model's own names and labels, and no more than it takes to try.
environment     = "dev"
dataset         = "dev_events_dataset"
labels          = { managed_by = "cloud_function", assessment = "data_engineering" }
ip_policy       = "keep"
column_security = false
backup          = { snapshot_days = 7 }
alerts_disabled = ["no_events"]
