# Data Access audit logs: who read and wrote. BigQuery writes them always, and they cannot be turned off there.

variable "data_access_logs" {
  description = <<-TEXT
    Services whose Data Access audit logs are written, such as ["storage.googleapis.com"]: each read and write of data by
    people and by other accounts, but not those of ingest and reconcile, which are one for each object. For each of these
    services this replaces what the project had; what the organisation or a folder has stays.
  TEXT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.data_access_logs, ["cloudkms.googleapis.com", "datacatalog.googleapis.com", "iam.googleapis.com", "pubsub.googleapis.com", "secretmanager.googleapis.com", "storage.googleapis.com", "sts.googleapis.com"])) == 0
    error_message = "data_access_logs: any of cloudkms, datacatalog, iam, pubsub, secretmanager, storage and sts, each with .googleapis.com. BigQuery's are always written."
  }
}

resource "google_project_iam_audit_config" "data_access" {
  for_each = var.data_access_logs

  project = var.project_id
  service = each.value

  dynamic "audit_log_config" {
    for_each = ["ADMIN_READ", "DATA_READ", "DATA_WRITE"]
    content {
      log_type         = audit_log_config.value
      exempted_members = each.value == "storage.googleapis.com" ? [for name in ["ingest", "reconcile"] : google_service_account.this[name].member] : []
    }
  }
}
