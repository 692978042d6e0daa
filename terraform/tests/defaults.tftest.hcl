# What is deployed when nothing is asked for: sizes, schedules, retention, permissions. Each assertion names what has changed.

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
}

run "the_functions_have_their_sizes" {
  command = plan

  assert {
    condition     = { for name, function in merge({ ingest = google_cloudfunctions2_function.ingest }, google_cloudfunctions2_function.called) : name => function.service_config[0].available_memory } == { ingest = "512Mi", bootstrap = "512Mi", reconcile = "2Gi", compact = "1Gi" }
    error_message = "memory"
  }
  assert {
    condition     = { for name, function in merge({ ingest = google_cloudfunctions2_function.ingest }, google_cloudfunctions2_function.called) : name => function.service_config[0].timeout_seconds } == { ingest = 90, bootstrap = 600, reconcile = 1800, compact = 1800 }
    error_message = "timeouts"
  }
  assert {
    condition     = { for name, function in google_cloudfunctions2_function.called : name => function.service_config[0].max_instance_count } == { bootstrap = 1, reconcile = 1, compact = 1 }
    error_message = "None of them runs twice at once."
  }
  assert {
    condition     = { for name, function in google_cloudfunctions2_function.called : name => function.service_config[0].max_instance_request_concurrency } == { bootstrap = 8, reconcile = 1, compact = 1 }
    error_message = "concurrency of the bootstrap, whose own requests come back to it, or of another function"
  }
  assert {
    condition     = toset([for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) : function.service_config[0].available_cpu]) == toset(["1"])
    error_message = "cpu"
  }
  assert {
    condition     = toset([for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) : function.build_config[0].docker_repository]) == toset([google_artifact_registry_repository.images.id])
    error_message = "Images lie in the project's own repository."
  }
  assert {
    condition     = alltrue([for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) : function.build_config[0].environment_variables["SOURCE_DATE_EPOCH"] == "315532801"])
    error_message = "Without this time, which a zip file can hold, two builds of the same package differ."
  }
  assert {
    condition     = google_artifact_registry_repository.images.format == "DOCKER"
    error_message = "format of the images, whose change would make the repository again"
  }
  assert {
    condition     = terraform_data.bootstrap.triggers_replace[1] == sha256(jsonencode(local.settings))
    error_message = "Other settings run the bootstrap, as another package does."
  }
}

run "jobs_run_on_their_schedules" {
  command = plan

  assert {
    condition     = { for name, job in google_cloud_scheduler_job.called : name => job.schedule } == { bootstrap = "17 3 * * *", reconcile = "11,41 * * * *", compact = "31 * * * *" }
    error_message = "schedules of Cloud Scheduler"
  }
  assert {
    condition     = { for name, job in google_cloud_scheduler_job.called : name => job.attempt_deadline } == { bootstrap = "600s", reconcile = "1800s", compact = "1800s" }
    error_message = "A job waits as long as its function may run."
  }
  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.called : job.time_zone == "Etc/UTC"])
    error_message = "time zone"
  }
  assert {
    condition     = alltrue([for job in google_cloud_scheduler_job.called : job.retry_config[0].retry_count == 3 && job.retry_config[0].min_backoff_duration == "30s" && job.retry_config[0].max_backoff_duration == "300s"])
    error_message = "A job is retried three times, after 30 s and more."
  }
  assert {
    condition     = toset([for name, query in google_bigquery_data_transfer_config.scheduled : query.schedule if startswith(name, "keep history of")]) == toset(["every day 02:00"])
    error_message = "The history is copied before the bootstrap, and before the snapshots."
  }
  assert {
    condition     = toset([for name, query in google_bigquery_data_transfer_config.scheduled : query.schedule if startswith(name, "snapshot of")]) == toset(["every day 04:00"])
    error_message = "snapshots"
  }
  assert {
    condition     = toset([for query in google_bigquery_data_transfer_config.scheduled : query.data_source_id]) == toset(["scheduled_query"])
    error_message = "data source"
  }
}

