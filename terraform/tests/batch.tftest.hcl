# ingest.mode = "batch": the function drain, its service account, its subscription, and its monitoring.

mock_provider "google-beta" {
  override_during = plan
}

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project_id = "a-project"
  deployers  = ["user:ada@example.com"]
  package    = "versions.tf"
  ingest     = { mode = "batch", min_instances = 1 }
}

run "push_has_nothing_of_batch_mode" {
  command = plan
  variables {
    ingest = {}
  }

  assert {
    condition = length(concat(
      google_cloudfunctions2_function.drain, google_cloud_scheduler_job.drain, terraform_data.drain, terraform_data.pull,
      google_pubsub_subscription_iam_member.drain, google_cloud_run_v2_service_iam_member.drain, keys(google_storage_bucket_iam_member.archive_drain),
    )) == 0
    error_message = "A function, a schedule, a binding or a wait that is not configured."
  }
  assert {
    condition     = !contains(keys(google_service_account.this), "drain") && length(setintersection(["consumer", "load_writer", "lister", "archive_reader"], keys(google_project_iam_custom_role.this))) == 0
    error_message = "A service account or a role that is not configured."
  }
  assert {
    condition     = !contains(google_project_iam_custom_role.this["operator"].permissions, "cloudscheduler.jobs.pause") && !contains(keys(output.functions), "drain")
    error_message = "Permissions or outputs that are not needed."
  }
}

run "drain_pulls_the_same_subscription_each_minute" {
  command = plan

  # nobody pushes and what cannot be delivered still goes to the dead letter topic
  assert {
    condition     = length(google_pubsub_subscription.ingest.push_config) == 0
    error_message = "A subscription with a push cannot be pulled."
  }
  assert {
    condition     = google_pubsub_subscription.ingest.dead_letter_policy[0].max_delivery_attempts == 100 && google_pubsub_subscription.ingest.retry_policy[0].maximum_backoff == "600s"
    error_message = "attempts or backoff"
  }
  assert {
    condition     = google_pubsub_subscription.ingest.name == "sluice-dev-ingest" && google_pubsub_subscription.ingest.message_retention_duration == "604800s" && google_pubsub_subscription.ingest.expiration_policy[0].ttl == ""
    error_message = "It is the subscription of the push, and keeps what it has."
  }

  # one run at a time as an account of its own and called by nobody but the schedule
  assert {
    condition = (
      google_cloudfunctions2_function.drain[0].build_config[0].entry_point == "drain"
      && google_cloudfunctions2_function.drain[0].build_config[0].source[0].storage_source[0].object == google_storage_bucket_object.package[0].name
      && google_cloudfunctions2_function.drain[0].build_config[0].environment_variables == google_cloudfunctions2_function.ingest.build_config[0].environment_variables
      && google_cloudfunctions2_function.drain[0].build_config[0].docker_repository == google_artifact_registry_repository.images.id
    )
    error_message = "package, entry point or build"
  }
  assert {
    condition = (
      google_cloudfunctions2_function.drain[0].service_config[0].max_instance_count == 1
      && google_cloudfunctions2_function.drain[0].service_config[0].max_instance_request_concurrency == 1
      && google_cloudfunctions2_function.drain[0].service_config[0].timeout_seconds == 300
    )
    error_message = "Two runs would share a list of load files."
  }
  assert {
    condition     = google_cloudfunctions2_function.drain[0].service_config[0].available_cpu == "0.333" && google_cloudfunctions2_function.drain[0].service_config[0].available_memory == "512Mi"
    error_message = "cpu or memory"
  }
  assert {
    condition     = google_cloudfunctions2_function.drain[0].service_config[0].service_account_email == "drain@a" && google_cloudfunctions2_function.drain[0].service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "account or ingress"
  }
  assert {
    condition     = google_cloudfunctions2_function.drain[0].service_config[0].environment_variables == google_cloudfunctions2_function.ingest.service_config[0].environment_variables
    error_message = "It reads the same settings."
  }
  assert {
    condition     = local.settings.SUBSCRIPTION == "projects/${google_pubsub_subscription.ingest.project}/subscriptions/${google_pubsub_subscription.ingest.name}"
    error_message = "It pulls another subscription."
  }
  assert {
    condition = (
      google_cloud_scheduler_job.drain[0].schedule == "*/1 * * * *"
      && google_cloud_scheduler_job.drain[0].attempt_deadline == "300s"
      && google_cloud_scheduler_job.drain[0].time_zone == "Etc/UTC"
      && length(google_cloud_scheduler_job.drain[0].retry_config) == 0
    )
    error_message = "schedule, deadline, or retries that would meet the next run"
  }
  assert {
    condition = (
      google_cloud_scheduler_job.drain[0].http_target[0].uri == "https://drain-x7.a.run.app"
      && google_cloud_scheduler_job.drain[0].http_target[0].http_method == "POST"
      && google_cloud_scheduler_job.drain[0].http_target[0].oidc_token[0].audience == "https://drain-x7.a.run.app"
      && google_cloud_scheduler_job.drain[0].http_target[0].oidc_token[0].service_account_email == "caller@a"
    )
    error_message = "call or token"
  }
  assert {
    condition     = google_cloud_scheduler_job.drain[0].name == "sluice-dev-drain" && output.functions.drain == "https://drain-x7.a.run.app"
    error_message = "The runbook and the alerts name the job."
  }

  # the function ingest is there for the way back and costs nothing
  assert {
    condition     = google_cloudfunctions2_function.ingest.service_config[0].min_instance_count == 0
    error_message = "A minimum of instances would be billed without any traffic."
  }
}

