# Log-based metrics of functions and workers. monitoring/metrics.yaml defines them, in a form that the tests read too.

locals {
  # What receives the events, as monitoring/ names it: functions is the push to ingest.
  engine = local.batch ? "batch" : var.engine

  # Keys for which a metric, a query or a line of the dashboard is repeated.
  repeated = {
    # Each table with events, by its definition. Dead letters are measured by stage.
    tables = toset([
      for file in fileset("${path.module}/../sql/schema", "*.sql") : trimsuffix(file, ".sql")
      if strcontains(file("${path.module}/../sql/schema/${file}"), "ingest STRUCT")
    ])
    # Values of Stage in functions/core/dead_letters.py.
    stages = toset(["contract", "decode", "enrich", "time_bounds", "warehouse"])
  }

  # Names that the templates of monitoring/ may use. ${each} and ${backup_ids} are replaced later.
  monitoring_names = {
    project_id               = var.project_id
    job                      = "${local.name}-ingest"
    ingest                   = google_cloudfunctions2_function.ingest.name
    bootstrap                = google_cloudfunctions2_function.called["bootstrap"].name
    bootstrap_job            = google_cloud_scheduler_job.called["bootstrap"].name
    reconcile                = google_cloudfunctions2_function.called["reconcile"].name
    reconcile_job            = google_cloud_scheduler_job.called["reconcile"].name
    compact                  = try(google_cloudfunctions2_function.called["compact"].name, "")
    compact_job              = try(google_cloud_scheduler_job.called["compact"].name, "")
    drain                    = join("", google_cloudfunctions2_function.drain[*].name)
    drain_job                = join("", google_cloud_scheduler_job.drain[*].name)
    drain_window_minutes     = max(15, 3 * var.batch.interval_minutes)
    topic                    = google_pubsub_topic.events.name
    subscription             = google_pubsub_subscription.ingest.name
    dead_letter_subscription = google_pubsub_subscription.dead_letters.name
    dataset                  = var.dataset
    region                   = var.region
    backup_count             = length(local.scheduled_queries) + (var.backup.copy_region == null ? 0 : length(local.datasets))
    # https://cloud.google.com/monitoring/promql/promql-mapping
    metrics = "logging_googleapis_com:user_${replace(local.name, "-", "_")}"
    each    = "$${each}"
    # terraform/alerts.tf
    backup_ids = "$${backup_ids}"
  }

  measured = yamldecode(templatefile("${path.module}/monitoring/metrics.yaml", local.monitoring_names))

  metrics = merge([
    for name, metric in local.measured.metrics : {
      for key in try(local.repeated[metric.each], [""]) : trimsuffix("${name}/${key}", "/") => {
        about   = replace(metric.about, local.monitoring_names.each, key)
        source  = metric.source == "flush" ? local.flush_source : metric.source
        where   = replace(try(metric.where, ""), local.monitoring_names.each, key)
        value   = try(replace(metric.value, local.monitoring_names.each, key), null)
        buckets = try(local.measured.buckets[metric.buckets], null)
        unit    = try(metric.unit, "1")
      }
    } if contains(flatten([try(metric.engine, local.engine)]), local.engine) && (var.archive.compact || !can(metric.compact))
  ]...)
  flush_source = { functions = "flush", batch = "flush_of_drain", dataflow = "flush_of_dataflow" }[local.engine]

  # Dataflow logs the fields as JSON in a text. The text has "rows":{..."orders": before the number of
  # jsonPayload.rows.orders. A character class that matches no part of a name stands for a quotation mark.
  paths = toset(flatten([for metric in local.metrics : [for text in [metric.where, metric.value] : regexall("jsonPayload\\.[\\w.]+", text) if text != null]]))
  before = { for path in local.paths :
    path => "[^0-9A-Za-z_]${join("[^0-9A-Za-z_]:[{][^}]*[^0-9A-Za-z_]", split(".", trimprefix(path, "jsonPayload.")))}[^0-9A-Za-z_]:"
  }

  extracted = {
    for name, metric in local.metrics : name => metric.source == "flush_of_dataflow" ? {
      filter = join(" AND ", compact([
        local.measured.sources[metric.source],
        metric.where == "" ? "" : "jsonPayload.message=~\"${local.before[trimsuffix(metric.where, ">0")]}[1-9]\"",
      ]))
      value = metric.value == null ? null : "REGEXP_EXTRACT(jsonPayload.message, \"${local.before[metric.value]}([0-9]+)\")"
      } : {
      filter = join(" AND ", compact([local.measured.sources[metric.source], metric.where]))
      value  = metric.value == null ? null : "EXTRACT(${metric.value})"
    }
  }
}

resource "google_logging_metric" "this" {
  for_each = local.metrics

  project     = var.project_id
  name        = "${local.name}/${each.key}"
  description = each.value.about
  filter      = local.extracted[each.key].filter

  value_extractor = local.extracted[each.key].value

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = each.value.value == null ? "INT64" : "DISTRIBUTION"
    unit        = each.value.unit
  }

  dynamic "bucket_options" {
    for_each = each.value.buckets == null ? [] : [each.value.buckets]
    content {
      explicit_buckets {
        bounds = bucket_options.value
      }
    }
  }

  lifecycle {
    precondition {
      condition     = length("${local.name}/${each.key}") <= 100
      error_message = "environment: too long, as the name of a metric has at most 100 characters."
    }
  }
}

moved {
  from = google_logging_metric.watching
  to   = google_logging_metric.this
}