run "what_is_stored_is_private_and_is_kept" {
  command = plan

  assert {
    condition     = alltrue([for bucket in [google_storage_bucket.archive, google_storage_bucket.packages] : bucket.public_access_prevention == "enforced"])
    error_message = "A bucket may be made public."
  }
  assert {
    condition     = alltrue([for bucket in [google_storage_bucket.archive, google_storage_bucket.packages] : bucket.uniform_bucket_level_access])
    error_message = "An object may have an access list of its own."
  }
  assert {
    condition     = google_storage_bucket.archive.storage_class == "STANDARD"
    error_message = "storage class of the archive"
  }
  assert {
    condition     = length(google_storage_bucket.packages.lifecycle_rule) == 0 && google_storage_bucket_object.package[0].deletion_policy == "ABANDON"
    error_message = "Packages are kept, so that an earlier one can be deployed again."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.ack_deadline_seconds == 60 && google_pubsub_subscription.ingest.ack_deadline_seconds == 60
    error_message = "ack deadlines"
  }
  assert {
    condition     = { for policy in google_artifact_registry_repository.images.cleanup_policies : policy.id => join(" ", compact([policy.action, try(policy.condition[0].older_than, ""), try(tostring(policy.most_recent_versions[0].keep_count), "")])) } == { delete-after-30-days = "DELETE 2592000s", keep-to-roll-back = "KEEP 10" }
    error_message = "Images are deleted after 30 days, but for the last ten of each."
  }
  assert {
    condition     = toset([for service in google_project_service.needed : service.disable_on_destroy]) == toset([false])
    error_message = "Others in the project may need a service."
  }
  assert {
    condition = toset([for service in google_project_service.needed : trimsuffix(service.service, ".googleapis.com")]) == toset([
      "artifactregistry", "bigquery", "bigquerydatapolicy", "bigquerydatatransfer", "cloudbuild", "cloudfunctions",
      "cloudresourcemanager", "cloudscheduler", "datacatalog", "iam", "iamcredentials", "logging", "monitoring", "pubsub",
      "run", "storage",
    ])
    error_message = "services: ${join(", ", keys(google_project_service.needed))}"
  }
}

run "what_is_optional_is_complete_where_it_is_asked_for" {
  command = plan
  variables {
    ip_policy    = "hash"
    backup       = { copy_region = "us-east1" }
    budget       = { billing_account = "012345-678901-ABCDEF", amount = 200 }
    alert_emails = ["on-call@example.com"]
  }

  assert {
    condition     = toset([for replica in google_secret_manager_secret.ip_hash_key[0].replication[0].user_managed[0].replicas : replica.location]) == toset(["us-central1", "us-east1"])
    error_message = "The key is in both regions: hashes stay the same when one is lost."
  }
  assert {
    condition     = length(setsubtract(["bigquerydatapolicy", "billingbudgets", "datacatalog", "secretmanager"], [for service in google_project_service.needed : trimsuffix(service.service, ".googleapis.com")])) == 0
    error_message = "services: ${join(", ", keys(google_project_service.needed))}"
  }
  assert {
    condition     = google_data_catalog_taxonomy.protected[0].activated_policy_types == tolist(["FINE_GRAINED_ACCESS_CONTROL"])
    error_message = "A tag protects nothing."
  }
  assert {
    condition     = toset([for policy in google_bigquery_datapolicy_data_policy.masked : policy.data_policy_type]) == toset(["DATA_MASKING_POLICY"])
    error_message = "A column is not masked."
  }
  assert {
    condition     = alltrue([for copy in google_bigquery_data_transfer_config.copy : copy.data_source_id == "cross_region_copy" && copy.schedule == "every 24 hours" && copy.service_account_name == "backup@a"])
    error_message = "A dataset is copied every day, as the backup account."
  }
  assert {
    condition     = alltrue([for copy in google_bigquery_data_transfer_config.copy : copy.params.overwrite_destination_table == "true" && copy.params.source_project_id == "a-project"])
    error_message = "A copy is that of the last day."
  }
  assert {
    condition     = { for name, copy in google_bigquery_data_transfer_config.copy : copy.params.source_dataset_id => copy.destination_dataset_id } == { dev_events_dataset = google_bigquery_dataset.copy["live"].dataset_id, historical_dataset = google_bigquery_dataset.copy["historical"].dataset_id }
    error_message = "destinations of the copies"
  }
  assert {
    condition     = alltrue([for copy in google_bigquery_dataset.copy : !copy.delete_contents_on_destroy && copy.default_partition_expiration_ms == null])
    error_message = "A copy is deleted or expires."
  }
  assert {
    condition     = [for rule in google_billing_budget.monthly[0].threshold_rules : "${rule.threshold_percent} ${rule.spend_basis}"] == ["0.5 CURRENT_SPEND", "0.9 CURRENT_SPEND", "1 FORECASTED_SPEND"]
    error_message = "thresholds of the budget"
  }
  assert {
    condition     = google_billing_budget.monthly[0].budget_filter[0].calendar_period == "MONTH" && google_billing_budget.monthly[0].amount[0].specified_amount[0].currency_code == "USD"
    error_message = "period or currency of the budget"
  }
  assert {
    condition     = google_monitoring_notification_channel.email["on-call@example.com"].type == "email" && google_monitoring_notification_channel.email["on-call@example.com"].force_delete
    error_message = "A channel is an address, and can be removed."
  }
}

