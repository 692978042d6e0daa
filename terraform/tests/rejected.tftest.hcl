# Each wrong value is rejected by a validation of its own variable. A run has one for each of several variables that do
# not depend on each other.

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

run "wrong_values_1" {
  command = plan
  variables {
    project_id          = "A"
    deployers           = []
    environment         = "Production"
    region              = "US"
    labels              = { Team = "data" }
    dataset             = "a-b"
    retention_days      = 0
    time_travel_hours   = 24
    access              = { readers = ["allUsers"] }
    flush               = { batch_rows = 50001 }
    log_level           = "ERROR"
    bootstrap_schedule  = "daily"
    ip_policy           = "encrypt"
    ip_hash_key_version = 0
    row_access_policies = { de = { table = "nothing", filter = "TRUE", grantees = ["group:de@example.com"] } }
    github              = { repository = "sluice" }
    release             = "v1.0.0"
    budget              = { billing_account = "1234", amount = 10 }
  }
  expect_failures = [var.project_id, var.deployers, var.release, var.environment, var.region, var.labels, var.dataset, var.retention_days, var.time_travel_hours, var.access, var.flush, var.log_level, var.bootstrap_schedule, var.ip_policy, var.ip_hash_key_version, var.row_access_policies, var.github, var.budget]
}

run "wrong_values_2" {
  command = plan
  variables {
    deployers      = ["ada@example.com"]
    package        = "nowhere.zip"
    environment    = "too-long-a-name"
    retention_days = 1826
    access         = { publishers = ["allAuthenticatedUsers"] }
    flush          = { linger_ms = -1 }
    github         = { repository = "acme@1/sluice" }
  }
  expect_failures = [var.deployers, var.package, var.environment, var.retention_days, var.access, var.flush, var.github]
}

run "wrong_values_3" {
  command = plan
  variables {
    retention_days = 1.5
    flush          = { batch_bytes = 0 }
    github         = { repository = "acme/sluice", ref = "refs/heads/*" }
  }
  expect_failures = [var.retention_days, var.flush, var.github]
}

run "wrong_values_4" {
  command = plan
  variables {
    historical_dataset = "dev_events_dataset"
    flush              = { flush_timeout = 0 }
    archive            = { nearline_days = 100, coldline_days = 90 }
    backup             = { keep_history_days = 90 }
    github             = { repository = "acme/sluice", environment = "prod' || true || '" }
  }
  expect_failures = [var.historical_dataset, var.flush, var.archive, var.backup, var.github]
}

run "wrong_values_5" {
  command = plan
  variables {
    delivery = { ack_deadline_seconds = 55 }
    archive  = { coldline_days = 40, delete_days = 60 }
    backup   = { snapshot_days = -1 }
    github   = { repository = "acme/sluice", environment = "prod", ref = "refs/heads/main" }
  }
  expect_failures = [var.delivery, var.archive, var.backup, var.github]
}

run "wrong_values_6" {
  command = plan
  variables {
    delivery = { minimum_backoff_seconds = 30, maximum_backoff_seconds = 10 }
    archive  = { soft_delete_days = 3 }
    backup   = { copy_region = "us-central1" }
  }
  expect_failures = [var.delivery, var.archive, var.backup]
}

run "wrong_values_7" {
  command = plan
  variables {
    delivery = { max_attempts = 4 }
    archive  = { dual_region = { location = "us-central1", regions = ["us-central1"] } }
  }
  expect_failures = [var.delivery, var.archive]
}

run "wrong_values_8" {
  command = plan
  variables {
    ingest = { concurrency = 0 }
  }
  expect_failures = [var.ingest]
}

run "wrong_values_9" {
  command = plan
  variables {
    ingest = { cpu = 0.5 }
  }
  expect_failures = [var.ingest]
}

run "wrong_values_14" {
  command = plan
  variables {
    ingest = { cpu = 3 }
  }
  expect_failures = [var.ingest]
}

run "wrong_values_15" {
  command = plan
  variables {
    ingest = { cpu = 4, memory = "1Gi" }
  }
  expect_failures = [var.ingest]
}

run "wrong_values_10" {
  command = plan
  variables {
    ingest = { memory = "512MB" }
  }
  expect_failures = [var.ingest]
}

run "wrong_values_11" {
  command = plan
  variables {
    ingest = { min_instances = 5, max_instances = 2 }
  }
  expect_failures = [var.ingest]
}

run "wrong_values_12" {
  command = plan
  variables {
    ingest = { timeout_seconds = 60 }
  }
  expect_failures = [var.ingest]
}

run "wrong_values_13" {
  command = plan
  variables {
    ingest = { concurrency = 900 }
    flush  = { max_in_flight = 500 }
  }
  expect_failures = [var.ingest]
}

run "schedules_that_make_an_alert_on_absence_ring_are_rejected" {
  command = plan
  variables {
    reconcile_schedule = "11 */6 * * *"
    bootstrap_schedule = "17 3 * * 1"
  }
  expect_failures = [google_monitoring_alert_policy.this["no_reconciliation"], google_monitoring_alert_policy.this["no_bootstrap"]]
}

run "they_are_not_where_the_alert_is_disabled" {
  command = plan
  variables {
    reconcile_schedule = "11 */6 * * *"
    bootstrap_schedule = "17 3 * * 1"
    alerts_disabled    = ["no_reconciliation", "no_bootstrap"]
  }
  assert {
    condition     = !google_monitoring_alert_policy.this["no_reconciliation"].enabled && google_monitoring_alert_policy.this["no_backups"].enabled
    error_message = "Exactly the given alerts are disabled."
  }
}

run "they_are_not_where_the_alert_waits_for_longer" {
  command = plan
  variables {
    reconcile_schedule = "11 */6 * * *"
    alert_thresholds   = { no_reconciliation_minutes = 450 }
  }
  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["no_reconciliation"].conditions[0].condition_prometheus_query_language[0].query, "[450m]")
    error_message = "The window of the alert is the given one."
  }
}

run "every_other_hour_is_often_enough" {
  command = plan
  variables {
    reconcile_schedule = "11 */2 * * *"
  }
  assert {
    condition     = google_cloud_scheduler_job.called["reconcile"].schedule == "11 */2 * * *"
    error_message = "It is the schedule of the job."
  }
}

run "a_subject_that_is_too_long_is_rejected" {
  command = plan
  variables {
    github = { repository = "acme@123456789/${join("", [for _ in range(100) : "a"])}@1234567890", environment = "prod" }
  }
  expect_failures = [google_iam_workload_identity_pool_provider.github[0]]
}
