# IP addresses are hashed, personal columns are masked, one instance is always warm, and both datasets are copied daily to
# another region.

terraform {
  required_version = ">= 1.11"

  # terraform init -backend-config=bucket=STATE_BUCKET -backend-config=prefix=sluice
  backend "gcs" {}

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 6.50"
    }
  }
}

provider "google" {
  project               = var.project_id
  billing_project       = var.project_id
  user_project_override = true
}

provider "google-beta" {
  project               = var.project_id
  billing_project       = var.project_id
  user_project_override = true
}

module "sluice" {
  source = "../.."

  project_id   = var.project_id
  deployers    = var.deployers
  package      = var.package
  release      = var.release
  github       = var.github
  access       = var.access
  alert_emails = var.alert_emails
  budget       = var.budget

  environment        = var.environment
  region             = var.region
  dataset            = var.dataset
  historical_dataset = var.historical_dataset
  labels             = { managed_by = "cloud_function" }
  ip_policy          = "hash"
  column_security    = true
  ingest             = { min_instances = 1, max_instances = 100 }
  archive            = { delete_days = 2555, soft_delete_days = 30 }
  backup             = { snapshot_days = 90, copy_region = var.copy_region == "" ? null : var.copy_region }
}
