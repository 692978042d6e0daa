# Datasets only. The bootstrap creates tables and views, so that a change of a schema never replaces a table.

locals {
  datasets = {
    live = {
      id                      = var.dataset
      description             = "Real-time events: orders, inventory, user activity"
      partition_expiration_ms = var.retention_days * 86400000
      accounts                = merge({ ingest = "row_writer", bootstrap = "definer", backup = "snapshotter", reconcile = "record_reader" }, local.batch ? { drain = "row_writer" } : {}, local.dataflow ? { dataflow = "row_writer" } : {})
      readable                = setunion(local.event_tables, local.views)
    }
    historical = {
      id                      = var.historical_dataset
      description             = "Events that are older than the retention of ${var.dataset}; nothing expires here"
      partition_expiration_ms = null
      accounts                = { bootstrap = "definer", backup = "keeper", reconcile = "record_reader" }
      readable                = local.event_tables
    }
  }

  # Tables and views with rows of events, by name. Dead letters, which have the original bytes, and snapshots are excluded.
  # A condition has at most twelve operators: https://cloud.google.com/iam/docs/conditions-overview
  rows_of_events = { for key, dataset in local.datasets : key => [
    for names in chunklist(sort(dataset.readable), 10) : join(" && ", [
      "resource.service == \"bigquery.googleapis.com\"",
      "resource.type == \"bigquery.googleapis.com/Table\"",
      "(${join(" || ", [for name in names : "resource.name == \"projects/${var.project_id}/datasets/${dataset.id}/tables/${name}\""])})",
    ])
  ] }

  # The complete access lists: everything else is removed. BigQuery returns basic roles by its own names, so they are used
  # here.
  dataset_access = { for key, dataset in local.datasets : key => concat(
    [for account, role in dataset.accounts : { member = google_service_account.this[account].member, role = google_project_iam_custom_role.this[role].id, condition = null }],
    [for account in google_service_account.ci : { member = account.member, role = google_project_iam_custom_role.this["record_reader"].id, condition = null } if key == "live"], # The smoke test.
    [for member in var.access.operators : { member = member, role = "WRITER", condition = null }],
    [for member in var.access.operators : { member = member, role = google_project_iam_custom_role.this["snapshotter"].id, condition = null }],
    [for member in var.access.erasers : { member = member, role = google_project_iam_custom_role.this["eraser"].id, condition = null }],
    [for member in var.access.raw_data_readers : { member = member, role = "READER", condition = null }],
    [for member in local.readers : { member = member, role = "roles/bigquery.metadataViewer", condition = null }],
    [for pair in setproduct(local.readers, local.rows_of_events[key]) : { member = pair[0], role = google_project_iam_custom_role.this["reader"].id, condition = pair[1] }],
  ) }
}

resource "google_bigquery_dataset" "events" {
  for_each = local.datasets

  project                         = var.project_id
  dataset_id                      = each.value.id
  description                     = each.value.description
  location                        = var.region
  labels                          = local.labels
  default_partition_expiration_ms = each.value.partition_expiration_ms
  max_time_travel_hours           = var.time_travel_hours
  delete_contents_on_destroy      = false

  access {
    role          = "OWNER"
    special_group = "projectOwners"
  }
  dynamic "access" {
    for_each = local.dataset_access[each.key]
    content {
      role           = access.value.role
      group_by_email = startswith(access.value.member, "group:") ? trimprefix(access.value.member, "group:") : null
      user_by_email  = startswith(access.value.member, "group:") ? null : split(":", access.value.member)[1]

      dynamic "condition" {
        for_each = access.value.condition[*]
        content {
          title      = "rows of events"
          expression = condition.value
        }
      }
    }
  }

  dynamic "default_encryption_configuration" {
    for_each = var.customer_managed_keys ? [local.keys[var.region]] : []
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent, terraform_data.pull]

  lifecycle {
    prevent_destroy = true
  }
}
