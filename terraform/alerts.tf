# Who is woken, when, and what they read then. watching/alerts.yaml has the alerts, watching/queries.yaml what they ask.

locals {
  selectors = yamldecode(templatefile("${path.module}/watching/selectors.yaml", local.watching))

  queries = {
    for name, asked in yamldecode(templatefile("${path.module}/watching/queries.yaml", merge(local.watching, local.selectors))) :
    name => join(" + ", [
      for key in try(local.repeated[asked.each], [""]) : replace(asked.query, local.watching.each, key)
    ])
  }

  # Everything that alerts and dashboard may name.
  watched = merge(local.watching, local.selectors, local.queries, var.alert_thresholds, var.objectives)
  alerts  = yamldecode(templatefile("${path.module}/watching/alerts.yaml", local.watched))

  # An alert has its runbook in it; the link to the whole story is of who deploys this, or there is none.
  runbook_url = var.runbook_url != null ? var.runbook_url : try(
    "https://github.com/${var.github.repository}/blob/${regex("^refs/[a-z]+/(.+)$", var.github.ref)[0]}/docs/operate.md", null,
  )
  runbook_links = local.runbook_url == null ? {} : {
    for name, alert in local.alerts : name => "${local.runbook_url}#${replace(lower(alert.title), " ", "-")}"
  }
}

locals {
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
  force_delete = true # or a channel could not go before the alerts that name it, which are changed after it
  user_labels  = local.labels

  depends_on = [google_project_service.needed]
}

resource "google_monitoring_alert_policy" "watching" {
  for_each = local.alerts

  project      = var.project_id
  display_name = "${local.name}: ${each.value.title}"
  severity     = each.value.severity
  enabled      = !contains(var.alerts_disabled, each.key)
  combiner     = "OR"
  user_labels  = local.labels

  notification_channels = local.channels

  conditions {
    display_name = each.value.title

    condition_prometheus_query_language {
      query               = each.value.condition
      duration            = each.value.for
      evaluation_interval = "60s"
      # A log-based metric has no series, and BigQuery's none for a project, before the first value.
      disable_metric_validation = true
    }
  }

  alert_strategy {
    auto_close = "${var.alert_auto_close_minutes * 60}s"
  }

  documentation {
    subject   = "${local.name}: ${each.value.title}"
    mime_type = "text/markdown"
    content = templatefile("${path.module}/watching/runbook.md", {
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

  # A policy may name a metric before it has values, not before it exists.
  depends_on = [google_logging_metric.watching]
}
