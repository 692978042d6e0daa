# Cloud Functions has no setting for how an instance is billed, and keeps that of the Cloud Run service that the function is:
# docs/decisions-infrastructure.md says why it is set there, and not by a google_cloud_run_v2_service. It is looked at after each deploy.

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
