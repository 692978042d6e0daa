# From the push to Dataflow and back, and to batch mode and back, applied: tests/terraform/test_switch.py reads the order in Terraform's log. It runs in a
# copy without prevent_destroy, since Terraform tears down what a test has applied.

mock_provider "google-beta" {}

mock_provider "google" {
  mock_resource "google_bigquery_data_transfer_config" {
    defaults = { name = "projects/p/locations/l/transferConfigs/made" }
  }
  mock_resource "google_cloudfunctions2_function" {
    defaults = { service_config = { uri = "https://f.a.run.app" } }
  }
  mock_resource "google_service_account" {
    defaults = { id = "projects/a-project/serviceAccounts/a@a", member = "serviceAccount:a@a" }
  }
}

# Other addresses than that of the other accounts, so that their access is of their own.
override_resource {
  target = google_service_account.this["dataflow"]
  values = { id = "projects/a-project/serviceAccounts/dataflow@a", member = "serviceAccount:dataflow@a" }
}

override_resource {
  target = google_service_account.this["drain"]
  values = { id = "projects/a-project/serviceAccounts/drain@a", member = "serviceAccount:drain@a" }
}

variables {
  project_id      = "a-project"
  deployers       = ["user:ada@example.com"]
  package         = "versions.tf"
  dataflow        = { image = "us-central1-docker.pkg.dev/a-project/sluice-dev/dataflow:7" }
  ip_policy       = "hash"
  column_security = false
}

run "functions" {
  command = apply
}

run "dataflow" {
  command = apply
  variables {
    engine = "dataflow"
  }

  assert {
    condition     = length(google_pubsub_subscription.ingest.push_config) == 0
    error_message = "The push has ended."
  }
}

run "and_back" {
  command = apply

  assert {
    condition     = google_pubsub_subscription.ingest.push_config[0].push_endpoint == "https://f.a.run.app"
    error_message = "The push has begun again."
  }
}

run "batch" {
  command = apply
  variables {
    ingest = { mode = "batch" }
  }

  assert {
    condition     = length(google_pubsub_subscription.ingest.push_config) == 0 && google_cloud_scheduler_job.drain[0].schedule == "*/1 * * * *"
    error_message = "The push has ended, and drain is called."
  }
}

run "and_back_from_batch" {
  command = apply

  assert {
    condition     = google_pubsub_subscription.ingest.push_config[0].push_endpoint == "https://f.a.run.app"
    error_message = "The push has begun again."
  }
}
