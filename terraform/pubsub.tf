variable "message_regions" {
  description = <<-TEXT
    Regions in which messages may be stored, such as ["us-central1", "us-east1"]. Empty: Google stores them near the
    publisher, as far as the policy of the organization allows. With a single region, nobody can publish during its outage.
  TEXT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for region in var.message_regions : can(regex("^[a-z]+-[a-z]+[0-9]+$", region))])
    error_message = "message_regions: each is a region, such as us-central1."
  }
}

locals {
  subscription = "${local.name}-ingest"
  # The settings of ingest cannot refer to the subscription, which depends on ingest.
  subscription_id = "projects/${var.project_id}/subscriptions/${local.subscription}"
}

resource "google_pubsub_topic" "events" {
  project                    = var.project_id
  name                       = "${local.name}-events"
  labels                     = local.labels
  message_retention_duration = "${7 * 86400}s"
  kms_key_name               = lookup(local.keys, var.region, null)

  dynamic "message_storage_policy" {
    for_each = length(var.message_regions) > 0 ? [var.message_regions] : []
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_pubsub_topic" "dead_letters" {
  project      = var.project_id
  name         = "${local.name}-dead-letters"
  labels       = local.labels
  kms_key_name = lookup(local.keys, var.region, null)

  dynamic "message_storage_policy" {
    for_each = length(var.message_regions) > 0 ? [var.message_regions] : []
    content {
      allowed_persistence_regions = message_storage_policy.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}

# Without a subscription, messages forwarded to the topic would be lost.
resource "google_pubsub_subscription" "dead_letters" {
  project                    = var.project_id
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

# A direct subscription instead of an Eventarc trigger, whose hidden subscription keeps messages for 24 hours only and
# supports no dead-letter policy.
resource "google_pubsub_subscription" "ingest" {
  project                    = var.project_id
  name                       = local.subscription
  topic                      = google_pubsub_topic.events.id
  labels                     = local.labels
  ack_deadline_seconds       = var.delivery.ack_deadline_seconds
  message_retention_duration = "${7 * 86400}s"

  # With Dataflow and in batch mode, the same subscription has no push and keeps its messages. Two subscriptions would deliver
  # each event twice.
  dynamic "push_config" {
    for_each = local.dataflow || local.batch ? [] : [google_cloudfunctions2_function.ingest.service_config[0].uri]
    content {
      push_endpoint = push_config.value

      oidc_token {
        service_account_email = google_service_account.this["push"].email
        audience              = push_config.value
      }
    }
  }

  # Dataflow supports neither of these two (https://cloud.google.com/pubsub/docs/handling-failures). A job that is slow or
  # scales down misses deadlines, so that good events would become undeliverable.
  dynamic "retry_policy" {
    for_each = local.dataflow ? [] : [var.delivery]
    content {
      minimum_backoff = "${retry_policy.value.minimum_backoff_seconds}s"
      maximum_backoff = "${retry_policy.value.maximum_backoff_seconds}s"
    }
  }

  dynamic "dead_letter_policy" {
    for_each = local.dataflow ? [] : [var.delivery]
    content {
      dead_letter_topic     = google_pubsub_topic.dead_letters.id
      max_delivery_attempts = dead_letter_policy.value.max_attempts
    }
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [
    google_cloud_run_v2_service_iam_member.push,
    google_cloudfunctions2_function.drain,
    google_pubsub_topic_iam_member.forwards,
    google_pubsub_subscription.dead_letters,
    terraform_data.pull,
  ]

  lifecycle {
    prevent_destroy = true
  }
}