run "a_custom_role_permits_what_it_is_named_for" {
  command = plan
  variables {
    backup = { copy_region = "us-east1" }
  }

  assert {
    condition     = google_project_iam_custom_role.this["copier"].permissions == toset(["bigquery.datasets.update"])
    error_message = "copier: ${join(" ", google_project_iam_custom_role.this["copier"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["definer"].permissions == toset([for permission in ["datasets.get", "tables.create", "tables.delete", "tables.get", "tables.getData", "tables.setCategory", "tables.update", "tables.updateData"] : "bigquery.${permission}"])
    error_message = "definer: ${join(" ", google_project_iam_custom_role.this["definer"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["eraser"].permissions == toset(concat([for permission in ["datasets.get", "tables.get", "tables.getData", "tables.list", "tables.updateData"] : "bigquery.${permission}"], [for permission in ["buckets.get", "objects.create", "objects.delete", "objects.get", "objects.list"] : "storage.${permission}"]))
    error_message = "eraser: ${join(" ", google_project_iam_custom_role.this["eraser"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["keeper"].permissions == toset([for permission in ["datasets.get", "tables.create", "tables.deleteSnapshot", "tables.get", "tables.getData", "tables.list", "tables.updateData"] : "bigquery.${permission}"])
    error_message = "keeper: ${join(" ", google_project_iam_custom_role.this["keeper"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["operator"].permissions == toset(["bigquery.transfers.get", "cloudfunctions.functions.get", "cloudscheduler.jobs.enable", "cloudscheduler.jobs.get", "cloudscheduler.jobs.run", "run.operations.get", "run.revisions.list", "run.services.list", "serviceusage.services.use"])
    error_message = "operator: ${join(" ", google_project_iam_custom_role.this["operator"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["push_manager"].permissions == toset(["pubsub.subscriptions.update"])
    error_message = "push_manager: ${join(" ", google_project_iam_custom_role.this["push_manager"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["record_reader"].permissions == toset(["bigquery.tables.get", "bigquery.tables.getData"])
    error_message = "record_reader: ${join(" ", google_project_iam_custom_role.this["record_reader"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["restorer"].permissions == toset(["storage.objects.create", "storage.objects.delete", "storage.objects.restore"])
    error_message = "restorer: ${join(" ", google_project_iam_custom_role.this["restorer"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["snapshotter"].permissions == toset([for permission in ["datasets.get", "tables.createSnapshot", "tables.deleteSnapshot", "tables.get", "tables.getData", "tables.list"] : "bigquery.${permission}"])
    error_message = "snapshotter: ${join(" ", google_project_iam_custom_role.this["snapshotter"].permissions)}"
  }
  assert {
    condition     = google_project_iam_custom_role.this["traffic_manager"].permissions == toset(["run.services.get", "run.services.update"])
    error_message = "traffic_manager: ${join(" ", google_project_iam_custom_role.this["traffic_manager"].permissions)}"
  }
  assert {
    condition     = keys(google_project_iam_custom_role.this) == ["archiver", "compactor", "copier", "definer", "eraser", "keeper", "operator", "push_manager", "reader", "record_reader", "restorer", "row_writer", "snapshotter", "traffic_manager"]
    error_message = "Another role: access.tftest.hcl and this run have the permissions of all."
  }
}

