output "topic" {
  description = "Publish events to it."
  value       = google_pubsub_topic.events.id
}

output "dead_letter_subscription" {
  description = "Messages that could not be delivered."
  value       = google_pubsub_subscription.dead_letters.id
}

output "archive_bucket" {
  description = "Every raw event."
  value       = google_storage_bucket.archive.name
}

output "functions" {
  description = "The functions' addresses."
  value = {
    ingest    = google_cloudfunctions2_function.ingest.service_config[0].uri
    bootstrap = google_cloudfunctions2_function.called["bootstrap"].service_config[0].uri
    reconcile = google_cloudfunctions2_function.called["reconcile"].service_config[0].uri
  }
}

output "settings" {
  description = "Environment of the `sluice` command, and of the functions: `eval \"$(terraform output -raw settings)\"`."
  value       = join("\n", [for name, value in local.settings : "export ${name}='${value}'"])
}

output "workload_identity_provider" {
  description = "For the workflow's google-github-actions/auth step; null without var.github."
  value       = one(google_iam_workload_identity_pool_provider.github[*].name)
}

output "ci_account" {
  description = "The account that the workflow deploys as; null without var.github."
  value       = one(google_service_account.ci[*].email)
}
