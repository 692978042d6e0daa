mock_provider "google-beta" {
  override_during = plan
}

mock_provider "google" {
  override_during = plan

  mock_resource "google_cloudfunctions2_function" {
    defaults = { service_config = { uri = "https://f.a.run.app" } }
  }

  mock_resource "google_bigquery_data_transfer_config" {
    defaults = { name = "projects/p/locations/l/transferConfigs/made" }
  }

  mock_resource "google_monitoring_notification_channel" {
    defaults = { name = "projects/p/notificationChannels/made" }
  }
}

variables {
  project_id  = "project"
  package     = "metrics.tf"
  deployers   = ["user:ada@example.com"]
  environment = "test"
}

run "each_table_and_each_stage_is_measured" {
  command = plan

  assert {
    condition = toset([for name, metric in google_logging_metric.this : trimprefix(name, "rows/") if startswith(name, "rows/")]) == setsubtract(
      [for file in fileset("../sql/schema", "*.sql") : trimsuffix(file, ".sql")],
      ["dataset", "historical_dataset", "dead_letters", "replays"],
    )
    error_message = "One metric for each table with events, by sql/schema."
  }

  assert {
    condition     = length([for name, metric in google_logging_metric.this : name if startswith(name, "dead-letters/")]) == 5
    error_message = "One metric for each stage of functions/core/dead_letters.py."
  }

  assert {
    condition     = google_logging_metric.this["rows/orders"].name == "sluice-test/rows/orders"
    error_message = "A metric's name begins with the environment's."
  }

  assert {
    condition = google_logging_metric.this["rows/orders"].filter == join(" AND ", [
      "resource.type=\"cloud_run_revision\"",
      "resource.labels.service_name=\"sluice-test-ingest\"",
      "log_id(\"run.googleapis.com/stdout\")",
      "jsonPayload.logger=\"functions.ingest.group_commit\"",
      "jsonPayload.message=\"flush\"",
      "jsonPayload.rows.orders>0",
    ])
    error_message = "The filter is of this function's flush lines with rows of the table, and no more."
  }

  assert {
    condition     = google_logging_metric.this["rows/orders"].value_extractor == "EXTRACT(jsonPayload.rows.orders)"
    error_message = "Rows are summed, not lines counted."
  }

  assert {
    condition = alltrue([
      for metric in google_logging_metric.this :
      (metric.value_extractor == null) == (metric.metric_descriptor[0].value_type == "INT64")
      && (metric.value_extractor == null) == (length(metric.bucket_options) == 0)
    ])
    error_message = "What has an extractor is a distribution with buckets, the rest counts lines."
  }

  assert {
    condition     = alltrue([for metric in google_logging_metric.this : !strcontains(metric.filter, "$")])
    error_message = "No placeholder is left in a filter."
  }
}

run "each_alert_is_complete" {
  command = plan

  variables {
    notification_channels = ["projects/project/notificationChannels/1"]
    alert_emails          = ["night@example.com"]
    alerts_disabled       = ["no_events"]
    runbook_url           = "https://example.com/operate.md"
  }

  assert {
    condition = toset(keys(google_monitoring_alert_policy.this)) == toset([
      "oldest_message", "undeliverable", "dead_letter_rate", "no_events", "missing", "conflicting_event_ids", "cost",
      "server_errors", "server_errors_slow", "lag", "lag_slow",
      "bootstrap_failed", "no_bootstrap", "reconcile_failed", "no_reconciliation", "compaction_failed", "failed_backups", "no_backups"
    ])
    error_message = "All alerts are there."
  }

  assert {
    condition = alltrue([
      for alert in google_monitoring_alert_policy.this :
      toset(alert.notification_channels) == toset(["projects/project/notificationChannels/1", "projects/p/notificationChannels/made"])
    ])
    error_message = "Each alert uses the given channels and addresses."
  }

  assert {
    condition     = google_monitoring_notification_channel.email["night@example.com"].labels.email_address == "night@example.com"
    error_message = "The address has a channel."
  }

  assert {
    condition = alltrue([
      for alert in google_monitoring_alert_policy.this :
      alert.documentation[0].links[0].url == "https://example.com/operate.md#${replace(lower(split(": ", alert.display_name)[1]), " ", "-")}"
      && strcontains(alert.documentation[0].content, "**What it means.**")
      && strcontains(alert.documentation[0].content, "**Check**\n\n1. ")
      && strcontains(alert.documentation[0].content, "**Run**\n\n```sh\n")
      && strcontains(alert.documentation[0].content, alert.documentation[0].links[0].url)
      && !strcontains(alert.documentation[0].content, "$${")
      && length(alert.documentation[0].content) < 8192
      && length(alert.documentation[0].subject) <= 255
    ])
    error_message = "Each alert has its meaning, checks and a command, and links to its runbook."
  }

  assert {
    condition = alltrue([
      for alert in google_monitoring_alert_policy.this :
      alltrue(flatten([
        for condition in alert.conditions : [
          for promql in condition.condition_prometheus_query_language : promql.disable_metric_validation && !strcontains(promql.query, "$")
        ]
      ]))
      && contains(["CRITICAL", "ERROR", "WARNING"], alert.severity)
      && alert.alert_strategy[0].auto_close == "3600s"
      && alert.user_labels == tomap(local.labels)
    ])
    error_message = "Each alert has a query without placeholders, a severity, an end and labels."
  }

  assert {
    condition     = [for key, alert in google_monitoring_alert_policy.this : key if !alert.enabled] == ["no_events"]
    error_message = "Exactly the given alerts are disabled."
  }
}

