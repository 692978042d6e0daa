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

run "defaults" {
  command = plan

  # pubsub pushes to ingest with the service account push
  assert {
    condition     = google_pubsub_subscription.ingest.push_config[0].push_endpoint == google_cloudfunctions2_function.ingest.service_config[0].uri
    error_message = "endpoint: ${google_pubsub_subscription.ingest.push_config[0].push_endpoint}"
  }
  assert {
    condition     = google_pubsub_subscription.ingest.push_config[0].oidc_token[0].audience == google_cloudfunctions2_function.ingest.service_config[0].uri
    error_message = "Cloud Run takes only tokens that are for its own uri."
  }
  assert {
    condition     = google_pubsub_subscription.ingest.push_config[0].oidc_token[0].service_account_email == google_service_account.this["push"].email
    error_message = "pushed as ${google_pubsub_subscription.ingest.push_config[0].oidc_token[0].service_account_email}"
  }
  assert {
    condition     = length(google_pubsub_subscription.ingest.push_config[0].no_wrapper) == 0
    error_message = "An unwrapped message has lost its attributes' names."
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_member.push.member == google_service_account.this["push"].member && google_cloud_run_v2_service_iam_member.push.role == "roles/run.invoker"
    error_message = "The push account may not call ingest."
  }

  # a message is kept until it is answered and nothing expires
  assert {
    condition     = google_pubsub_topic.events.message_retention_duration == "604800s" && google_pubsub_subscription.ingest.message_retention_duration == "604800s"
    error_message = "Seven days."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.message_retention_duration == "2678400s"
    error_message = "31 days."
  }
  assert {
    condition     = alltrue([for one in [google_pubsub_subscription.ingest, google_pubsub_subscription.dead_letters] : one.expiration_policy[0].ttl == ""])
    error_message = "Without an empty ttl an idle subscription is deleted after 31 days."
  }
  assert {
    condition     = google_pubsub_subscription.dead_letters.topic == google_pubsub_topic.dead_letters.id && length(google_pubsub_subscription.dead_letters.push_config) == 0
    error_message = "The dead-letter topic needs a subscription that keeps its messages."
  }

  # what cannot be delivered goes to the dead letter topic
  assert {
    condition     = google_pubsub_subscription.ingest.dead_letter_policy[0].dead_letter_topic == google_pubsub_topic.dead_letters.id
    error_message = "another topic"
  }
  assert {
    condition     = google_pubsub_subscription.ingest.dead_letter_policy[0].max_delivery_attempts == 100
    error_message = "100 attempts are half a day."
  }
  assert {
    condition     = google_pubsub_subscription.ingest.retry_policy[0].minimum_backoff == "1s" && google_pubsub_subscription.ingest.retry_policy[0].maximum_backoff == "600s"
    error_message = "backoff"
  }
  assert {
    condition = alltrue([for binding in [google_pubsub_topic_iam_member.forwards, google_pubsub_subscription_iam_member.forwards] :
    binding.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"])
    error_message = "The service agent of Pub/Sub publishes to the dead-letter topic and acknowledges in the subscription."
  }
  assert {
    condition     = google_pubsub_subscription_iam_member.forwards.subscription == google_pubsub_subscription.ingest.id && google_pubsub_topic_iam_member.forwards.topic == google_pubsub_topic.dead_letters.id
    error_message = "the permissions of the agent are elsewhere"
  }

  # the functions run the same package as their own accounts
  assert {
    condition     = google_storage_bucket_object.package[0].name == "sluice-${filesha256("versions.tf")}.zip"
    error_message = "The object's name has to change with the package's content, and only then."
  }
  assert {
    condition = alltrue([for name, function in merge({ ingest = google_cloudfunctions2_function.ingest }, google_cloudfunctions2_function.called) :
      function.build_config[0].runtime == "python313"
      && function.build_config[0].entry_point == name
      && function.build_config[0].source[0].storage_source[0].object == google_storage_bucket_object.package[0].name
      && function.build_config[0].environment_variables["SLUICE_PACKAGE"] == filesha256("versions.tf")
      && function.build_config[0].service_account == google_service_account.this["build"].id
    && function.service_config[0].all_traffic_on_latest_revision])
    error_message = "runtime, entry point, source, the digest that shows other code, build account or traffic"
  }
  assert {
    condition     = google_cloudfunctions2_function.ingest.service_config[0].service_account_email == "ingest@a" && alltrue([for name, function in google_cloudfunctions2_function.called : function.service_config[0].service_account_email == "${name}@a"])
    error_message = "each runs with its own service account"
  }
  assert {
    condition     = google_cloudfunctions2_function.ingest.service_config[0].ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "Only Pub/Sub calls ingest."
  }
  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.called : function.service_config[0].environment_variables == google_cloudfunctions2_function.ingest.service_config[0].environment_variables])
    error_message = "They read the same settings."
  }
  assert {
    condition     = length(google_cloudfunctions2_function.ingest.event_trigger) == 0
    error_message = "The subscription is the only trigger."
  }

  # sizes and time limits fit each other
  assert {
    condition     = google_cloudfunctions2_function.ingest.service_config[0].max_instance_request_concurrency == 250 && google_cloudfunctions2_function.ingest.service_config[0].available_cpu == "1"
    error_message = "A flush is shared by those who are in flight together; with less than one cpu that is one."
  }
  assert {
    condition     = 2 * tonumber(local.settings.FLUSH_TIMEOUT) + 5 < google_pubsub_subscription.ingest.ack_deadline_seconds && google_pubsub_subscription.ingest.ack_deadline_seconds < google_cloudfunctions2_function.ingest.service_config[0].timeout_seconds
    error_message = "flush < ack deadline < function"
  }

  # the bootstrap runs after each deploy and daily and the reconciliation hourly
  assert {
    condition     = terraform_data.bootstrap.triggers_replace[0] == google_storage_bucket_object.package[0].name
    error_message = "A new package runs the bootstrap."
  }
  assert {
    condition     = alltrue([for name, job in google_cloud_scheduler_job.called : job.http_target[0].uri == "https://${name}-x7.a.run.app" && job.http_target[0].http_method == "POST"])
    error_message = "uri: ${google_cloud_scheduler_job.called["bootstrap"].http_target[0].uri}"
  }
  assert {
    condition     = alltrue([for name, job in google_cloud_scheduler_job.called : job.http_target[0].oidc_token[0].audience == "https://${name}-x7.a.run.app" && job.http_target[0].oidc_token[0].service_account_email == "caller@a"])
    error_message = "token"
  }

  # datasets keep what the data model says
  assert {
    condition     = google_bigquery_dataset.events["live"].dataset_id == "dev_events_dataset" && google_bigquery_dataset.events["live"].location == "us-central1"
    error_message = "name or place"
  }
  assert {
    condition     = google_bigquery_dataset.events["live"].default_partition_expiration_ms == 7776000000 && google_bigquery_dataset.events["live"].default_table_expiration_ms == null
    error_message = "Partitions expire after 90 days; tables never."
  }
  assert {
    condition     = google_bigquery_dataset.events["historical"].default_partition_expiration_ms == null && google_bigquery_dataset.events["historical"].default_table_expiration_ms == null
    error_message = "Nothing expires in the historical dataset."
  }
  assert {
    condition = alltrue([for dataset in [google_bigquery_dataset.events["live"], google_bigquery_dataset.events["historical"]] :
      dataset.max_time_travel_hours == "168" && dataset.delete_contents_on_destroy == false
    && dataset.labels == tomap({ environment = "dev", managed_by = "cloud_function", assessment = "data_engineering" })])
    error_message = "time travel, labels, or deletion"
  }

  # a line for each request that succeeded would cost as much as the event itself
  assert {
    condition     = strcontains(google_logging_project_exclusion.requests[0].filter, "httpRequest.status<300") && strcontains(google_logging_project_exclusion.requests[0].filter, "service_name=\"sluice-dev-ingest\"")
    error_message = "request logs"
  }

  # the archive is private; its objects are too small to move to a colder class
  assert {
    condition     = google_storage_bucket.archive.uniform_bucket_level_access && google_storage_bucket.archive.public_access_prevention == "enforced" && !google_storage_bucket.archive.force_destroy
    error_message = "access"
  }
  assert {
    condition     = jsonencode([for rule in google_storage_bucket.archive.lifecycle_rule : [coalesce(one(rule.action).storage_class, one(rule.action).type), one(rule.condition).age, one(rule.condition).days_since_custom_time]]) == jsonencode([["Delete", 730, null], ["Delete", null, 730]])
    error_message = "lifecycle"
  }
  assert {
    condition     = google_storage_bucket.archive.soft_delete_policy[0].retention_duration_seconds == 604800
    error_message = "soft delete"
  }
  assert {
    condition     = google_storage_bucket.archive.location == "US-CENTRAL1" && length(google_storage_bucket.archive.custom_placement_config) == 0
    error_message = "one region by default"
  }

  # history and snapshots are scheduled for each table
  assert {
    condition     = length(setsubtract(["keep history of orders", "keep history of inventory", "keep history of user_activity", "snapshot of orders", "snapshot of dead_letters", "snapshot of replays"], keys(google_bigquery_data_transfer_config.scheduled))) == 0
    error_message = "scheduled: ${join(", ", keys(google_bigquery_data_transfer_config.scheduled))}"
  }
  assert {
    condition     = alltrue([for one in google_bigquery_data_transfer_config.scheduled : !strcontains(one.params.query, "@") && one.service_account_name == "backup@a"])
    error_message = "A scheduled query takes no parameters."
  }
  assert {
    condition     = strcontains(google_bigquery_data_transfer_config.scheduled["snapshot of orders"].params.query, "`a-project.historical_dataset.orders_{now}`\nCLONE `a-project.dev_events_dataset.orders`")
    error_message = google_bigquery_data_transfer_config.scheduled["snapshot of orders"].params.query
  }
  assert {
    condition     = length(google_bigquery_dataset.copy) == 0 && length(google_bigquery_data_transfer_config.copy) == 0
    error_message = "no copy by default"
  }

  # no secret without hashing
  assert {
    condition     = length(google_secret_manager_secret.ip_hash_key) == 0 && length(google_cloudfunctions2_function.ingest.service_config[0].secret_environment_variables) == 0
    error_message = "secret"
  }

  # no budget and no github otherwise
  assert {
    condition     = length(google_billing_budget.monthly) + length(google_iam_workload_identity_pool.github) + length(google_service_account.ci) == 0
    error_message = "options are off"
  }
}

