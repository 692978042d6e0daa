# A module: the root that calls it configures the provider and the backend. examples/ has roots for dev and prod.

terraform {
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
  }
}

data "google_project" "this" {
  project_id = var.project_id

  lifecycle {
    precondition {
      condition     = !contains(local.required, "recipient") || length(var.notification_channels) + length(var.alert_emails) > 0
      error_message = "Nobody would hear the alerts: set alert_emails or notification_channels, or leave recipient out of required."
    }
    precondition {
      condition     = !contains(local.required, "budget") || var.budget != null
      error_message = "There is no budget: set budget, or leave budget out of required where somebody else keeps one."
    }
    precondition {
      condition     = !contains(local.required, "remote_state") || local.backend != "local"
      error_message = "The state would lie on this machine: configure a backend (docs/deploy.md, State), or leave remote_state out of required where ${path.root}/.terraform does not show it."
    }
  }
}