run "without_an_address_of_the_runbook_the_alerts_name_its_file" {
  command = plan

  assert {
    condition = alltrue([for key, alert in google_monitoring_alert_policy.this :
      length(alert.documentation[0].links) == 0
      && strcontains(alert.documentation[0].content, "**What it means.**")
      && endswith(trimspace(alert.documentation[0].content), "Details: docs/operate.md, ${local.alerts[key].title}")
    ])
    error_message = "The text has the name of the file, and no broken link."
  }
}

run "a_repository_whose_workflows_deploy_has_the_runbook" {
  command = plan

  variables {
    github = { repository = "acme/sluice", ref = "refs/heads/releases/1" }
  }

  assert {
    condition     = one(google_monitoring_alert_policy.this["lag"].documentation[0].links).url == "https://github.com/acme/sluice/blob/releases/1/docs/operate.md#events-arrive-late"
    error_message = one(google_monitoring_alert_policy.this["lag"].documentation[0].links).url
  }
}

run "a_repository_is_linked_without_the_numbers_of_its_subject" {
  command = plan

  variables {
    github = { repository = "acme@123456/sluice@456789", environment = "prod" }
  }

  assert {
    condition     = one(google_monitoring_alert_policy.this["lag"].documentation[0].links).url == "https://github.com/acme/sluice/blob/HEAD/docs/operate.md#events-arrive-late"
    error_message = one(google_monitoring_alert_policy.this["lag"].documentation[0].links).url
  }
}

run "thresholds_and_objectives_reach_queries_runbooks_dashboard_and_slos" {
  command = plan

  variables {
    alert_thresholds = {
      oldest_message_seconds = 421
      dead_letter_share      = 0.422
      dead_letter_minimum    = 423
      fast_burn_rate         = 20
      slow_burn_rate         = 4
      server_error_minimum   = 425
      freshness_minimum      = 424
      no_events_minutes      = 426
      billed_gib_in_day      = 427
      own_query_bytes        = 428
    }
    objectives = {
      availability = 0.98
      freshness    = 0.97
      lag_seconds  = 20
      rolling_days = 7
    }
  }

  assert {
    condition = alltrue([
      for key, end in {
        oldest_message   = "> 421"
        dead_letter_rate = ">= 423"
        no_events        = "[426m])) or vector(0)) < 1"
        cost             = "/ 1073741824 > 427"
      } : endswith(google_monitoring_alert_policy.this[key].conditions[0].condition_prometheus_query_language[0].query, end)
    ])
    error_message = "Thresholds of the queries are those of the variables."
  }

  assert {
    condition = (
      strcontains(google_monitoring_alert_policy.this["dead_letter_rate"].conditions[0].condition_prometheus_query_language[0].query, " > 0.422 and ")
      && strcontains(google_monitoring_alert_policy.this["cost"].conditions[0].condition_prometheus_query_language[0].query, " - 428 * ")
    )
    error_message = "Shares of the queries are those of the variables."
  }

  assert {
    condition = alltrue([
      for key, expected in {
        server_errors      = [20, 20, 424]
        server_errors_slow = [4, 4, 424]
        lag                = [20, 20, 423]
        lag_slow           = [4, 4, 423]
      } : [for condition in google_monitoring_alert_policy.this[key].conditions : condition.condition_threshold[0].threshold_value] == expected
    ])
    error_message = "Burn rates and the responses that are enough are those of the variables."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["oldest_message"].documentation[0].content, "421 seconds")
    error_message = "The runbook says the threshold that was crossed."
  }

  assert {
    condition = [
      for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles :
      tile.widget.scorecard.thresholds[0].value if can(tile.widget.scorecard)
    ] == [421, 0.5, 20, 0.4]
    error_message = "The top row is red where the alerts are."
  }

  assert {
    condition = (
      google_monitoring_slo.this["availability"].goal == 0.98
      && google_monitoring_slo.this["freshness"].goal == 0.97
      && google_monitoring_slo.this["freshness"].request_based_sli[0].distribution_cut[0].range[0].max == 20000
      && alltrue([for slo in google_monitoring_slo.this : slo.rolling_period_days == 7])
    )
    error_message = "The objectives are those of the variable."
  }
}

