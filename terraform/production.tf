# What is a warning elsewhere fails a plan of prod.

variable "required" {
  description = <<-TEXT
    What a plan has to have, or it fails: recipient (alert_emails or notification_channels), budget, and remote_state (a
    backend that is not local). null: all three where environment is prod, and none elsewhere. The backend is read from
    .terraform/ in the root's folder; leave remote_state out where it is not there, as with TF_DATA_DIR or in HCP Terraform.
  TEXT
  type        = set(string)
  default     = null

  validation {
    condition     = var.required == null || length(setsubtract(coalesce(var.required, []), ["budget", "recipient", "remote_state"])) == 0
    error_message = "required: any of budget, recipient and remote_state."
  }
}

locals {
  required = var.required != null ? var.required : toset(var.environment == "prod" ? ["budget", "recipient", "remote_state"] : [])

  # Terraform has no name for it. `terraform init` writes the backend there; a root without one has no such file.
  backend = try(jsondecode(file("${path.root}/.terraform/terraform.tfstate")).backend.type, "local")
}

# Nothing refers to it, so that a plan shows these errors beside all others.
resource "terraform_data" "required" {
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
