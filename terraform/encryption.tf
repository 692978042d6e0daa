variable "customer_managed_keys" {
  description = "Encrypt all data with Cloud KMS keys of this project instead of keys of Google. Set it before the first apply: datasets and functions keep the key with which they were created."
  type        = bool
  default     = false
  nullable    = false
}

locals {
  # A key must be in the location of its data.
  key_locations = var.customer_managed_keys ? toset(compact([var.region, local.archive_key_location, var.backup.copy_region])) : []
  keys          = { for location, key in google_kms_crypto_key.store : location => key.id }

  # Service agents of Google that read and write the data. Only they use the keys.
  key_users = var.customer_managed_keys ? merge({
    artifactregistry = "service-${data.google_project.this.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    bigquery         = data.google_bigquery_default_service_account.this[0].email
    functions        = "service-${data.google_project.this.number}@gcf-admin-robot.iam.gserviceaccount.com"
    pubsub           = "service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
    run              = "service-${data.google_project.this.number}@serverless-robot-prod.iam.gserviceaccount.com"
    secretmanager    = "service-${data.google_project.this.number}@gcp-sa-secretmanager.iam.gserviceaccount.com"
    storage          = data.google_storage_project_service_account.this[0].email_address
    }, local.dataflow ? {
    compute  = "service-${data.google_project.this.number}@compute-system.iam.gserviceaccount.com"
    dataflow = "service-${data.google_project.this.number}@dataflow-service-producer-prod.iam.gserviceaccount.com"
  } : {}) : {}
}

# Reading these two data sources creates the service agents; gcloud creates the others (docs/deploy.md).

data "google_bigquery_default_service_account" "this" {
  count = var.customer_managed_keys ? 1 : 0

  project = var.project_id
}

data "google_storage_project_service_account" "this" {
  count = var.customer_managed_keys ? 1 : 0

  project = var.project_id
}

resource "google_kms_key_ring" "store" {
  for_each = local.key_locations

  project    = var.project_id
  name       = local.name
  location   = each.value
  depends_on = [google_project_service.needed]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key" "store" {
  for_each = local.key_locations

  name            = "store"
  key_ring        = google_kms_key_ring.store[each.value].id
  labels          = local.labels
  rotation_period = "7776000s" # 90 days

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = { for pair in setproduct(local.key_locations, [for name in keys(local.key_users) : name if name != "secretmanager" || var.ip_policy == "hash"]) : join(" ", pair) => { location = pair[0], agent = pair[1] } }

  crypto_key_id = google_kms_crypto_key.store[each.value.location].id
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${local.key_users[each.value.agent]}"
}
