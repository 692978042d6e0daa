# terraform init -backend=false && terraform test: the root and the module fit each other.

mock_provider "google-beta" {
  override_during = plan
}

mock_provider "google" {
  override_during = plan

  mock_resource "google_cloudfunctions2_function" {
    defaults = { service_config = { uri = "https://function-x7.a.run.app" } }
  }
}

variables {
  project_id = "a-project"
  deployers  = ["user:ada@example.com"]
  package    = "main.tf"

}

run "everything_is_planned" {
  command = plan

  assert {
    condition     = output.functions.ingest == "https://function-x7.a.run.app"
    error_message = output.functions.ingest
  }
}
