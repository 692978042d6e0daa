# Runs the bootstrap in each deployment, before ingest gets the new code.
resource "terraform_data" "bootstrap" {
  triggers_replace = [
    local.package_object,
    sha256(jsonencode(local.settings)),
  ]

  provisioner "local-exec" {
    command = "sh ${path.module}/run_bootstrap.sh"
    environment = {
      PROJECT  = var.project_id
      REGION   = var.region
      FUNCTION = google_cloudfunctions2_function.called["bootstrap"].name
      ACCOUNT  = google_service_account.this["caller"].email
      JOB      = google_cloud_scheduler_job.called["bootstrap"].name
    }
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.called,
    google_service_account_iam_member.deployer,
    google_project_iam_member.jobs,
    google_storage_bucket_iam_member.bootstrap,
    google_data_catalog_taxonomy_iam_member.bootstrap,
    google_bigquery_datapolicy_data_policy_iam_member.masked,
  ]
}
