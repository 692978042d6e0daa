variable "backup" {
  description = <<-TEXT
    keep_history_days: days before its expiration at which an event is copied into the historical dataset.
    snapshot_days: days for which the daily snapshot of each live table is kept. 0: no snapshots.
    copy_region: another region with a daily copy of the live and the historical dataset. null: no copy.
  TEXT
  type = object({
    keep_history_days = optional(number, 7)
    snapshot_days     = optional(number, 30)
    copy_region       = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.backup.keep_history_days >= 1 && var.backup.keep_history_days < var.retention_days
    error_message = "backup.keep_history_days: at least 1 and less than retention_days."
  }
  validation {
    condition     = var.backup.snapshot_days >= 0 && var.backup.snapshot_days <= 3650
    error_message = "backup.snapshot_days: 0 to 3650."
  }
  validation {
    condition     = var.backup.copy_region != var.region
    error_message = "backup.copy_region: a region other than region."
  }
}

locals {
  # `python -m tools.scheduled_queries` renders sql/maintenance into scheduled_queries/, with these names for Terraform.
  query_names = {
    project            = var.project_id
    dataset            = google_bigquery_dataset.events["live"].dataset_id
    historical_dataset = google_bigquery_dataset.events["historical"].dataset_id
    retention_days     = var.retention_days
  }
  keep_history = { for table in local.event_tables : table => templatefile(
    "${path.module}/scheduled_queries/keep_history.sql", merge(local.query_names, { table = table, days = var.backup.keep_history_days })
  ) }
  snapshot = { for table in var.backup.snapshot_days > 0 ? local.tables : [] : table => templatefile(
    "${path.module}/scheduled_queries/snapshot.sql", merge(local.query_names, { table = table, days = var.backup.snapshot_days })
  ) }
  scheduled_queries = merge(
    { for table, query in local.keep_history : "keep history of ${table}" => { query = query, schedule = "every day 02:00" } },
    { for table, query in local.snapshot : "snapshot of ${table}" => { query = query, schedule = "every day 04:00" } },
  )
}

resource "google_bigquery_data_transfer_config" "scheduled" {
  for_each = local.scheduled_queries

  project              = var.project_id
  display_name         = "${local.name}: ${each.key}"
  data_source_id       = "scheduled_query"
  location             = var.region
  schedule             = each.value.schedule
  service_account_name = google_service_account.this["backup"].email
  params               = { query = each.value.query }

  dynamic "encryption_configuration" {
    for_each = var.customer_managed_keys ? [local.keys[var.region]] : []
    content {
      kms_key_name = encryption_configuration.value
    }
  }

  depends_on = [terraform_data.bootstrap, google_project_iam_member.jobs, google_service_account_iam_member.transfer_agent]
}

resource "google_bigquery_dataset" "copy" {
  for_each = toset(var.backup.copy_region == null ? [] : keys(local.datasets))

  project                    = var.project_id
  dataset_id                 = "${var.dataset}_${each.key}_copy"
  description                = "Daily copy of the ${each.key} dataset, in another region"
  location                   = var.backup.copy_region
  labels                     = local.labels
  delete_contents_on_destroy = false

  access {
    role          = "OWNER"
    special_group = "projectOwners"
  }
  dynamic "access" {
    for_each = ["WRITER", google_project_iam_custom_role.this["copier"].id]
    content {
      role          = access.value
      user_by_email = google_service_account.this["backup"].email
    }
  }

  dynamic "default_encryption_configuration" {
    for_each = var.customer_managed_keys ? [local.keys[var.backup.copy_region]] : []
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_bigquery_data_transfer_config" "copy" {
  for_each = google_bigquery_dataset.copy

  project                = var.project_id
  display_name           = "${local.name}: copy of the ${each.key} dataset"
  data_source_id         = "cross_region_copy"
  destination_dataset_id = each.value.dataset_id
  location               = each.value.location
  schedule               = "every 24 hours"
  service_account_name   = google_service_account.this["backup"].email
  params = {
    source_project_id           = var.project_id
    source_dataset_id           = google_bigquery_dataset.events[each.key].dataset_id
    overwrite_destination_table = "true"
  }

  depends_on = [terraform_data.bootstrap, google_project_iam_member.jobs, google_service_account_iam_member.transfer_agent]
}