run "the_objectives_are_of_this_function" {
  command = plan

  assert {
    condition = (
      google_monitoring_slo.this["availability"].request_based_sli[0].good_total_ratio[0].good_service_filter
      == "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.\"service_name\"=\"sluice-test-ingest\" metric.label.\"response_code_class\"=\"2xx\""
    )
    error_message = "Availability is of the requests of ingest."
  }

  assert {
    condition = (
      google_monitoring_slo.this["freshness"].request_based_sli[0].distribution_cut[0].distribution_filter
      == "metric.type=\"logging.googleapis.com/user/${google_logging_metric.this["lag"].name}\" resource.type=\"cloud_run_revision\""
    )
    error_message = "Freshness is of the lag."
  }
}

run "a_burn_rate_alert_asks_for_both_windows_of_its_objective_and_for_enough_responses" {
  command = plan

  assert {
    condition = alltrue([
      for key, expected in {
        server_errors      = ["availability", 3600, 300, "5xx", 3600]
        server_errors_slow = ["availability", 86400, 7200, "5xx", 7200]
        lag                = ["freshness", 3600, 300, "2xx", 3600]
        lag_slow           = ["freshness", 86400, 7200, "2xx", 7200]
        } : google_monitoring_alert_policy.this[key].combiner == "AND" && [
        for condition in google_monitoring_alert_policy.this[key].conditions : condition.condition_threshold[0].filter
        ] == [
        "select_slo_burn_rate(\"projects/project/services/sluice-test/serviceLevelObjectives/${expected[0]}\", \"${expected[1]}s\")",
        "select_slo_burn_rate(\"projects/project/services/sluice-test/serviceLevelObjectives/${expected[0]}\", \"${expected[2]}s\")",
        "metric.type=\"run.googleapis.com/request_count\" resource.type=\"cloud_run_revision\" resource.label.\"service_name\"=\"sluice-test-ingest\" metric.label.\"response_code_class\"=\"${expected[3]}\"",
      ] && one(google_monitoring_alert_policy.this[key].conditions[2].condition_threshold[0].aggregations).alignment_period == "${expected[4]}s"
    ])
    error_message = "Two burn rates of the objective, and a number of responses of ingest."
  }
}

run "each_backup_has_to_run" {
  command = plan

  variables {
    backup = { copy_region = "us-east1" }
  }

  assert {
    condition = endswith(
      split(" unless ", google_monitoring_alert_policy.this["no_backups"].conditions[0].condition_prometheus_query_language[0].query)[0],
      "< ${length(google_bigquery_data_transfer_config.scheduled) + length(google_bigquery_data_transfer_config.copy)}",
    )
    error_message = "So many have to run as there are."
  }

  assert {
    condition = strcontains(
      google_monitoring_alert_policy.this["no_backups"].conditions[0].condition_prometheus_query_language[0].query,
      "config_id=~\"made\"",
    )
    error_message = "It is about this environment's own."
  }
}

run "the_dashboard_fits_and_has_nothing_that_cloud_monitoring_leaves_out" {
  command = plan

  assert {
    condition = alltrue([
      for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles :
      try(tile.xPos, 0) + tile.width <= 48 && tile.height > 0
    ])
    error_message = "Each tile is within the 48 columns."
  }

  assert {
    condition = sum([
      for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : tile.width * tile.height
    ]) == 48 * max([for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : try(tile.yPos, 0) + tile.height]...)
    error_message = "The rows are full; no tile lies on another."
  }

  assert {
    condition     = length(regexall(":(0|null|\"\"|\\[\\]|\\{\\})[,}\\]]", google_monitoring_dashboard.this.dashboard_json)) == 0
    error_message = "No zero, null or empty value: the plan after an apply is empty."
  }

  assert {
    condition     = toset(regexall("\\$.[a-z_]*.", google_monitoring_dashboard.this.dashboard_json)) == toset(["$${response_code}", "$${state}", "$${table}"])
    error_message = "No placeholder is left but the labels of legends."
  }

  assert {
    condition = toset(flatten([
      for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : [
        for line in tile.widget.xyChart.dataSets : line.legendTemplate
      ] if startswith(tile.widget.title, "Events per minute")
    ])) == local.repeated.tables
    error_message = "Each table has its line."
  }
}

