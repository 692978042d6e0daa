# Datasets only. Tables and views are the bootstrap's: a change of a schema never replaces a table.

locals {
  # Everyone who has access, and nobody else: the access lists are complete. BigQuery has its own names for the basic
  # roles and gives them back, so they are used here.
  dataset_access = {
    live = concat(
      [for member in setunion(var.access.readers, var.access.personal_data_readers, var.access.raw_data_readers) : { member = member, role = "READER" }],
      [for member in var.access.operators : { member = member, role = "WRITER" }],
      [
        { member = google_service_account.ingest.member, role = google_project_iam_custom_role.this["row_writer"].id },
        { member = google_service_account.bootstrap.member, role = google_project_iam_custom_role.this["definer"].id },
        { member = google_service_account.backup.member, role = google_project_iam_custom_role.this["snapshotter"].id },
      ],
    )
    historical = concat(
      [for member in setunion(var.access.readers, var.access.personal_data_readers, var.access.raw_data_readers) : { member = member, role = "READER" }],
      [for member in var.access.operators : { member = member, role = "WRITER" }],
      [
        { member = google_service_account.bootstrap.member, role = google_project_iam_custom_role.this["definer"].id },
        { member = google_service_account.backup.member, role = google_project_iam_custom_role.this["keeper"].id },
      ],
    )
  }
}

resource "google_bigquery_dataset" "live" {
  dataset_id                      = var.dataset
  description                     = "Real-time events: orders, inventory, user activity"
  location                        = var.region
  labels                          = local.labels
  default_partition_expiration_ms = var.retention_days * 86400000
  max_time_travel_hours           = var.time_travel_hours
  delete_contents_on_destroy      = false

  access {
    role          = "OWNER"
    special_group = "projectOwners"
  }
  dynamic "access" {
    for_each = local.dataset_access.live
    content {
      role           = access.value.role
      group_by_email = startswith(access.value.member, "group:") ? trimprefix(access.value.member, "group:") : null
      user_by_email  = startswith(access.value.member, "group:") ? null : split(":", access.value.member)[1]
    }
  }

  dynamic "default_encryption_configuration" {
    for_each = var.customer_managed_keys ? [local.keys[var.region]] : []
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_bigquery_dataset" "historical" {
  dataset_id                 = var.historical_dataset
  description                = "Events that are older than the retention of ${var.dataset}; nothing expires here"
  location                   = var.region
  labels                     = local.labels
  max_time_travel_hours      = var.time_travel_hours
  delete_contents_on_destroy = false

  access {
    role          = "OWNER"
    special_group = "projectOwners"
  }
  dynamic "access" {
    for_each = local.dataset_access.historical
    content {
      role           = access.value.role
      group_by_email = startswith(access.value.member, "group:") ? trimprefix(access.value.member, "group:") : null
      user_by_email  = startswith(access.value.member, "group:") ? null : split(":", access.value.member)[1]
    }
  }

  dynamic "default_encryption_configuration" {
    for_each = var.customer_managed_keys ? [local.keys[var.region]] : []
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}
