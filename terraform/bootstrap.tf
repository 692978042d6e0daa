# After each deploy, and before ingest gets the new code.
resource "terraform_data" "bootstrap" {
  triggers_replace = [
    google_storage_bucket_object.package.name,
    sha256(jsonencode(local.settings)),
  ]

  provisioner "local-exec" {
    command = "sh ${path.module}/run_bootstrap.sh"
    environment = {
      URI     = google_cloudfunctions2_function.bootstrap.service_config[0].uri
      ACCOUNT = google_service_account.this["caller"].email
    }
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.bootstrap,
    google_service_account_iam_member.deployer,
    google_project_iam_member.jobs,
    google_data_catalog_taxonomy_iam_member.bootstrap,
    google_bigquery_datapolicy_data_policy_iam_member.masked,
  ]
}

# And daily: what somebody has changed by hand shows itself, and is mended or reported.
resource "google_cloud_scheduler_job" "bootstrap" {
  name             = "${local.name}-bootstrap"
  description      = "Runs the bootstrap"
  region           = var.region
  schedule         = var.bootstrap_schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "600s"

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.bootstrap.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.this["caller"].email
      audience              = google_cloudfunctions2_function.bootstrap.service_config[0].uri
    }
  }

  retry_config {
    retry_count          = 3
    min_backoff_duration = "30s"
    max_backoff_duration = "300s"
  }

  depends_on = [google_project_service.needed]
}
