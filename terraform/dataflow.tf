# The same pipeline as the functions', as a job of Dataflow: engine = "dataflow". Its account is in service_accounts.tf, its bindings in
# iam.tf and warehouse.tf, and its subscription is that of the functions, in pubsub.tf.

locals {
  dataflow = var.engine == "dataflow"

  # Options of the pipeline (dataflow/options.py): all texts, as a template takes them.
  dataflow_parameters = { for name, value in {
    archive_bucket     = google_storage_bucket.archive.name
    batch_bytes        = var.flush.batch_bytes
    batch_rows         = var.flush.batch_rows
    code_version       = local.dataflow_version
    dataset            = google_bigquery_dataset.events["live"].dataset_id
    flush_timeout      = var.flush.flush_timeout
    historical_dataset = google_bigquery_dataset.events["historical"].dataset_id
    input_subscription = google_pubsub_subscription.ingest.id
    ip_hash_key_secret = one([for secret in values(local.ip_hash_key) : "projects/${var.project_id}/secrets/${secret}/versions/${var.ip_hash_key_version}"])
    ip_policy          = var.ip_policy
    linger             = var.dataflow.linger
    retention_days     = var.retention_days
    shards             = var.dataflow.shards
    writer             = var.dataflow.writer
  } : name => tostring(value) if value != null }

  # In the rows' code_version: the image's tag, or the beginning of its digest.
  dataflow_version = var.dataflow.image == null ? null : "dataflow-${substr(regex("[^:]+$", var.dataflow.image), 0, 20)}"

  # What `gcloud dataflow flex-template build` would write.
  dataflow_template = jsonencode({
    image    = var.dataflow.image
    sdkInfo  = { language = "PYTHON" }
    metadata = jsondecode(file("${path.module}/../dataflow/metadata.json"))
  })
}

# Nothing under staging/ is deleted by age: a job may start workers, which read it, for as long as it runs.
resource "google_storage_bucket" "dataflow" {
  #checkov:skip=CKV_GCP_62:Access logs are for buckets that are served to the public; who reads is a choice of the audit log of the organisation
  #checkov:skip=CKV_GCP_78:A template's name is the hash of its content; the other objects are Dataflow's own, and made again
  count = local.dataflow ? 1 : 0

  project                     = var.project_id
  name                        = "${var.project_id}-${local.name}-dataflow"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # It holds no event.

  soft_delete_policy {
    retention_duration_seconds = 0 # Temporary files would be billed for a week after their end.
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 30
      matches_prefix = ["temp/"]
    }
  }

  dynamic "encryption" {
    for_each = var.customer_managed_keys ? [local.keys[var.region]] : []
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]
}

# Under the hash of its content, so that a job that was changed is a job of another template.
resource "google_storage_bucket_object" "template" {
  count = local.dataflow ? 1 : 0

  bucket       = google_storage_bucket.dataflow[0].name
  name         = "templates/${sha256(local.dataflow_template)}.json"
  content      = local.dataflow_template
  content_type = "application/json"
}

# The order of a switch. The subscription and the job both depend on it, the job on the subscription, too:
#
# - to Dataflow: this is made, then the push ends, then the job begins;
# - back: the job is drained and ends, then this is destroyed, then the push begins. Terraform updates a resource after it has
#   destroyed what that depended on, and destroys a resource after all that depend on it.
#
# So one of them takes events at any time, and never both. What is published in between waits in the subscription.
resource "terraform_data" "pull" {
  count = local.dataflow ? 1 : 0

  # Permissions of a new account take a while to arrive.
  provisioner "local-exec" {
    command = "sleep 90"
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.dataflow,
    google_kms_crypto_key_iam_member.agent,
    google_project_iam_member.dataflow,
    google_secret_manager_secret_iam_member.ip_hash_key,
    google_service_account_iam_member.dataflow,
    google_storage_bucket_iam_member.archive_dataflow,
    google_storage_bucket_iam_member.dataflow,
  ]
}

resource "google_dataflow_flex_template_job" "ingest" {
  provider = google-beta
  count    = local.dataflow ? 1 : 0

  project                 = var.project_id
  name                    = "${local.name}-ingest"
  region                  = var.region
  labels                  = local.labels
  container_spec_gcs_path = "gs://${google_storage_bucket_object.template[0].bucket}/${google_storage_bucket_object.template[0].name}"
  parameters              = local.dataflow_parameters

  sdk_container_image   = var.dataflow.image
  service_account_email = google_service_account.this["dataflow"].email
  staging_location      = "gs://${google_storage_bucket.dataflow[0].name}/staging"
  temp_location         = "gs://${google_storage_bucket.dataflow[0].name}/temp"
  kms_key_name          = lookup(local.keys, var.region, null)

  machine_type            = var.dataflow.machine_type
  max_workers             = var.dataflow.max_workers
  enable_streaming_engine = true
  autoscaling_algorithm   = "THROUGHPUT_BASED"

  # Streaming Engine is billed by what it does, in compute units, and not by the bytes that go through it
  # (https://cloud.google.com/dataflow/docs/streaming-engine#resource-based).
  additional_pipeline_options = ["dataflow_service_options=enable_streaming_engine_resource_based_billing"]

  subnetwork       = var.dataflow.subnetwork
  ip_configuration = var.dataflow.public_ips ? "WORKER_IP_PUBLIC" : "WORKER_IP_PRIVATE"

  # Ends when what it has read is written, and Terraform waits for that.
  on_delete                    = "drain"
  skip_wait_on_job_termination = false

  depends_on = [
    google_pubsub_subscription_iam_member.dataflow,
    terraform_data.bootstrap,
    terraform_data.ip_hash_key,
    terraform_data.pull,
  ]
}
