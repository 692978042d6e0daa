# The arguments of examples/dev come from tests/support/terraform.py, since a root's test cannot see into the module.

mock_provider "google-beta" {
  override_during = plan
}

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project_id = "a-project"
  deployers  = ["user:ada@example.com"]
  package    = "versions.tf"
}

run "dev_is_the_data_model_as_written_and_costs_nothing_idle" {
  command = plan

  assert {
    condition     = google_bigquery_dataset.events["live"].dataset_id == "dev_events_dataset" && google_bigquery_dataset.events["live"].labels == tomap({ environment = "dev", managed_by = "cloud_function", assessment = "data_engineering" })
    error_message = "names and labels"
  }
  assert {
    condition     = google_bigquery_dataset.events["live"].location == "us-central1" && google_bigquery_dataset.events["live"].default_partition_expiration_ms == 90 * 86400000
    error_message = "place or retention"
  }
  assert {
    condition     = google_cloudfunctions2_function.ingest.service_config[0].min_instance_count == 0 && length(google_bigquery_dataset.copy) == 0
    error_message = "idle instances or copies"
  }
  assert {
    condition     = local.settings.IP_POLICY == "keep" && length(google_data_catalog_taxonomy.protected) == 0
    error_message = "addresses as they came"
  }
}
