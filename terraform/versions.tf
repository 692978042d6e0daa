# The root module configures the provider and the backend. examples/ has root modules for dev and prod.

terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
    # Only this provider has google_dataflow_flex_template_job.
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 6.50"
    }
  }
}

data "google_project" "this" {
  project_id = var.project_id
}
