resource "google_pubsub_topic" "events" {
  name                       = "${local.name}-events"
  labels                     = local.labels
  message_retention_duration = "${7 * 86400}s"
  kms_key_name               = lookup(local.keys, var.region, null)

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_pubsub_topic" "dead_letters" {
  name         = "${local.name}-dead-letters"
  labels       = local.labels
  kms_key_name = lookup(local.keys, var.region, null)

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}

# Without it, what is forwarded to the topic would be gone.
resource "google_pubsub_subscription" "dead_letters" {
  name                       = "${local.name}-dead-letters"
  topic                      = google_pubsub_topic.dead_letters.id
  labels                     = local.labels
  ack_deadline_seconds       = 60
  message_retention_duration = "${31 * 86400}s"

  expiration_policy {
    ttl = ""
  }

  lifecycle {
    prevent_destroy = true
  }
}

# Direct, not an Eventarc trigger: that one's hidden subscription keeps 24 hours and takes no dead-letter policy.
resource "google_pubsub_subscription" "ingest" {
  name                       = "${local.name}-ingest"
  topic                      = google_pubsub_topic.events.id
  labels                     = local.labels
  ack_deadline_seconds       = var.delivery.ack_deadline_seconds
  message_retention_duration = "${7 * 86400}s"

  push_config {
    push_endpoint = google_cloudfunctions2_function.ingest.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.this["push"].email
      audience              = google_cloudfunctions2_function.ingest.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "${var.delivery.minimum_backoff_seconds}s"
    maximum_backoff = "${var.delivery.maximum_backoff_seconds}s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = var.delivery.max_attempts
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.push,
    google_pubsub_topic_iam_member.forwards,
    google_pubsub_subscription.dead_letters,
  ]

  lifecycle {
    prevent_destroy = true
  }
}
