# Alert policies and their notification channels. monitoring/alerts.yaml has the alerts, monitoring/queries.yaml their queries.

locals {
  each_selector = yamldecode(templatefile("${path.module}/monitoring/selectors.yaml", local.monitoring_names))
  selectors = merge(local.each_selector, {
    of_flushes = local.each_selector[{ functions = "of_ingest", batch = "of_drain", dataflow = "of_job" }[local.engine]]
  })

  queries = {
    for name, asked in yamldecode(templatefile("${path.module}/monitoring/queries.yaml", merge(local.monitoring_names, local.selectors))) :
    name => join(" + ", [
      for key in try(local.repeated[asked.each], [""]) : replace(asked.query, local.monitoring_names.each, key)
    ])
  }

  # Names that the templates of alerts and dashboard may use. failing_share is the share of failing requests at which the
  # error budget of availability burns at fast_burn_rate.
  monitoring_values = merge(local.monitoring_names, local.selectors, local.queries, var.alert_thresholds, var.objectives, local.lateness, {
    no_drain_for  = "${60 * var.batch.interval_minutes + 300}s"
    failing_share = tonumber(format("%.6f", var.alert_thresholds.fast_burn_rate * (1 - var.objectives.availability))) # Rounded, without floating-point noise.
  })

  # In batch mode, an event waits for the next run, and its load file for the run after that. A single late run is no emergency:
  # so much is at least three intervals. lag_seconds must be a bound of the metric's buckets.
  lateness = local.batch ? {
    oldest_message_seconds = max(var.alert_thresholds.oldest_message_seconds, local.three_intervals + 120)
    no_events_minutes      = max(var.alert_thresholds.no_events_minutes, local.three_intervals / 60)
    pending_seconds        = max(var.alert_thresholds.pending_seconds, local.three_intervals)
    lag_seconds            = min([for age in local.measured.buckets.ages : age / 1000 if age / 1000 >= max(var.objectives.lag_seconds, local.three_intervals)]...)
  } : {}
  three_intervals   = 3 * 60 * var.batch.interval_minutes
  alerts_of_engines = yamldecode(templatefile("${path.module}/monitoring/alerts.yaml", local.monitoring_values))
  alerts = {
    for name, alert in local.alerts_of_engines : name => merge(alert, try(alert[local.engine], {}))
    if contains(flatten([try(alert.engine, local.engine)]), local.engine) && (var.archive.compact || !can(alert.compact))
  }

  # An alert contains its short runbook, and a link to the section of docs/operate.md if its URL is known.
  runbook_url = var.runbook_url != null ? var.runbook_url : try("${local.github_page}/docs/operate.md", null)
  runbook_links = local.runbook_url == null ? {} : {
    for name, alert in local.alerts : name => "${local.runbook_url}#${replace(lower(alert.title), " ", "-")}"
  }
}