run "what_is_no_emergency_pages_nobody_where_it_has_channels_of_its_own" {
  command = plan

  variables {
    notification_channels = ["projects/project/notificationChannels/1"]
    warning_channels      = ["projects/project/notificationChannels/2"]
  }

  assert {
    condition = alltrue([
      for alert in google_monitoring_alert_policy.this :
      toset(alert.notification_channels) == toset(["projects/project/notificationChannels/${alert.severity == "WARNING" ? 2 : 1}"])
    ])
    error_message = "WARNING uses the second, all others the first."
  }
}

# Each run gives one wrong value to each of several variables, for a plan takes seconds.

run "an_id_of_no_channel_a_name_an_unknown_alert_and_a_link_with_an_anchor_are_rejected" {
  command = plan

  variables {
    notification_channels    = ["night@example.com"]
    warning_channels         = ["morning@example.com"]
    alert_emails             = ["night"]
    alerts_disabled          = ["noise"]
    alert_auto_close_minutes = 29
    runbook_url              = "https://example.com/operate.md#top"
  }

  expect_failures = [
    var.notification_channels, var.warning_channels, var.alert_emails, var.alerts_disabled, var.alert_auto_close_minutes, var.runbook_url,
  ]
}

run "a_share_in_percent_and_an_objective_between_two_buckets_are_rejected" {
  command = plan

  variables {
    alert_auto_close_minutes = 10081
    alert_thresholds         = { dead_letter_share = 5 }
    objectives               = { lag_seconds = 12 }
    runbook_url              = "http://example.com/operate.md"
  }

  expect_failures = [var.alert_auto_close_minutes, var.alert_thresholds, var.objectives, var.runbook_url]
}

run "a_minimum_of_none_and_more_days_than_cloud_monitoring_takes_are_rejected" {
  command = plan

  variables {
    alert_auto_close_minutes = 30.5
    alert_thresholds         = { server_error_minimum = 0 }
    objectives               = { rolling_days = 31 }
  }

  expect_failures = [var.alert_auto_close_minutes, var.alert_thresholds, var.objectives]
}

run "one_redelivery_is_no_alarm_and_an_objective_is_never_all" {
  command = plan

  variables {
    alert_thresholds = { oldest_message_seconds = 60 }
    objectives       = { availability = 1 }
  }

  expect_failures = [var.alert_thresholds, var.objectives]
}

run "an_alert_that_could_never_ring_is_rejected" {
  command = plan

  variables {
    objectives = { freshness = 0.9 }
  }

  expect_failures = [google_monitoring_alert_policy.this["lag"]]
}

run "a_slow_burn_is_slower_than_a_fast_one" {
  command = plan

  variables {
    alert_thresholds = { slow_burn_rate = 15 }
  }

  expect_failures = [var.alert_thresholds]
}

run "half_a_minute_is_no_window" {
  command = plan

  variables {
    alert_thresholds = { no_events_minutes = 30.5 }
  }

  expect_failures = [var.alert_thresholds]
}

run "nothing_billed_is_no_budget" {
  command = plan

  variables {
    alert_thresholds = { billed_gib_in_day = 0 }
  }

  expect_failures = [var.alert_thresholds]
}

