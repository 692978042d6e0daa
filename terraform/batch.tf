# The function drain, which pulls the subscription of ingest: ingest.mode = "batch". Its service account and roles are in
# service_accounts.tf, its bindings are in iam.tf and warehouse.tf.

locals {
  batch = var.ingest.mode == "batch"

  # unix-cron has no step of 60 minutes.
  drain_schedule = var.batch.interval_minutes == 60 ? "0 * * * *" : "*/${var.batch.interval_minutes} * * * *"

  # functions/drain stops pulling after 180 s.
  drain_timeout_seconds = 300
}

# Like ingest, it is deployed after its tables have been updated.
resource "google_cloudfunctions2_function" "drain" {
  count = local.batch ? 1 : 0

  project      = var.project_id
  name         = "${local.name}-drain"
  description  = "Events from Pub/Sub into BigQuery by load jobs, and into Cloud Storage"
  location     = var.region
  labels       = local.labels
  kms_key_name = lookup(local.keys, var.region, null)

  build_config {
    runtime           = "python313"
    entry_point       = "drain"
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.this["build"].id

    environment_variables = local.build_variables

    source {
      storage_source {
        bucket = google_storage_bucket.packages.name
        object = local.package_object
      }
    }
  }

  # A single run at any time: the runs share a list of load files. Less than one CPU also requires a concurrency of 1.
  service_config {
    available_cpu                    = tostring(var.batch.cpu)
    available_memory                 = var.batch.memory
    max_instance_count               = 1
    max_instance_request_concurrency = 1
    timeout_seconds                  = local.drain_timeout_seconds
    ingress_settings                 = local.ingress_settings.ingest
    vpc_connector                    = local.vpc_connector
    vpc_connector_egress_settings    = local.vpc_connector == null ? null : local.vpc_egress
    all_traffic_on_latest_revision   = true
    service_account_email            = google_service_account.this["drain"].email
    environment_variables            = local.settings

    dynamic "secret_environment_variables" {
      for_each = local.ip_hash_key
      content {
        project_id = var.project_id
        key        = secret_environment_variables.key
        secret     = secret_environment_variables.value
        version    = var.ip_hash_key_version
      }
    }
  }

  depends_on = [
    google_secret_manager_secret_iam_member.ip_hash_key,
    terraform_data.bootstrap,
    terraform_data.ip_hash_key,
    terraform_data.pull,
  ]
}

# The order of a switch, together with terraform_data.pull (dataflow.tf):
#
# - to batch mode: drain is deployed, then the push stops, then this resource is created, then the schedule starts.
# - back: the schedule is deleted, then this resource is destroyed, which waits for the last run, then drain and its permissions
#   are destroyed, then the push starts.
#
# So at most one of the two functions receives events at any time. Events published in between wait in the subscription.
resource "terraform_data" "drain" {
  count = local.batch ? 1 : 0

  # The permission to pull takes a while to take effect.
  provisioner "local-exec" {
    command = "sleep 90"
  }

  # The timeout of the function.
  provisioner "local-exec" {
    when    = destroy
    command = "sleep 300"
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.drain,
    google_pubsub_subscription_iam_member.drain,
    terraform_data.pull,
  ]
}

# Without retries, which is the default: the next run does what a failed one did not do.
resource "google_cloud_scheduler_job" "drain" {
  count = local.batch ? 1 : 0

  project          = var.project_id
  name             = google_cloudfunctions2_function.drain[0].name
  description      = "Runs drain"
  region           = var.region
  schedule         = local.drain_schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${local.drain_timeout_seconds}s"

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.drain[0].service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.this["caller"].email
      audience              = google_cloudfunctions2_function.drain[0].service_config[0].uri
    }
  }

  depends_on = [terraform_data.drain]
}