run "the_log_of_requests_that_succeeded_is_kept_only_if_configured" {
  command = plan
  variables {
    request_logs = true
  }

  assert {
    condition     = length(google_logging_project_exclusion.requests) == 0
    error_message = "request_logs = true keeps them"
  }
}

run "the_archive_lies_in_two_regions_if_configured" {
  command = plan
  variables {
    archive = { dual_region = { location = "US", regions = ["us-central1", "us-east1"], turbo = true }, delete_days = 0, nearline_days = 30 }
  }

  assert {
    condition     = google_storage_bucket.archive.location == "US" && google_storage_bucket.archive.custom_placement_config[0].data_locations == toset(["US-CENTRAL1", "US-EAST1"])
    error_message = "placement"
  }
  assert {
    condition     = google_storage_bucket.archive.rpo == "ASYNC_TURBO"
    error_message = "turbo"
  }
  assert {
    condition     = jsonencode([for rule in google_storage_bucket.archive.lifecycle_rule : [coalesce(one(rule.action).storage_class, one(rule.action).type), one(rule.condition).age, one(rule.condition).days_since_custom_time]]) == jsonencode([["NEARLINE", 30, null], ["NEARLINE", null, 30]])
    error_message = "delete_days = 0 deletes nothing, coldline_days = 0 moves nothing"
  }
}

