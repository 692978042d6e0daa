# Waits for changes that take effect in Google Cloud after the API has answered: permissions of the service account build, and
# new metrics.

resource "terraform_data" "permissions" {
  triggers_replace = [
    [for binding in google_project_iam_member.build : binding.id],
    google_artifact_registry_repository_iam_member.build.id,
    google_storage_bucket_iam_member.build.id,
  ]

  provisioner "local-exec" {
    command = "sleep 90"
  }
}

resource "terraform_data" "metrics" {
  triggers_replace = [google_logging_metric.this["lag"].id]

  provisioner "local-exec" {
    command = "sleep 90"
  }
}
