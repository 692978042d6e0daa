# Names and labels of the data model, with the minimum of resources for a trial.

terraform {
  required_version = ">= 1.11"

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

  project_id = var.project_id
  deployers  = var.deployers
  package    = var.package
  release    = var.release
  github     = var.github
  access     = var.access

  environment     = "dev"
  dataset         = "dev_events_dataset"
  labels          = { managed_by = "cloud_function", assessment = "data_engineering" }
  ip_policy       = "keep"
  column_security = false
  backup          = { snapshot_days = 7 }
  alerts_disabled = ["no_events"]
}