run "drain_may_do_no_more_than_it_does" {
  command = plan
  variables {
    ip_policy = "hash"
    access    = { operators = ["group:operators@example.com"] }
    github    = { repository = "acme/sluice" }
  }

  assert {
    condition = toset(concat(
      [for binding in google_project_iam_member.jobs : "project ${binding.role}" if binding.member == "serviceAccount:drain@a"],
      [for binding in google_pubsub_subscription_iam_member.drain : "${binding.subscription} ${binding.role}" if binding.member == "serviceAccount:drain@a"],
      [for binding in google_storage_bucket_iam_member.archive_drain : "${binding.bucket} ${binding.role} ${join("", [for condition in binding.condition : condition.expression])}" if binding.member == "serviceAccount:drain@a"],
      [for binding in google_secret_manager_secret_iam_member.ip_hash_key : "${binding.secret_id} ${binding.role}" if binding.member == "serviceAccount:drain@a"],
      )) == toset([
      "project roles/bigquery.jobUser",
      "ingest consumer",
      "a-project-sluice-dev-archive archive_reader resource.name.startsWith(\"projects/_/buckets/a-project-sluice-dev-archive/objects/raw/\")",
      "a-project-sluice-dev-archive archiver resource.name.startsWith(\"projects/_/buckets/a-project-sluice-dev-archive/objects/raw/\")",
      "a-project-sluice-dev-archive lister ",
      "a-project-sluice-dev-archive load_writer resource.name.startsWith(\"projects/_/buckets/a-project-sluice-dev-archive/objects/load/\")",
      "the secret roles/secretmanager.secretAccessor",
    ])
    error_message = "bindings"
  }
  assert {
    condition     = { for name, dataset in google_bigquery_dataset.events : name => [for access in dataset.access : access.role if access.user_by_email == "drain@a"] } == { live = ["row_writer"], historical = [] }
    error_message = "It adds rows, as ingest does, and reads none."
  }
  assert {
    condition = { for name in ["archive_reader", "consumer", "lister", "load_writer"] : name => google_project_iam_custom_role.this[name].permissions } == {
      archive_reader = toset(["storage.objects.get"])
      consumer       = toset(["pubsub.subscriptions.consume"])
      lister         = toset(["storage.buckets.get", "storage.objects.list"])
      load_writer    = toset(["storage.objects.create", "storage.objects.delete", "storage.objects.get"])
    }
    error_message = "permissions of its roles"
  }
  assert {
    condition     = [for binding in google_cloud_run_v2_service_iam_member.drain : "${binding.name} ${binding.role} ${binding.member}"] == ["sluice-dev-drain roles/run.invoker serviceAccount:caller@a"]
    error_message = "Only the schedule calls it."
  }
  assert {
    condition = alltrue([for secret in google_cloudfunctions2_function.drain[0].service_config[0].secret_environment_variables :
    secret.key == "IP_HASH_KEY" && secret.secret == "sluice-dev-ip-hash-key" && secret.version == "1"]) && length(google_cloudfunctions2_function.drain[0].service_config[0].secret_environment_variables) == 1
    error_message = "It makes rows, and so hashes addresses with the key of ingest."
  }
  assert {
    condition     = contains(google_project_iam_custom_role.this["operator"].permissions, "cloudscheduler.jobs.pause")
    error_message = "Operators stop drain by its schedule."
  }
  assert {
    condition     = contains(keys(google_service_account_iam_member.ci), "drain") && strcontains(output.github_variables, "\nINGEST_MODE=batch\n")
    error_message = "A workflow deploys it."
  }
}

