# Data Access audit logs. Those of BigQuery are always written and cannot be disabled.

variable "data_access_logs" {
  description = <<-TEXT
    Services whose Data Access audit logs are written, such as ["storage.googleapis.com"]: reads and writes of data by
    people and by service accounts. Those of ingest, drain, reconcile and compact are exempt, as they access every object. For each of these
    services, the module replaces the configuration of the project; that of the organization or a folder stays.
  TEXT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.data_access_logs, ["cloudkms.googleapis.com", "datacatalog.googleapis.com", "iam.googleapis.com", "pubsub.googleapis.com", "secretmanager.googleapis.com", "storage.googleapis.com", "sts.googleapis.com"])) == 0
    error_message = "data_access_logs: any of cloudkms, datacatalog, iam, pubsub, secretmanager, storage and sts, each with .googleapis.com. Those of BigQuery are always written."
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
      exempted_members = each.value == "storage.googleapis.com" ? [for name in concat(["ingest", "reconcile"], var.archive.compact ? ["compact"] : [], local.batch ? ["drain"] : []) : google_service_account.this[name].member] : []
    }
  }
}
