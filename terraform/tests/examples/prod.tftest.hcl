# The arguments of examples/prod come from tests/support/terraform.py, since a root's test cannot see into the module.

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
  # The root asks for these; its backend is not the module's.
  alert_emails = ["on-call@example.com"]
  budget       = { billing_account = "012345-678901-ABCDEF", amount = 500 }
  required     = ["budget", "recipient"]
}

run "prod_hides_addresses_stays_warm_and_has_a_copy_elsewhere" {
  command = plan

  assert {
    condition     = local.settings.IP_POLICY == "hash" && length(google_secret_manager_secret.ip_hash_key) == 1 && length(google_data_catalog_policy_tag.protected) == 2
    error_message = "privacy"
  }
  assert {
    condition     = google_cloudfunctions2_function.ingest.service_config[0].min_instance_count == (local.engine == "functions" ? 1 : 0) && google_cloudfunctions2_function.ingest.service_config[0].max_instance_count == 100
    error_message = "instances"
  }
  assert {
    condition     = toset([for copy in google_bigquery_dataset.copy : copy.location]) == toset(["us-east1"])
    error_message = "copy"
  }
  assert {
    condition     = google_bigquery_dataset.events["live"].labels["environment"] == "prod" && google_pubsub_topic.events.name == "sluice-prod-events" && google_bigquery_dataset.events["live"].dataset_id == "events"
    error_message = "names"
  }
}