run "an_apply_leaves_the_traffic_where_it_is_if_configured" {
  command = plan
  variables {
    ingest = { canary = true }
  }

  assert {
    condition     = !google_cloudfunctions2_function.ingest.service_config[0].all_traffic_on_latest_revision
    error_message = "traffic"
  }
}

run "copies_lie_in_another_region_if_configured" {
  command = plan
  variables {
    backup = { copy_region = "us-east1", snapshot_days = 0 }
  }

  assert {
    condition     = { for name, copy in google_bigquery_data_transfer_config.copy : copy.params.source_dataset_id => google_bigquery_dataset.copy[name].location } == { dev_events_dataset = "us-east1", historical_dataset = "us-east1" }
    error_message = "both datasets are copied"
  }
  assert {
    condition = alltrue([for copy in google_bigquery_dataset.copy :
    toset([for access in copy.access : "${access.role} ${coalesce(access.special_group, access.user_by_email)}"]) == toset(["OWNER projectOwners", "WRITER backup@a", "copier backup@a"])])
    error_message = "Nobody reads a copy: policy tags of one region do not hold in another."
  }
  assert {
    condition     = alltrue([for name in keys(google_bigquery_data_transfer_config.scheduled) : startswith(name, "keep history of")])
    error_message = "snapshot_days = 0 takes none"
  }
}