locals {
  # Minimum frequency of the runs for the alerts on absence. Their window and `for` in monitoring/alerts.yaml depend on it.
  expected_runs = {
    no_reconciliation = {
      schedule = var.reconcile_schedule
      # A larger no_reconciliation_minutes was chosen for the schedule.
      pattern = var.alert_thresholds.no_reconciliation_minutes > 90 ? "" : "^\\S+ \\*(/[12])? \\* \\* \\*$"
      often   = "every two hours (or raise alert_thresholds.no_reconciliation_minutes)"
    }
    no_bootstrap = { schedule = var.bootstrap_schedule, pattern = "^\\S+ \\S+ \\* \\* \\*$", often = "daily" }
  }

  # Known only after apply, so they cannot be in the template from which the keys of the alerts are read. The label
  # config_id is the last part of the name.
  backup_ids = join("|", sort(distinct([
    for config in concat(values(google_bigquery_data_transfer_config.scheduled), values(google_bigquery_data_transfer_config.copy)) : basename(config.name)
  ])))

  channels = concat(
    sort(tolist(var.notification_channels)),
    [for email in sort(tolist(var.alert_emails)) : google_monitoring_notification_channel.email[email].name],
  )
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  project      = var.project_id
  display_name = "${local.name}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  force_delete = true # Otherwise a channel could not be deleted, as alerts that name it are updated later.
  user_labels  = local.labels

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  project      = var.project_id
  display_name = "${local.name}: ${each.value.title}"
  severity     = each.value.severity
  enabled      = !contains(var.alerts_disabled, each.key)
  combiner     = can(each.value.burn) ? "AND" : "OR"
  user_labels  = local.labels

  notification_channels = each.value.severity == "WARNING" && length(var.warning_channels) > 0 ? sort(tolist(var.warning_channels)) : local.channels

  dynamic "conditions" {
    for_each = try([each.value.condition], [])
    content {
      display_name = each.value.title

      condition_prometheus_query_language {
        query               = replace(conditions.value, local.monitoring_names.backup_ids, local.backup_ids)
        duration            = each.value.for
        evaluation_interval = "60s"
        # Before the first value, a log-based metric and the metrics of BigQuery have no time series.
        disable_metric_validation = true
      }
    }
  }

  # The burn rate of the objective itself, as shown in the console:
  # https://cloud.google.com/stackdriver/docs/solutions/slo-monitoring/api/create-policy-api
  dynamic "conditions" {
    for_each = try(each.value.burn.seconds, [])
    content {
      display_name = "${each.value.burn.rate} times too fast for ${conditions.value / 60} minutes"

      condition_threshold {
        filter          = "select_slo_burn_rate(\"${local.objective_names[each.value.burn.objective]}\", \"${conditions.value}s\")"
        comparison      = "COMPARISON_GT"
        threshold_value = each.value.burn.rate
        duration        = "0s"
      }
    }
  }

  # A share of few requests is not significant. The maximum alignment_period of an alert is 25 hours:
  # https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.alertPolicies#Aggregation
  dynamic "conditions" {
    for_each = try([each.value.enough], [])
    content {
      display_name = "${conditions.value.responses} ${local.engine != "functions" ? "events acknowledged" : "responses ${conditions.value.class}"} in ${conditions.value.seconds / 60} minutes"

      condition_threshold {
        filter          = local.engine != "functions" ? local.acknowledged : "${local.requests_of_ingest} metric.label.\"response_code_class\"=\"${conditions.value.class}\""
        comparison      = "COMPARISON_GT"
        threshold_value = conditions.value.responses - 1
        duration        = "0s"

        aggregations {
          alignment_period     = "${conditions.value.seconds}s"
          per_series_aligner   = "ALIGN_DELTA"
          cross_series_reducer = "REDUCE_SUM"
        }
      }
    }
  }

  alert_strategy {
    auto_close = "${var.alert_auto_close_minutes * 60}s"
  }

  documentation {
    subject   = "${local.name}: ${each.value.title}"
    mime_type = "text/markdown"
    content = templatefile("${path.module}/monitoring/runbook.md", {
      alert = each.value
      story = lookup(local.runbook_links, each.key, "docs/operate.md, ${each.value.title}")
    })

    dynamic "links" {
      for_each = compact([lookup(local.runbook_links, each.key, "")])
      content {
        display_name = "Runbook"
        url          = links.value
      }
    }
  }

  lifecycle {
    precondition { # If all requests fail, the burn rate is 1 / (1 - goal).
      condition     = try(each.value.burn.rate * (1 - var.objectives[each.value.burn.objective]) < 1, true)
      error_message = "This alert could never ring: its burn rate times the error budget of its objective is less than 1. Raise the objective, or lower the rate in alert_thresholds."
    }
    precondition {
      condition     = contains(var.alerts_disabled, each.key) || !contains(keys(local.expected_runs), each.key) || can(regex(local.expected_runs[each.key].pattern, local.expected_runs[each.key].schedule))
      error_message = "The alert ${each.key} would ring between the runs of ${try(local.expected_runs[each.key].schedule, "")}, which are not at least ${try(local.expected_runs[each.key].often, "")}: add it to alerts_disabled."
    }
  }

  # A policy may name a metric that has no values yet, but the metric must exist.
  depends_on = [google_logging_metric.this]
}

moved {
  from = google_monitoring_alert_policy.watching
  to   = google_monitoring_alert_policy.this
}
