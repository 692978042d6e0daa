# The service-level objectives, as docs/operate.md explains them.

locals {
  requests_of_ingest = "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.\"service_name\"=\"${local.monitoring_names.ingest}\""

  # Their replacement with Dataflow and in batch mode, where ingest receives no requests.
  acknowledged = "metric.type=\"pubsub.googleapis.com/subscription/ack_message_count\" resource.type=\"pubsub_subscription\" resource.label.\"subscription_id\"=\"${local.monitoring_names.subscription}\""

  # Not taken from the resource, so that a plan shows the query of an alert.
  objective_names = {
    for key, slo in google_monitoring_slo.this :
    key => "projects/${var.project_id}/services/${slo.service}/serviceLevelObjectives/${slo.slo_id}"
  }

  objectives = { for key, objective in {
    availability = {
      title = "${var.objectives.availability * 100} % of the requests are answered without a failure"
      goal  = var.objectives.availability
      # 4xx are not counted: 400 is an invalid request, and 429 is back-pressure, which affects freshness.
      good = "${local.requests_of_ingest} metric.label.\"response_code_class\"=\"2xx\""
      bad  = "${local.requests_of_ingest} metric.label.\"response_code_class\"=\"5xx\""
    }
    freshness = {
      title = "${var.objectives.freshness * 100} % of the flushes end within ${local.monitoring_values.lag_seconds} s of their oldest event"
      goal  = var.objectives.freshness
      lag   = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.this["lag"].name}\" resource.type=\"${local.dataflow ? "dataflow_job" : "cloud_run_revision"}\""
    }
  } : key => objective if key != "availability" || local.engine == "functions" } # Otherwise there are no requests.
}

resource "google_monitoring_custom_service" "sluice" {
  project      = var.project_id
  service_id   = local.name
  display_name = local.name
  user_labels  = local.labels

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_slo" "this" {
  for_each = local.objectives

  # Its metric must exist, which takes about a minute after its creation.
  depends_on = [terraform_data.metrics]

  project             = var.project_id
  service             = google_monitoring_custom_service.sluice.service_id
  slo_id              = each.key
  display_name        = each.value.title
  goal                = each.value.goal
  rolling_period_days = var.objectives.rolling_days
  user_labels         = local.labels

  request_based_sli {
    dynamic "good_total_ratio" {
      for_each = try([each.value.good], [])
      content {
        good_service_filter = each.value.good
        bad_service_filter  = each.value.bad
      }
    }

    dynamic "distribution_cut" {
      for_each = try([each.value.lag], [])
      content {
        distribution_filter = each.value.lag
        range {
          max = local.monitoring_values.lag_seconds * 1000
        }
      }
    }
  }
}

moved {
  from = google_monitoring_slo.watching
  to   = google_monitoring_slo.this
}
