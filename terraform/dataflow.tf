# The pipeline as a Dataflow job: engine = "dataflow". Its service account is in service_accounts.tf, its bindings are in iam.tf
# and warehouse.tf. It uses the same subscription as the functions, in pubsub.tf.

locals {
  dataflow = var.engine == "dataflow"

  # Options of the pipeline (dataflow/options.py), as strings, which a template requires.
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

  # code_version of rows: the tag of the image, or the beginning of its digest.
  dataflow_version = var.dataflow.image == null ? null : "dataflow-${substr(regex("[^:]+$", var.dataflow.image), 0, 20)}"

  # The same as the output of `gcloud dataflow flex-template build`.
  dataflow_template = jsonencode({
    image    = var.dataflow.image
    sdkInfo  = { language = "PYTHON" }
    metadata = jsondecode(file("${path.module}/../dataflow/metadata.json"))
  })
}

# staging/ has no lifecycle rule: a job may start workers, which read it, as long as it runs.
resource "google_storage_bucket" "dataflow" {
  #checkov:skip=CKV_GCP_62:Access logs are for public buckets; the organization configures audit logs for readers
  #checkov:skip=CKV_GCP_78:The name of a template is the hash of its content; Dataflow recreates all other objects
  count = local.dataflow ? 1 : 0

  project                     = var.project_id
  name                        = "${var.project_id}-${local.name}-dataflow"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # It contains no events.

  soft_delete_policy {
    retention_duration_seconds = 0 # Otherwise temporary files would be billed for a week after their deletion.
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

# Named by the hash of its content, so that any change updates the job.
resource "google_storage_bucket_object" "template" {
  count = local.dataflow ? 1 : 0

  bucket       = google_storage_bucket.dataflow[0].name
  name         = "templates/${sha256(local.dataflow_template)}.json"
  content      = local.dataflow_template
  content_type = "application/json"
}

# The order of a switch; batch.tf has that of batch mode. The subscription and the job depend on this resource, and the job also
# depends on the subscription:
#
# - to Dataflow: this resource is created, then the push stops, then the job starts.
# - back: the job is drained and ends, then this resource is destroyed, then the push starts. Terraform updates a resource after
#   destroying its former dependencies, and destroys a resource after everything that depends on it.
#
# So at most one of the two reads events at any time. Events published in between wait in the subscription.
resource "terraform_data" "pull" {
  count = local.dataflow || local.batch ? 1 : 0

  # Permissions of a new service account take a while to take effect.
  provisioner "local-exec" {
    command = "sleep 90"
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.dataflow,
    google_kms_crypto_key_iam_member.agent,
    google_project_iam_member.dataflow,
    google_project_iam_member.jobs,
    google_secret_manager_secret_iam_member.ip_hash_key,
    google_service_account_iam_member.dataflow,
    google_storage_bucket_iam_member.archive_dataflow,
    google_storage_bucket_iam_member.archive_drain,
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

  # Streaming Engine is billed in compute units instead of processed bytes
  # (https://cloud.google.com/dataflow/docs/streaming-engine#resource-based).
  additional_pipeline_options = ["dataflow_service_options=enable_streaming_engine_resource_based_billing"]

  subnetwork       = var.dataflow.subnetwork
  ip_configuration = var.dataflow.public_ips ? "WORKER_IP_PUBLIC" : "WORKER_IP_PRIVATE"

  # A drained job ends after it has written all events that it has read, and Terraform waits for that.
  on_delete                    = "drain"
  skip_wait_on_job_termination = false

  depends_on = [
    google_pubsub_subscription_iam_member.dataflow,
    terraform_data.bootstrap,
    terraform_data.ip_hash_key,
    terraform_data.pull,
  ]
}
