# Cloud Functions has no setting for the billing of instances, and keeps that of the Cloud Run service of the function.
# docs/decisions-infrastructure.md explains why a script sets it instead of google_cloud_run_v2_service. It is checked after each deployment.

resource "terraform_data" "billing" {
  triggers_replace = [
    google_cloudfunctions2_function.ingest.id,
    terraform_data.bootstrap.id,
    var.ingest,
    var.vpc,
  ]

  provisioner "local-exec" {
    command = "sh ${path.module}/set_billing.sh"
    environment = {
      BILLING = var.ingest.billing
      SERVICE = google_cloudfunctions2_function.ingest.name
      REGION  = var.region
      PROJECT = var.project_id
    }
  }

  depends_on = [google_cloudfunctions2_function.ingest]
}
