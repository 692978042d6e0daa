output "topic" {
  description = "Topic for events."
  value       = google_pubsub_topic.events.id
}

output "dead_letter_subscription" {
  description = "Subscription with the messages that could not be delivered."
  value       = google_pubsub_subscription.dead_letters.id
}

output "archive_bucket" {
  description = "Bucket with all raw events."
  value       = google_storage_bucket.archive.name
}

output "functions" {
  description = "URLs of the functions."
  value = merge({ ingest = google_cloudfunctions2_function.ingest.service_config[0].uri }, {
    for name, function in google_cloudfunctions2_function.called : name => function.service_config[0].uri
  }, { for function in google_cloudfunctions2_function.drain : "drain" => function.service_config[0].uri })
}

output "images" {
  description = "Repository of images. Push the image of dataflow/Dockerfile to it, as dataflow."
  value       = "${var.region}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.images.repository_id}"
}

output "settings" {
  description = "Environment of the `sluice` command: `eval \"$(terraform output -raw settings)\"`. Keys are fetched from Secret Manager, not shown."
  value = join("\n", concat(
    [for name, value in merge(local.settings, {
      SLUICE_TOPIC         = google_pubsub_topic.events.id
      SLUICE_UNDELIVERABLE = google_pubsub_subscription.dead_letters.id
    }) : "export ${name}='${value}'"],
    [for name, secret in local.ip_hash_key : "export ${name}=\"$(gcloud secrets versions access ${var.ip_hash_key_version} --secret=${secret} --project=${var.project_id})\""],
  ))
}

output "workload_identity_provider" {
  description = "Workload identity provider for the step google-github-actions/auth; null without var.github."
  value       = one(google_iam_workload_identity_pool_provider.github[*].name)
}

output "ci_account" {
  description = "Service account with which the workflow deploys; null without var.github."
  value       = one(google_service_account.ci[*].email)
}

output "github_variables" {
  description = "Variables of the GitHub environment that deploys here: `terraform output -raw github_variables | gh variable set --env NAME --env-file -`. Null without var.github."
  value = var.github == null ? null : join("\n", [for name, value in {
    ARCHIVE_BUCKET             = google_storage_bucket.archive.name
    ARCHIVE_COMPACT            = var.archive.compact
    CI_ACCOUNT                 = google_service_account.ci[0].email
    DATASET                    = google_bigquery_dataset.events["live"].dataset_id
    GOOGLE_CLOUD_PROJECT       = var.project_id
    HISTORICAL_DATASET         = google_bigquery_dataset.events["historical"].dataset_id
    INGEST_MODE                = var.ingest.mode
    LOCATION                   = var.region
    PACKAGES_BUCKET            = google_storage_bucket.packages.name
    RETENTION_DAYS             = var.retention_days
    SLUICE_NAME                = local.name
    SLUICE_TOPIC               = google_pubsub_topic.events.id
    WORKLOAD_IDENTITY_PROVIDER = google_iam_workload_identity_pool_provider.github[0].name
  } : "${name}=${value}"])
}
