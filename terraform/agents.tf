# Google's own accounts that act as ours. They are made by `gcloud beta services identity create`, as docs/deploy.md says:
# the resource for it, google_project_service_identity, is in the google-beta provider only.

variable "project_older_than_april_2021" {
  description = "Whether the project was made before 8 April 2021. Then Pub/Sub may not make tokens of the account that it pushes as until it is allowed to."
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

# Scheduled queries and copies run as the backup account. On this account alone, and not on the project as the provider's
# examples have it: https://cloud.google.com/bigquery/docs/dts-authentication-authorization
resource "google_service_account_iam_member" "transfer_agent" {
  service_account_id = google_service_account.this["backup"].id
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-bigquerydatatransfer.iam.gserviceaccount.com"

  depends_on = [google_project_service.needed]
}
