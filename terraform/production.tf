# Requirements of a production environment, without which a plan fails.

variable "required" {
  description = <<-TEXT
    Requirements without which a plan fails: recipient (alert_emails or notification_channels), budget, and remote_state
    (a backend that is not local). null: all three if environment is prod, otherwise none. The backend is read from
    .terraform/ in the folder of the root module. Omit remote_state if it is not there, as with TF_DATA_DIR or HCP Terraform.
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

  # Terraform has no expression for the backend. `terraform init` writes it into this file, unless it is local.
  backend = try(jsondecode(file("${path.root}/.terraform/terraform.tfstate")).backend.type, "local")
}

# No resource refers to it, so that a plan shows these errors together with all others.
resource "terraform_data" "required" {
  lifecycle {
    precondition {
      condition     = !contains(local.required, "recipient") || length(var.notification_channels) + length(var.alert_emails) > 0
      error_message = "Alerts have no recipient: set alert_emails or notification_channels, or omit recipient from required."
    }
    precondition {
      condition     = !contains(local.required, "budget") || var.budget != null
      error_message = "There is no budget: set budget, or omit budget from required if it is managed elsewhere."
    }
    precondition {
      condition     = !contains(local.required, "remote_state") || local.backend != "local"
      error_message = "The state would be on this machine: configure a backend (docs/deploy.md, State), or omit remote_state from required if ${path.root}/.terraform does not contain the backend."
    }
  }
}
