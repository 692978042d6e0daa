# What only the cloud would know. Accounts get the addresses that they would have in the project `a-project`, as dev.

mock_data "google_project" {
  defaults = {
    number = "123456789012"
  }
}

mock_data "google_bigquery_default_service_account" {
  defaults = { email = "bq-agent@a" }
}

mock_data "google_storage_project_service_account" {
  defaults = { email_address = "storage-agent@a" }
}

mock_resource "google_bigquery_data_transfer_config" {
  defaults = { name = "projects/a-project/locations/us-central1/transferConfigs/made" }
}

mock_resource "google_cloudfunctions2_function" {
  defaults = {
    service_config = {
      uri = "https://function-x7.a.run.app"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.called["bootstrap"]
  values = {
    service_config = { uri = "https://bootstrap-x7.a.run.app" }
  }
}

override_resource {
  target = google_cloudfunctions2_function.called["reconcile"]
  values = {
    service_config = { uri = "https://reconcile-x7.a.run.app" }
  }
}

override_resource {
  target = google_cloudfunctions2_function.called["compact"]
  values = {
    service_config = { uri = "https://compact-x7.a.run.app" }
  }
}

override_resource {
  target = google_service_account.this["ingest"]
  values = { id = "projects/a-project/serviceAccounts/ingest@a", email = "ingest@a", member = "serviceAccount:ingest@a" }
}

override_resource {
  target = google_service_account.this["bootstrap"]
  values = { id = "projects/a-project/serviceAccounts/bootstrap@a", email = "bootstrap@a", member = "serviceAccount:bootstrap@a" }
}

override_resource {
  target = google_service_account.this["reconcile"]
  values = { id = "projects/a-project/serviceAccounts/reconcile@a", email = "reconcile@a", member = "serviceAccount:reconcile@a" }
}

override_resource {
  target = google_service_account.this["compact"]
  values = { id = "projects/a-project/serviceAccounts/compact@a", email = "compact@a", member = "serviceAccount:compact@a" }
}

override_resource {
  target = google_service_account.this["push"]
  values = { id = "projects/a-project/serviceAccounts/push@a", email = "push@a", member = "serviceAccount:push@a" }
}

override_resource {
  target = google_service_account.this["caller"]
  values = { id = "projects/a-project/serviceAccounts/caller@a", email = "caller@a", member = "serviceAccount:caller@a" }
}

override_resource {
  target = google_service_account.this["build"]
  values = { id = "projects/a-project/serviceAccounts/build@a", email = "build@a", member = "serviceAccount:build@a" }
}

override_resource {
  target = google_service_account.this["backup"]
  values = { id = "projects/a-project/serviceAccounts/backup@a", email = "backup@a", member = "serviceAccount:backup@a" }
}

# The ids that resources refer to each other by.

override_resource {
  target = google_pubsub_topic.events
  values = { id = "events" }
}

override_resource {
  target = google_pubsub_topic.dead_letters
  values = { id = "dead letters" }
}

override_resource {
  target = google_pubsub_subscription.ingest
  values = { id = "ingest" }
}

override_resource {
  target = google_pubsub_subscription.dead_letters
  values = { id = "undeliverable" }
}

override_resource {
  target = google_artifact_registry_repository.images
  values = { id = "images" }
}

override_resource {
  target = google_project_iam_custom_role.this["row_writer"]
  values = { id = "row_writer" }
}

override_resource {
  target = google_project_iam_custom_role.this["archiver"]
  values = { id = "archiver" }
}

override_resource {
  target = google_project_iam_custom_role.this["compactor"]
  values = { id = "compactor" }
}

override_resource {
  target = google_project_iam_custom_role.this["operator"]
  values = { id = "operator" }
}

override_resource {
  target = google_project_iam_custom_role.this["traffic_manager"]
  values = { id = "traffic_manager" }
}

override_resource {
  target = google_project_iam_custom_role.this["push_manager"]
  values = { id = "push_manager" }
}

override_resource {
  target = google_project_iam_custom_role.this["restorer"]
  values = { id = "restorer" }
}

override_resource {
  target = google_project_iam_custom_role.this["definer"]
  values = { id = "definer" }
}

override_resource {
  target = google_project_iam_custom_role.this["record_reader"]
  values = { id = "record_reader" }
}

override_resource {
  target = google_project_iam_custom_role.this["eraser"]
  values = { id = "eraser" }
}

override_resource {
  target = google_project_iam_custom_role.this["snapshotter"]
  values = { id = "snapshotter" }
}

override_resource {
  target = google_project_iam_custom_role.this["copier"]
  values = { id = "copier" }
}

override_resource {
  target = google_project_iam_custom_role.this["keeper"]
  values = { id = "keeper" }
}

override_resource {
  target = google_project_iam_custom_role.this["reader"]
  values = { id = "reader" }
}

override_resource {
  target = google_data_catalog_policy_tag.protected["personal"]
  values = { id = "the personal tag", name = "the personal tag" }
}

override_resource {
  target = google_data_catalog_policy_tag.protected["raw"]
  values = { id = "the raw tag", name = "the raw tag" }
}

override_resource {
  target = google_data_catalog_taxonomy.protected[0]
  values = { id = "taxonomy" }
}

override_resource {
  target = google_secret_manager_secret.ip_hash_key[0]
  values = { id = "the secret" }
}

override_resource {
  target = google_iam_workload_identity_pool.github[0]
  values = { name = "pool" }
}

override_resource {
  target = google_iam_workload_identity_pool_provider.github[0]
  values = { name = "provider" }
}

override_resource {
  target = google_service_account.ci[0]
  values = { id = "projects/a-project/serviceAccounts/ci@a", email = "ci@a", member = "serviceAccount:ci@a" }
}

override_resource {
  target = google_project_iam_custom_role.ci["deployer"]
  values = { id = "ci deployer" }
}

override_resource {
  target = google_project_iam_custom_role.ci["releaser"]
  values = { id = "ci releaser" }
}

# Of engine = "dataflow".

override_resource {
  target = google_service_account.this["dataflow"]
  values = { id = "projects/a-project/serviceAccounts/dataflow@a", email = "dataflow@a", member = "serviceAccount:dataflow@a" }
}

override_resource {
  target = google_project_iam_custom_role.this["stager"]
  values = { id = "stager" }
}

# Of ingest.mode = "batch".

override_resource {
  target = google_cloudfunctions2_function.drain
  values = {
    service_config = { uri = "https://drain-x7.a.run.app" }
  }
}

override_resource {
  target = google_service_account.this["drain"]
  values = { id = "projects/a-project/serviceAccounts/drain@a", email = "drain@a", member = "serviceAccount:drain@a" }
}

override_resource {
  target = google_project_iam_custom_role.this["archive_reader"]
  values = { id = "archive_reader" }
}

override_resource {
  target = google_project_iam_custom_role.this["consumer"]
  values = { id = "consumer" }
}

override_resource {
  target = google_project_iam_custom_role.this["lister"]
  values = { id = "lister" }
}

override_resource {
  target = google_project_iam_custom_role.this["load_writer"]
  values = { id = "load_writer" }
}