run "a_hash_key_is_made_and_read_only_when_addresses_are_hashed" {
  command = plan
  variables {
    ip_policy           = "hash"
    ip_hash_key_version = 3
  }

  assert {
    condition     = google_secret_manager_secret.ip_hash_key[0].deletion_protection && terraform_data.ip_hash_key[0].triggers_replace[1] == 3
    error_message = "secret"
  }
  assert {
    condition = alltrue([for secret in google_cloudfunctions2_function.ingest.service_config[0].secret_environment_variables :
    secret.key == "IP_HASH_KEY" && secret.secret == "sluice-dev-ip-hash-key" && secret.version == "3"])
    error_message = "Ingest reads the version that var.ip_hash_key_version counts to."
  }
  assert {
    condition     = alltrue([for function in google_cloudfunctions2_function.called : length(function.service_config[0].secret_environment_variables) == 0])
    error_message = "The other functions make no rows, and have no key."
  }
}

run "the_command_gets_the_settings_of_the_functions_and_fetches_the_key" {
  command = plan
  variables {
    ip_policy           = "hash"
    ip_hash_key_version = 2
  }

  assert {
    condition = output.settings == join("\n", [
      "export ARCHIVE_BUCKET='a-project-sluice-dev-archive'",
      "export BATCH_BYTES='2097152'",
      "export BATCH_ROWS='500'",
      "export DATASET='dev_events_dataset'",
      "export ENVIRONMENT='dev'",
      "export FLUSH_INTERVAL='0'",
      "export FLUSH_TIMEOUT='25'",
      "export GOOGLE_CLOUD_PROJECT='a-project'",
      "export HISTORICAL_DATASET='historical_dataset'",
      "export IP_POLICY='hash'",
      "export LINGER_MS='500'",
      "export LOCATION='us-central1'",
      "export LOG_LEVEL='INFO'",
      "export MAX_IN_FLIGHT='2000'",
      "export MAX_IN_FLIGHT_BYTES='33554432'",
      "export POLICY_TAG_PERSONAL='the personal tag'",
      "export POLICY_TAG_RAW='the raw tag'",
      "export RETENTION_DAYS='90'",
      "export SLUICE_TOPIC='events'",
      "export SLUICE_UNDELIVERABLE='undeliverable'",
      "export SUBSCRIPTION='projects/a-project/subscriptions/sluice-dev-ingest'",
      "export IP_HASH_KEY=\"$(gcloud secrets versions access 2 --secret=sluice-dev-ip-hash-key --project=a-project)\"",
    ])
    error_message = output.settings
  }
}

run "a_budget_only_if_configured" {
  command = plan
  variables {
    budget                = { billing_account = "012345-678901-ABCDEF", amount = 200, currency = "EUR" }
    notification_channels = ["projects/a-project/notificationChannels/1"]
  }

  assert {
    condition     = google_billing_budget.monthly[0].amount[0].specified_amount[0].units == "200" && google_billing_budget.monthly[0].budget_filter[0].projects == toset(["projects/123456789012"])
    error_message = "amount or filter"
  }
  assert {
    condition     = google_billing_budget.monthly[0].all_updates_rule[0].monitoring_notification_channels == tolist(["projects/a-project/notificationChannels/1"])
    error_message = "It uses the channels of the alerts."
  }
}

run "a_released_package_is_taken_as_it_is" {
  command = plan
  variables {
    package = "nowhere.zip"
    release = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  }

  assert {
    condition     = length(google_storage_bucket_object.package) == 0 && data.google_storage_bucket_object.release[0].bucket == google_storage_bucket.packages.name
    error_message = "It is looked up, so that a plan fails where it is not, and nothing is uploaded."
  }
  assert {
    condition = alltrue([for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) :
      function.build_config[0].source[0].storage_source[0].object == "sluice-${var.release}.zip"
      && function.build_config[0].environment_variables["SLUICE_PACKAGE"] == var.release
    ])
    error_message = "All functions run it."
  }
  assert {
    condition     = terraform_data.bootstrap.triggers_replace[0] == "sluice-${var.release}.zip"
    error_message = "It runs the bootstrap."
  }
}