run "dataflow_has_the_same_metrics_of_its_own_lines" {
  command = plan

  variables {
    engine   = "dataflow"
    dataflow = { image = "us-central1-docker.pkg.dev/project/sluice-test/dataflow:7" }
  }

  assert {
    condition = google_logging_metric.this["rows/orders"].filter == join(" AND ", [
      "resource.type=\"dataflow_step\"",
      "resource.labels.job_name=\"sluice-test-ingest\"",
      "log_id(\"dataflow.googleapis.com/worker\")",
      "jsonPayload.message=~\"^flush [{]\"",
      "jsonPayload.message=~\"[^0-9A-Za-z_]rows[^0-9A-Za-z_]:[{][^}]*[^0-9A-Za-z_]orders[^0-9A-Za-z_]:[1-9]\"",
    ])
    error_message = google_logging_metric.this["rows/orders"].filter
  }

  assert {
    condition     = google_logging_metric.this["lag"].value_extractor == "REGEXP_EXTRACT(jsonPayload.message, \"[^0-9A-Za-z_]lag_ms[^0-9A-Za-z_]:([0-9]+)\")"
    error_message = google_logging_metric.this["lag"].value_extractor
  }

  assert {
    condition     = google_logging_metric.this["missing"].value_extractor == "EXTRACT(jsonPayload.missing)"
    error_message = "The reconciliation is a function."
  }

  assert {
    condition     = length(setintersection(["wait", "rejected"], keys(google_logging_metric.this))) == 0
    error_message = "A job rejects nothing."
  }

  assert {
    condition     = google_dataflow_flex_template_job.ingest[0].name == "sluice-test-ingest"
    error_message = "The metrics are of another job."
  }
}

run "dataflow_has_alerts_and_objectives_of_its_own" {
  command = plan

  variables {
    engine          = "dataflow"
    dataflow        = { image = "us-central1-docker.pkg.dev/project/sluice-test/dataflow:7" }
    alerts_disabled = ["server_errors", "no_events"]
    alert_thresholds = {
      system_lag_seconds     = 431
      data_freshness_seconds = 432
    }
  }

  assert {
    condition = toset(keys(google_monitoring_alert_policy.this)) == toset([
      "oldest_message", "undeliverable", "dead_letter_rate", "no_events", "missing", "conflicting_event_ids", "cost",
      "system_lag", "data_freshness", "no_job", "lag", "lag_slow",
      "bootstrap_failed", "no_bootstrap", "reconcile_failed", "no_reconciliation", "compaction_failed", "failed_backups", "no_backups"
    ])
    error_message = "All alerts are there, and none of requests."
  }

  assert {
    condition = alltrue([
      for key, end in { system_lag = "> 431", data_freshness = "> 432" } :
      endswith(google_monitoring_alert_policy.this[key].conditions[0].condition_prometheus_query_language[0].query, end)
      && strcontains(google_monitoring_alert_policy.this[key].documentation[0].content, " ${trimprefix(end, "> ")} seconds")
    ])
    error_message = "Thresholds are those of the variables."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["oldest_message"].documentation[0].content, "dataflow_step") && strcontains(google_monitoring_alert_policy.this["no_events"].documentation[0].content, "the job does not read")
    error_message = "The checks are about the job."
  }

  assert {
    condition     = keys(google_monitoring_slo.this) == ["freshness"] && strcontains(google_monitoring_slo.this["freshness"].request_based_sli[0].distribution_cut[0].distribution_filter, "resource.type=\"dataflow_job\"")
    error_message = "A job receives no requests; freshness is measured by its log lines."
  }

  assert {
    condition = [for condition in google_monitoring_alert_policy.this["lag"].conditions : condition.condition_threshold[0].filter] == [
      "select_slo_burn_rate(\"projects/project/services/sluice-test/serviceLevelObjectives/freshness\", \"3600s\")",
      "select_slo_burn_rate(\"projects/project/services/sluice-test/serviceLevelObjectives/freshness\", \"300s\")",
      "metric.type=\"pubsub.googleapis.com/subscription/ack_message_count\" resource.type=\"pubsub_subscription\" resource.label.\"subscription_id\"=\"sluice-test-ingest\"",
    ]
    error_message = "Two burn rates, and a number of acknowledged events."
  }
}

run "the_dashboard_of_dataflow_fits" {
  command = plan

  variables {
    engine   = "dataflow"
    dataflow = { image = "us-central1-docker.pkg.dev/project/sluice-test/dataflow:7" }
  }

  assert {
    condition = sum([
      for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : tile.width * tile.height
    ]) == 48 * max([for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : try(tile.yPos, 0) + tile.height]...)
    error_message = "The rows are full; no tile lies on another."
  }

  assert {
    condition     = length(regexall(":(0|null|\"\"|\\[\\]|\\{\\})[,}\\]]", google_monitoring_dashboard.this.dashboard_json)) == 0
    error_message = "No zero, null or empty value: the plan after an apply is empty."
  }

  assert {
    condition     = length(regexall("service_name=.{1,2}sluice-test-ingest|push_request_count", google_monitoring_dashboard.this.dashboard_json)) == 0
    error_message = "Nothing of the function is there."
  }
}
