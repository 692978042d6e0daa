variable "ip_policy" {
  description = "IP addresses in rows: keep, truncate (to /24 or /48) or hash (with a secret key)."
  type        = string
  default     = "keep"
  nullable    = false

  validation {
    condition     = contains(["keep", "truncate", "hash"], var.ip_policy)
    error_message = "ip_policy: keep, truncate or hash."
  }
}

variable "ip_hash_key_version" {
  description = "Number of the key of ip_policy = hash, from 1. Increment it to create a new key; hashes before and after differ."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.ip_hash_key_version >= 1 && floor(var.ip_hash_key_version) == var.ip_hash_key_version
    error_message = "ip_hash_key_version: a whole number of at least 1."
  }
}

variable "column_security" {
  description = "Protect the columns of sql/policy_tags.json with policy tags, so that readers see masked values. It cannot be set back to false: such a plan fails."
  type        = bool
  default     = true
  nullable    = false
}

variable "row_access_policies" {
  description = <<-TEXT
    Row access policies by name.
    table: a table of the live dataset; the policy also applies to the historical table of the same name.
    filter: condition on columns of the table.
    grantees: IAM members who see the matching rows.
    Readers see only rows of a policy that names them. Operators, erasers and the service accounts that copy, check and define tables
    see all rows. A table without a policy shows all rows to all readers, so that a plan that removes the last policy fails.
  TEXT
  type = map(object({
    table    = string
    filter   = string
    grantees = set(string)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name, policy in var.row_access_policies : name != "all_rows" && contains(local.tables, policy.table) && trimspace(policy.filter) != "" && length(policy.grantees) > 0])
    error_message = "row_access_policies: table is a table of sql/schema, filter a condition, grantees are not empty, and the name all_rows is reserved."
  }
}

# The key of the hashes. A shell script creates it and stores it in Secret Manager only: it is in no state and no log.

locals {
  ip_hash_key = { for secret in google_secret_manager_secret.ip_hash_key : "IP_HASH_KEY" => secret.secret_id }
}

resource "google_secret_manager_secret" "ip_hash_key" {
  count = var.ip_policy == "hash" ? 1 : 0

  project             = var.project_id
  secret_id           = "${local.name}-ip-hash-key"
  labels              = local.labels
  deletion_protection = true

  replication {
    user_managed {
      # Also in the region of the copies: after a failover with another key, hashes would differ.
      dynamic "replicas" {
        for_each = compact([var.region, var.backup.copy_region])
        content {
          location = replicas.value

          dynamic "customer_managed_encryption" {
            for_each = var.customer_managed_keys ? [local.keys[replicas.value]] : []
            content {
              kms_key_name = customer_managed_encryption.value
            }
          }
        }
      }
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [replication] # Another location would be another secret.
  }
}

resource "terraform_data" "ip_hash_key" {
  count = length(google_secret_manager_secret.ip_hash_key)

  triggers_replace = [google_secret_manager_secret.ip_hash_key[0].id, var.ip_hash_key_version]

  provisioner "local-exec" {
    command = "sh ${path.module}/add_hash_key.sh"
    environment = {
      VERSION = var.ip_hash_key_version
      SECRET  = google_secret_manager_secret.ip_hash_key[0].secret_id
      PROJECT = var.project_id
    }
  }
}

# Protected columns. sql/policy_tags.json lists them, and the bootstrap attaches the policy tags.

locals {
  protections = var.column_security ? {
    personal = { description = "Identifies a person", mask = "SHA256" }
    raw      = { description = "Not checked by any contract, so it may contain anything", mask = "DEFAULT_MASKING_VALUE" }
  } : {}

  # Service accounts and members that must copy or inspect unmasked columns.
  column_readers = var.column_security ? {
    personal = merge({ backup = google_service_account.this["backup"].member }, { for member in setunion(var.access.personal_data_readers, var.access.operators) : member => member })
    raw      = merge({ backup = google_service_account.this["backup"].member }, { for member in setunion(var.access.raw_data_readers, var.access.operators, var.access.erasers) : member => member })
  } : {}
  masked_readers = merge(
    { bootstrap = google_service_account.this["bootstrap"].member },       # To create a view, it must be able to query it.
    { for account in google_service_account.ci : "ci" => account.member }, # The smoke test reads the reasons of dead letters.
    { for member in setunion(local.readers, var.access.raw_data_readers) : member => member },
  )
}

resource "google_data_catalog_taxonomy" "protected" {
  count = var.column_security ? 1 : 0

  project                = var.project_id
  display_name           = local.name
  description            = "Columns of Sluice that are masked for most readers"
  region                 = var.region
  activated_policy_types = ["FINE_GRAINED_ACCESS_CONTROL"]
  depends_on             = [google_project_service.needed]

  # Deleting a tag removes it from the columns, and all readers of the tables see unmasked values:
  # https://cloud.google.com/data-catalog/docs/reference/rest/v1/projects.locations.taxonomies.policyTags/delete
  lifecycle {
    prevent_destroy = true
  }
}

resource "google_data_catalog_policy_tag" "protected" {
  for_each = local.protections

  taxonomy     = google_data_catalog_taxonomy.protected[0].id
  display_name = each.key
  description  = each.value.description

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_bigquery_datapolicy_data_policy" "masked" {
  for_each = local.protections

  project          = var.project_id
  data_policy_id   = replace("${local.name}-${each.key}", "-", "_")
  location         = var.region
  policy_tag       = google_data_catalog_policy_tag.protected[each.key].name
  data_policy_type = "DATA_MASKING_POLICY"

  data_masking_policy {
    predefined_expression = each.value.mask
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Without all rows, keep_history would silently miss some, which would expire. It is also the last policy of a table: while
# it exists, no reader sees rows without a policy that grants them.
resource "google_bigquery_row_access_policy" "all_rows" {
  for_each = { for pair in setproduct(keys(local.datasets), distinct([for policy in var.row_access_policies : policy.table])) :
    join(" ", pair) => { dataset = pair[0], table = pair[1] } if pair[0] == "live" || contains(local.event_tables, pair[1])
  }

  project          = var.project_id
  dataset_id       = google_bigquery_dataset.events[each.value.dataset].dataset_id
  table_id         = each.value.table
  policy_id        = "all_rows"
  filter_predicate = "TRUE"
  grantees         = setunion(var.access.operators, var.access.erasers, [for name in ["backup", "bootstrap", "reconcile"] : google_service_account.this[name].member], google_service_account.ci[*].member)

  depends_on = [terraform_data.bootstrap]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_bigquery_row_access_policy" "this" {
  for_each = merge([for key in keys(local.datasets) : {
    for name, policy in var.row_access_policies : "${key} ${name}" => merge(policy, { dataset = key, name = name })
    if key == "live" || contains(local.event_tables, policy.table)
  }]...)

  project          = var.project_id
  dataset_id       = google_bigquery_dataset.events[each.value.dataset].dataset_id
  table_id         = each.value.table
  policy_id        = each.value.name
  filter_predicate = each.value.filter
  grantees         = each.value.grantees

  depends_on = [google_bigquery_row_access_policy.all_rows]
}