run "alerts_metrics_and_objectives_have_their_values" {
  command = plan

  assert {
    condition     = toset([for key, alert in google_monitoring_alert_policy.this : key if alert.severity == "CRITICAL"]) == toset(["missing", "no_events", "oldest_message", "server_errors", "undeliverable"])
    error_message = "alerts that are critical"
  }
  assert {
    condition     = toset([for key, alert in google_monitoring_alert_policy.this : key if alert.severity == "ERROR"]) == toset(["bootstrap_failed", "failed_backups", "lag", "no_backups"])
    error_message = "alerts that are errors"
  }
  assert {
    condition     = toset([for key, alert in google_monitoring_alert_policy.this : key if alert.combiner == "AND"]) == toset(["lag", "lag_slow", "server_errors", "server_errors_slow"])
    error_message = "A burn rate is an alert in both windows, all others in any."
  }
  assert {
    condition     = toset(flatten([for alert in google_monitoring_alert_policy.this : [for condition in alert.conditions : [for query in condition.condition_prometheus_query_language : query.evaluation_interval]]])) == toset(["60s"])
    error_message = "A query is evaluated each minute."
  }
  assert {
    condition = { for key, alert in google_monitoring_alert_policy.this : key => [for condition in alert.conditions : "${condition.condition_threshold[0].comparison} ${condition.condition_threshold[0].threshold_value} ${condition.condition_threshold[0].duration}"] if alert.combiner == "AND" } == {
      lag                = ["COMPARISON_GT 14.4 0s", "COMPARISON_GT 14.4 0s", "COMPARISON_GT 99 0s"]
      lag_slow           = ["COMPARISON_GT 3 0s", "COMPARISON_GT 3 0s", "COMPARISON_GT 99 0s"]
      server_errors      = ["COMPARISON_GT 14.4 0s", "COMPARISON_GT 14.4 0s", "COMPARISON_GT 9 0s"]
      server_errors_slow = ["COMPARISON_GT 3 0s", "COMPARISON_GT 3 0s", "COMPARISON_GT 9 0s"]
    }
    error_message = "burn rates of both windows, and the number of responses that is enough"
  }
  assert {
    condition     = toset(flatten([for alert in google_monitoring_alert_policy.this : [for condition in alert.conditions : [for threshold in condition.condition_threshold : [for aggregation in threshold.aggregations : "${aggregation.per_series_aligner} ${aggregation.cross_series_reducer}"]]]])) == toset(["ALIGN_DELTA REDUCE_SUM"])
    error_message = "Responses are counted, in all series together."
  }
  assert {
    condition     = toset([for alert in google_monitoring_alert_policy.this : alert.documentation[0].mime_type]) == toset(["text/markdown"])
    error_message = "A runbook is Markdown."
  }
  assert {
    condition     = { for key, objective in google_monitoring_slo.this : key => objective.goal } == { availability = 0.999, freshness = 0.99 }
    error_message = "objectives"
  }
  assert {
    condition     = { for key, objective in google_monitoring_slo.this : key => objective.slo_id } == { availability = "availability", freshness = "freshness" }
    error_message = "Alerts name the objectives by these."
  }
  assert {
    condition     = [for filter in ["good_service_filter", "bad_service_filter"] : split(" metric.label", google_monitoring_slo.this["availability"].request_based_sli[0].good_total_ratio[0][filter])[1]] == [".\"response_code_class\"=\"2xx\"", ".\"response_code_class\"=\"5xx\""]
    error_message = "good and bad requests"
  }
  assert {
    condition     = alltrue([for objective in google_monitoring_slo.this : objective.rolling_period_days == 28])
    error_message = "period of the objectives"
  }
  assert {
    condition     = google_monitoring_slo.this["freshness"].request_based_sli[0].distribution_cut[0].range[0].max == 10000
    error_message = "A flush is fresh within 10 s of its oldest event."
  }
  assert {
    condition     = { for key, metric in google_logging_metric.this : key => metric.metric_descriptor[0].unit if metric.metric_descriptor[0].unit != "1" } == { archive = "ms", insert = "ms", lag = "ms", wait = "ms" }
    error_message = "units of the metrics"
  }
  assert {
    condition     = alltrue([for metric in google_logging_metric.this : metric.metric_descriptor[0].metric_kind == "DELTA"])
    error_message = "kind of the metrics"
  }
  assert {
    condition     = { for key, metric in google_logging_metric.this : metric.metric_descriptor[0].unit => "${min(metric.bucket_options[0].explicit_buckets[0].bounds...)} to ${max(metric.bucket_options[0].explicit_buckets[0].bounds...)}"... if contains(["archive", "events", "lag"], key) } == { "1" = ["1 to 50000"], ms = ["10 to 50000", "100 to 604800000"] }
    error_message = "ranges of the buckets: events of a flush, its seconds, and a lag of up to the week that Pub/Sub keeps a message"
  }
}

run "an_archive_that_stays_as_written_has_no_compact" {
  command = plan
  variables {
    archive          = { compact = false }
    github           = { repository = "acme/sluice" }
    data_access_logs = ["storage.googleapis.com"]
  }

  assert {
    condition     = toset(concat(keys(google_cloudfunctions2_function.called), keys(google_cloud_scheduler_job.called), keys(output.functions))) == toset(["ingest", "bootstrap", "reconcile"])
    error_message = "functions and schedules"
  }
  assert {
    condition     = !anytrue([for keys in [keys(google_service_account.this), keys(google_service_account_iam_member.ci), [for name, _ in google_project_iam_custom_role.this : trimsuffix(name, "or")]] : contains(keys, "compact")]) && length(google_storage_bucket_iam_member.compactor) + length(google_storage_bucket_iam_member.compact_reader) == 0
    error_message = "Nobody may delete raw events without need."
  }
  assert {
    condition     = length([for key in concat(keys(google_monitoring_alert_policy.this), keys(google_logging_metric.this)) : key if strcontains(key, "compact")]) == 0 && !strcontains(google_monitoring_dashboard.this.dashboard_json, "compaction_failures")
    error_message = "alerts, metrics and dashboard"
  }
  assert {
    condition     = strcontains(output.github_variables, "\nARCHIVE_COMPACT=false\n")
    error_message = "The workflow does not deploy it."
  }
}
