# Service agents of Google that impersonate service accounts of this module. `gcloud beta services identity create` creates
# them (docs/deploy.md), as the resource google_project_service_identity is in the google-beta provider only.

variable "project_older_than_april_2021" {
  description = "Whether the project was created before 8 April 2021. In such a project, Pub/Sub needs a binding to create tokens of the service account with which it pushes."
  type        = bool
  default     = false
  nullable    = false
}

# https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
resource "google_service_account_iam_member" "pubsub_agent" {
  count = var.project_older_than_april_2021 ? 1 : 0

  service_account_id = google_service_account.this["push"].id
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
}

# Scheduled queries and copies run as the service account backup. The binding is on this service account instead of the
# project, unlike in the examples of the provider: https://cloud.google.com/bigquery/docs/dts-authentication-authorization
resource "google_service_account_iam_member" "transfer_agent" {
  service_account_id = google_service_account.this["backup"].id
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-bigquerydatatransfer.iam.gserviceaccount.com"

  depends_on = [google_project_service.needed]
}