run "an_hour_between_runs_makes_alerts_and_objectives_wait" {
  command = plan
  variables {
    batch = { interval_minutes = 60, cpu = 1, memory = "2Gi" }
  }

  assert {
    condition     = google_cloud_scheduler_job.drain[0].schedule == "0 * * * *"
    error_message = "unix-cron has no step of 60 minutes."
  }
  assert {
    condition     = google_cloudfunctions2_function.drain[0].service_config[0].available_cpu == "1" && google_cloudfunctions2_function.drain[0].service_config[0].available_memory == "2Gi"
    error_message = "cpu or memory"
  }
  assert {
    condition = alltrue([
      for key, end in {
        oldest_message = "> 10920"
        pending_loads  = "> 10800"
        no_events      = "[180m])) or vector(0)) < 1"
      } : endswith(google_monitoring_alert_policy.this[key].conditions[0].condition_prometheus_query_language[0].query, end)
    ])
    error_message = "An event may wait for three runs before an alert rings."
  }
  assert {
    condition = (
      strcontains(google_monitoring_alert_policy.this["no_drain"].conditions[0].condition_prometheus_query_language[0].query, "[180m]")
      && google_monitoring_alert_policy.this["no_drain"].conditions[0].condition_prometheus_query_language[0].duration == "3900s"
    )
    error_message = "A new deployment has time for its first run."
  }
  assert {
    condition     = google_monitoring_slo.this["freshness"].request_based_sli[0].distribution_cut[0].range[0].max == 21600000
    error_message = "The next bound of the metric's buckets from three intervals on."
  }
}

run "batch_mode_has_alerts_metrics_and_objectives_of_its_own" {
  command = plan
  variables {
    alert_thresholds = { oldest_message_seconds = 421, no_events_minutes = 426, pending_seconds = 2400 }
    objectives       = { lag_seconds = 600 }
  }

  assert {
    condition = toset(keys(google_monitoring_alert_policy.this)) == toset([
      "oldest_message", "undeliverable", "dead_letter_rate", "no_events", "missing", "conflicting_event_ids", "cost",
      "pending_loads", "drain_failed", "no_drain", "lag_slow",
      "bootstrap_failed", "no_bootstrap", "reconcile_failed", "no_reconciliation", "compaction_failed", "failed_backups", "no_backups"
    ])
    error_message = "All alerts are there, and none of requests to ingest."
  }
  assert {
    condition = alltrue([
      for key, end in {
        oldest_message = "> 421"
        pending_loads  = "> 2400"
        no_events      = "[426m])) or vector(0)) < 1"
      } : endswith(google_monitoring_alert_policy.this[key].conditions[0].condition_prometheus_query_language[0].query, end)
    ])
    error_message = "Larger thresholds are those of the variables."
  }
  assert {
    condition     = google_logging_metric.this["rows/orders"].filter == "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"sluice-dev-drain\" AND log_id(\"run.googleapis.com/stdout\") AND jsonPayload.logger=\"functions.main\" AND jsonPayload.message=\"flush\" AND jsonPayload.rows.orders>0"
    error_message = google_logging_metric.this["rows/orders"].filter
  }
  assert {
    condition     = google_logging_metric.this["pending"].value_extractor == "EXTRACT(jsonPayload.pending_seconds)" && length(setintersection(["wait", "rejected"], keys(google_logging_metric.this))) == 0
    error_message = "metrics"
  }
  assert {
    condition     = keys(google_monitoring_slo.this) == ["freshness"] && google_monitoring_slo.this["freshness"].request_based_sli[0].distribution_cut[0].range[0].max == 600000
    error_message = "Nobody calls ingest; freshness is measured by the lines of drain."
  }
  assert {
    condition = alltrue([for key in ["oldest_message", "drain_failed"] :
    strcontains(google_monitoring_alert_policy.this[key].documentation[0].content, "service_name=\"sluice-dev-drain\"")])
    error_message = "The checks are about drain."
  }
  assert {
    condition = sum([
      for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : tile.width * tile.height
    ]) == 48 * max([for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : try(tile.yPos, 0) + tile.height]...)
    error_message = "The rows are full; no tile lies on another."
  }
  assert {
    condition     = length(regexall("service_name=.{1,2}sluice-dev-ingest|push_request_count|:(0|null|\"\"|\\[\\]|\\{\\})[,}\\]]", google_monitoring_dashboard.this.dashboard_json)) == 0
    error_message = "Nothing of ingest is there, and nothing that Cloud Monitoring leaves out."
  }
}

# Wrong values.

run "an_interval_that_does_not_divide_the_hour" {
  command = plan
  variables {
    ingest = { mode = "pull" }
    batch  = { interval_minutes = 7 }
  }
  expect_failures = [var.ingest, var.batch]
}

run "too_much_memory_for_a_part_of_a_cpu" {
  command = plan
  variables {
    batch = { cpu = 0.333, memory = "1Gi" }
  }
  expect_failures = [var.batch]
}

run "too_little_cpu" {
  command = plan
  variables {
    batch = { cpu = 0.05 }
  }
  expect_failures = [var.batch]
}

run "memory_in_megabytes" {
  command = plan
  variables {
    batch = { memory = "512MB" }
  }
  expect_failures = [var.batch]
}

run "two_that_pull" {
  command = plan
  variables {
    engine   = "dataflow"
    dataflow = { image = "us-central1-docker.pkg.dev/a-project/sluice-dev/dataflow:7" }
  }
  expect_failures = [var.engine]
}
