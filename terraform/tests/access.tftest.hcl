# All bindings. A test in tests/terraform reads the names of resources here, so that a new binding must be listed.

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
  ip_policy  = "hash"
  access = {
    publishers            = ["serviceAccount:shop@example.com"]
    readers               = ["group:analysts@example.com"]
    personal_data_readers = ["group:support@example.com"]
    raw_data_readers      = ["user:grace@example.com"]
    operators             = ["group:operators@example.com"]
    erasers               = ["group:privacy@example.com"]
  }
}

run "members_have_exactly_their_permissions" {
  command = plan

  # project wide are jobs metadata and the build s log and sources
  assert {
    condition = toset([for binding in concat(values(google_project_iam_member.jobs), values(google_project_iam_member.operator), values(google_project_iam_member.build), values(google_project_iam_member.ci)) : "${binding.role} ${binding.member}"]) == toset([
      "roles/bigquery.jobUser serviceAccount:backup@a",
      "roles/bigquery.jobUser serviceAccount:bootstrap@a",
      "roles/bigquery.jobUser serviceAccount:reconcile@a",
      "roles/bigquery.jobUser group:analysts@example.com",
      "roles/bigquery.jobUser group:support@example.com",
      "roles/bigquery.jobUser user:grace@example.com",
      "roles/bigquery.jobUser group:operators@example.com",
      "roles/bigquery.jobUser group:privacy@example.com",
      "roles/bigquery.metadataViewer group:operators@example.com",
      "roles/bigquery.resourceViewer group:operators@example.com",
      "roles/logging.viewer group:operators@example.com",
      "roles/monitoring.viewer group:operators@example.com",
      "roles/pubsub.viewer group:operators@example.com",
      "operator group:operators@example.com",
      "roles/logging.logWriter serviceAccount:build@a",
      "roles/storage.objectViewer serviceAccount:build@a",
    ])
    error_message = "project-wide bindings"
  }
  assert {
    condition     = google_project_iam_member.build["source"].condition[0].expression == "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-123456789012-us-central1\")"
    error_message = "The build reads the sources of functions, and no other bucket."
  }

  # functions are called by pubsub the scheduler and operators who also move the traffic of ingest
  assert {
    condition = toset([for binding in concat([google_cloud_run_v2_service_iam_member.push], values(google_cloud_run_v2_service_iam_member.called), values(google_cloud_run_v2_service_iam_member.traffic_manager)) : "${binding.name} ${binding.role} ${binding.member}"]) == toset([
      "sluice-dev-ingest roles/run.invoker serviceAccount:push@a",
      "sluice-dev-bootstrap roles/run.invoker serviceAccount:caller@a",
      "sluice-dev-bootstrap roles/run.invoker group:operators@example.com",
      "sluice-dev-reconcile roles/run.invoker serviceAccount:caller@a",
      "sluice-dev-reconcile roles/run.invoker group:operators@example.com",
      "sluice-dev-compact roles/run.invoker serviceAccount:caller@a",
      "sluice-dev-compact roles/run.invoker group:operators@example.com",
      "sluice-dev-ingest traffic_manager group:operators@example.com",
    ])
    error_message = "functions"
  }

  # accounts are used by deployers and by operators who set them on the push and the traffic
  assert {
    condition = toset([for binding in concat(values(google_service_account_iam_member.deployer), values(google_service_account_iam_member.operator), google_service_account_iam_member.github, values(google_service_account_iam_member.ci)) : "${binding.service_account_id} ${binding.role} ${binding.member}"]) == toset([
      "projects/a-project/serviceAccounts/caller@a roles/iam.serviceAccountTokenCreator user:ada@example.com",
      "projects/a-project/serviceAccounts/ingest@a roles/iam.serviceAccountUser group:operators@example.com",
      "projects/a-project/serviceAccounts/push@a roles/iam.serviceAccountUser group:operators@example.com",
    ])
    error_message = "who may act as whom"
  }

  # topics and subscriptions have their publishers and readers
  assert {
    condition = toset([for binding in concat([google_pubsub_topic_iam_member.forwards], google_pubsub_topic_iam_member.ci, values(google_pubsub_topic_iam_member.publisher)) : "${binding.topic} ${binding.role} ${binding.member}"]) == toset([
      "events roles/pubsub.publisher serviceAccount:shop@example.com",
      "events roles/pubsub.publisher group:operators@example.com",
      "dead letters roles/pubsub.publisher serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com",
    ])
    error_message = "publishers"
  }
  assert {
    condition = toset([for binding in concat([google_pubsub_subscription_iam_member.forwards], values(google_pubsub_subscription_iam_member.dead_letters), values(google_pubsub_subscription_iam_member.push_manager)) : "${binding.subscription} ${binding.role} ${binding.member}"]) == toset([
      "ingest roles/pubsub.subscriber serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com",
      "ingest push_manager group:operators@example.com",
      "undeliverable roles/pubsub.subscriber group:operators@example.com",
      "undeliverable roles/pubsub.subscriber group:privacy@example.com",
    ])
    error_message = "subscribers"
  }

  # ingest writes new objects and reads none
  assert {
    condition = toset([for binding in concat([google_storage_bucket_iam_member.archive, google_storage_bucket_iam_member.reconcile, google_storage_bucket_iam_member.checkpoints, google_storage_bucket_iam_member.build], values(google_storage_bucket_iam_member.bootstrap), google_storage_bucket_iam_member.compact_reader, google_storage_bucket_iam_member.compactor, values(google_storage_bucket_iam_member.archive_reader), values(google_storage_bucket_iam_member.archive_operator), values(google_storage_bucket_iam_member.archive_eraser), values(google_storage_bucket_iam_member.ci)) : "${binding.bucket} ${binding.role} ${binding.member}"]) == toset([
      "a-project-sluice-dev-archive archiver serviceAccount:ingest@a",
      "a-project-sluice-dev-archive roles/storage.legacyBucketReader serviceAccount:bootstrap@a",
      "a-project-sluice-dev-archive roles/storage.objectViewer serviceAccount:bootstrap@a",
      "a-project-sluice-dev-archive roles/storage.objectViewer serviceAccount:reconcile@a",
      "a-project-sluice-dev-archive archiver serviceAccount:reconcile@a",
      "a-project-sluice-dev-archive roles/storage.objectViewer serviceAccount:compact@a",
      "a-project-sluice-dev-archive compactor serviceAccount:compact@a",
      "a-project-sluice-dev-archive roles/storage.objectViewer user:grace@example.com",
      "a-project-sluice-dev-archive roles/storage.objectViewer group:operators@example.com",
      "a-project-sluice-dev-archive restorer group:operators@example.com",
      "a-project-sluice-dev-archive eraser group:privacy@example.com",
      "a-project-sluice-dev-packages roles/storage.objectViewer serviceAccount:build@a",
    ])
    error_message = "buckets"
  }
  assert {
    condition     = google_storage_bucket_iam_member.checkpoints.condition[0].expression == "resource.name.startsWith(\"projects/_/buckets/a-project-sluice-dev-archive/objects/reconciled/\")"
    error_message = "The reconciliation writes its checkpoints and no raw events."
  }
  assert {
    condition     = google_storage_bucket_iam_member.compactor[0].condition[0].expression == join(" || ", [for folder in ["raw", "compacted"] : "resource.name.startsWith(\"projects/_/buckets/a-project-sluice-dev-archive/objects/${folder}/\")"])
    error_message = "The compaction writes raw events and its progress, and no checkpoints."
  }
  assert {
    condition     = google_project_iam_custom_role.this["compactor"].permissions == toset(["storage.objects.create", "storage.objects.delete", "storage.objects.update"])
    error_message = "compactor"
  }
  assert {
    condition     = google_artifact_registry_repository_iam_member.build.role == "roles/artifactregistry.writer" && google_artifact_registry_repository_iam_member.build.member == "serviceAccount:build@a"
    error_message = "images"
  }
  assert {
    condition     = google_project_iam_custom_role.this["archiver"].permissions == toset(["storage.objects.create"])
    error_message = "archiver"
  }

  # datasets are open to whom they name and nobody else
  assert {
    condition = toset([for access in google_bigquery_dataset.events["live"].access : "${access.role} ${join("", compact([access.special_group, access.user_by_email, access.group_by_email]))}"]) == toset([
      "OWNER projectOwners",
      "roles/bigquery.metadataViewer analysts@example.com",
      "reader analysts@example.com",
      "roles/bigquery.metadataViewer support@example.com",
      "reader support@example.com",
      "READER grace@example.com",
      "WRITER operators@example.com",
      "snapshotter operators@example.com",
      "eraser privacy@example.com",
      "row_writer ingest@a",
      "definer bootstrap@a",
      "snapshotter backup@a",
      "record_reader reconcile@a",
    ])
    error_message = "live dataset"
  }
  assert {
    condition = toset([for access in google_bigquery_dataset.events["historical"].access : "${access.role} ${join("", compact([access.special_group, access.user_by_email, access.group_by_email]))}"]) == toset([
      "OWNER projectOwners",
      "roles/bigquery.metadataViewer analysts@example.com",
      "reader analysts@example.com",
      "roles/bigquery.metadataViewer support@example.com",
      "reader support@example.com",
      "READER grace@example.com",
      "WRITER operators@example.com",
      "snapshotter operators@example.com",
      "eraser privacy@example.com",
      "definer bootstrap@a",
      "keeper backup@a",
      "record_reader reconcile@a",
    ])
    error_message = "historical dataset"
  }

  # readers read rows of events by name and neither dead letters nor snapshots
  assert {
    condition = alltrue(flatten([for dataset in google_bigquery_dataset.events : [for access in dataset.access :
      access.role == "reader" ? strcontains(one(access.condition).expression, "/datasets/${dataset.dataset_id}/tables/") : length(access.condition) == 0
    ]]))
    error_message = "Rows are read under a condition, and nothing else is."
  }
  assert {
    condition = toset(flatten([for access in google_bigquery_dataset.events["historical"].access : access.condition[*].expression])) == toset([
      join(" && ", [
        "resource.service == \"bigquery.googleapis.com\"",
        "resource.type == \"bigquery.googleapis.com/Table\"",
        "(${join(" || ", [for table in ["inventory", "orders", "user_activity"] : "resource.name == \"projects/a-project/datasets/historical_dataset/tables/${table}\""])})",
      ])
    ])
    error_message = "Exactly the tables of events: a snapshot's name begins as its table's."
  }
  assert {
    condition     = alltrue([for expression in flatten([for access in google_bigquery_dataset.events["live"].access : access.condition[*].expression]) : length(regexall("&&|\\|\\|", expression)) <= 12])
    error_message = "IAM takes twelve operators in a condition."
  }
  assert {
    condition     = google_project_iam_custom_role.this["reader"].permissions == toset(["bigquery.tables.get", "bigquery.tables.getData"])
    error_message = "reader"
  }
  assert {
    condition     = alltrue([for role in ["keeper", "snapshotter"] : contains(google_project_iam_custom_role.this[role].permissions, "bigquery.tables.deleteSnapshot")])
    error_message = "BigQuery rejects a snapshot that expires without the permission to delete it."
  }
  assert {
    condition     = google_project_iam_custom_role.this["row_writer"].permissions == toset(["bigquery.tables.get", "bigquery.tables.updateData"])
    error_message = "row_writer"
  }
  assert {
    condition     = toset([for access in google_bigquery_dataset.events["live"].access : access.group_by_email if access.group_by_email != null]) == toset(["analysts@example.com", "support@example.com", "operators@example.com", "privacy@example.com"])
    error_message = "groups are groups, and others are not"
  }

  # protected columns are masked for readers and plain for their readers
  assert {
    condition = toset([for binding in google_data_catalog_policy_tag_iam_member.reader : "${binding.policy_tag} ${binding.role} ${binding.member}"]) == toset([
      "the personal tag roles/datacatalog.categoryFineGrainedReader serviceAccount:backup@a",
      "the personal tag roles/datacatalog.categoryFineGrainedReader group:support@example.com",
      "the personal tag roles/datacatalog.categoryFineGrainedReader group:operators@example.com",
      "the raw tag roles/datacatalog.categoryFineGrainedReader serviceAccount:backup@a",
      "the raw tag roles/datacatalog.categoryFineGrainedReader user:grace@example.com",
      "the raw tag roles/datacatalog.categoryFineGrainedReader group:operators@example.com",
      "the raw tag roles/datacatalog.categoryFineGrainedReader group:privacy@example.com",
    ])
    error_message = "plain readers"
  }
  assert {
    condition = toset([for binding in google_bigquery_datapolicy_data_policy_iam_member.masked : "${binding.data_policy_id} ${binding.role} ${binding.member}"]) == toset(flatten([for policy in ["sluice_dev_personal", "sluice_dev_raw"] : [
      "${policy} roles/bigquerydatapolicy.maskedReader serviceAccount:bootstrap@a",
      "${policy} roles/bigquerydatapolicy.maskedReader group:analysts@example.com",
      "${policy} roles/bigquerydatapolicy.maskedReader group:support@example.com",
      "${policy} roles/bigquerydatapolicy.maskedReader user:grace@example.com",
    ]]))
    error_message = "masked readers"
  }
  assert {
    condition     = { for name, policy in google_bigquery_datapolicy_data_policy.masked : name => policy.data_masking_policy[0].predefined_expression } == { personal = "SHA256", raw = "DEFAULT_MASKING_VALUE" }
    error_message = "masks"
  }
  assert {
    condition     = google_data_catalog_taxonomy_iam_member.bootstrap[0].role == "roles/datacatalog.viewer" && google_data_catalog_taxonomy_iam_member.bootstrap[0].member == "serviceAccount:bootstrap@a"
    error_message = "the bootstrap looks tags up"
  }
  assert {
    condition     = local.settings.POLICY_TAG_PERSONAL == "the personal tag" && local.settings.POLICY_TAG_RAW == "the raw tag"
    error_message = "the bootstrap has the tags in its settings"
  }

  # the secret is read by what makes rows alone
  assert {
    condition = toset([for binding in google_secret_manager_secret_iam_member.ip_hash_key : "${binding.secret_id} ${binding.role} ${binding.member}"]) == toset([
      "the secret roles/secretmanager.secretAccessor serviceAccount:ingest@a",
      "the secret roles/secretmanager.secretAccessor group:operators@example.com",
    ])
    error_message = "secret"
  }
}

run "without_column_security_there_are_no_tags" {
  command = plan
  variables {
    column_security = false
  }

  assert {
    condition     = length(google_data_catalog_taxonomy.protected) + length(google_data_catalog_policy_tag.protected) + length(google_data_catalog_policy_tag_iam_member.reader) + length(google_bigquery_datapolicy_data_policy_iam_member.masked) == 0
    error_message = "tags"
  }
  assert {
    condition     = !anytrue([for name in keys(local.settings) : startswith(name, "POLICY_TAG")])
    error_message = "settings"
  }
}

run "rows_are_shown_by_policy_if_configured" {
  command = plan
  variables {
    row_access_policies = {
      de = { table = "orders", filter = "shipping_address.country = 'DE'", grantees = ["group:de@example.com"] }
    }
  }

  assert {
    condition = toset([for policy in concat(values(google_bigquery_row_access_policy.all_rows), values(google_bigquery_row_access_policy.this)) : "${policy.dataset_id}.${policy.table_id} ${policy.policy_id}: ${policy.filter_predicate} for ${join(" ", sort(policy.grantees))}"]) == toset(flatten([for dataset in ["dev_events_dataset", "historical_dataset"] : [
      "${dataset}.orders de: shipping_address.country = 'DE' for group:de@example.com",
      "${dataset}.orders all_rows: TRUE for group:operators@example.com group:privacy@example.com serviceAccount:backup@a serviceAccount:bootstrap@a serviceAccount:reconcile@a",
    ]]))
    error_message = "In both datasets, and all rows for what keeps and checks them."
  }
}

run "a_workflow_of_one_repository_and_branch_may_deploy" {
  command = plan
  variables {
    github = { repository = "acme/sluice" }
  }

  assert {
    condition     = google_iam_workload_identity_pool_provider.github[0].attribute_condition == "assertion.sub == 'repo:acme/sluice:ref:refs/heads/main'"
    error_message = google_iam_workload_identity_pool_provider.github[0].attribute_condition
  }
  assert {
    condition     = google_iam_workload_identity_pool_provider.github[0].oidc[0].issuer_uri == "https://token.actions.githubusercontent.com" && google_iam_workload_identity_pool_provider.github[0].attribute_mapping == tomap({ "google.subject" = "assertion.sub" })
    error_message = "Only tokens of GitHub count, each as its subject."
  }
  assert {
    condition     = google_service_account_iam_member.github[0].role == "roles/iam.workloadIdentityUser" && google_service_account_iam_member.github[0].member == "principal://iam.googleapis.com/pool/subject/repo:acme/sluice:ref:refs/heads/main"
    error_message = "who may be the account"
  }
}

run "a_workflow_of_one_repository_and_environment_may_deploy" {
  command = plan
  variables {
    github = { repository = "acme@123456/sluice@456789", environment = "prod" }
    row_access_policies = {
      de = { table = "orders", filter = "shipping_address.country = 'DE'", grantees = ["group:de@example.com"] }
    }
  }

  assert {
    condition     = google_iam_workload_identity_pool_provider.github[0].attribute_condition == "assertion.sub == 'repo:acme@123456/sluice@456789:environment:prod'"
    error_message = google_iam_workload_identity_pool_provider.github[0].attribute_condition
  }
  assert {
    condition     = google_service_account_iam_member.github[0].role == "roles/iam.workloadIdentityUser" && google_service_account_iam_member.github[0].member == "principal://iam.googleapis.com/pool/subject/repo:acme@123456/sluice@456789:environment:prod"
    error_message = "who may be the account"
  }
  assert {
    condition     = toset([for binding in values(google_project_iam_member.ci) : "${binding.role} ${binding.member}"]) == toset([for role in ["roles/cloudfunctions.developer", "roles/bigquery.jobUser", "ci deployer"] : "${role} serviceAccount:ci@a"])
    error_message = "project-wide bindings"
  }
  assert {
    condition     = google_project_iam_custom_role.ci["deployer"].permissions == toset(["cloudscheduler.jobs.run", "logging.logEntries.list", "serviceusage.services.use"]) && google_project_iam_custom_role.ci["releaser"].permissions == toset(["storage.objects.create", "storage.objects.get", "storage.objects.list"])
    error_message = "It adds packages, and replaces none."
  }
  assert {
    condition     = toset(keys(google_service_account_iam_member.ci)) == toset(["ingest", "bootstrap", "reconcile", "compact", "build"]) && alltrue([for binding in google_service_account_iam_member.ci : binding.role == "roles/iam.serviceAccountUser"])
    error_message = "it deploys what runs as these"
  }
  assert {
    condition     = toset(keys(google_service_account_iam_member.deployer)) == toset(["user:ada@example.com", "ci"])
    error_message = "It runs the bootstrap, too."
  }
  assert {
    condition = toset([for binding in values(google_storage_bucket_iam_member.ci) : "${binding.bucket} ${binding.role} ${binding.member}"]) == toset([
      "a-project-sluice-dev-packages ci releaser serviceAccount:ci@a",
      "a-project-sluice-dev-archive roles/storage.objectViewer serviceAccount:ci@a",
    ])
    error_message = "buckets"
  }
  assert {
    condition     = google_pubsub_topic_iam_member.ci[0].role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.ci[0].topic == "events"
    error_message = "It publishes the events of the smoke test."
  }
  assert {
    condition     = toset([for binding in google_bigquery_datapolicy_data_policy_iam_member.masked : binding.data_policy_id if binding.member == "serviceAccount:ci@a"]) == toset(["sluice_dev_personal", "sluice_dev_raw"]) && !contains([for binding in google_data_catalog_policy_tag_iam_member.reader : binding.member], "serviceAccount:ci@a")
    error_message = "It reads masked columns, and no plain one."
  }
  assert {
    condition     = { for name, dataset in google_bigquery_dataset.events : name => [for access in dataset.access : access.role if access.user_by_email == "ci@a"] } == { live = ["record_reader"], historical = [] }
    error_message = "It reads the rows of the smoke test."
  }
  assert {
    condition     = alltrue([for policy in google_bigquery_row_access_policy.this : contains(policy.grantees, "serviceAccount:ci@a") if policy.policy_id == "all_rows"])
    error_message = "A row policy does not hide the smoke test's rows."
  }
  assert {
    condition = output.github_variables == join("\n", [
      "ARCHIVE_BUCKET=a-project-sluice-dev-archive",
      "ARCHIVE_COMPACT=true",
      "CI_ACCOUNT=ci@a",
      "DATASET=dev_events_dataset",
      "GOOGLE_CLOUD_PROJECT=a-project",
      "HISTORICAL_DATASET=historical_dataset",
      "INGEST_MODE=push",
      "LOCATION=us-central1",
      "PACKAGES_BUCKET=a-project-sluice-dev-packages",
      "RETENTION_DAYS=90",
      "SLUICE_NAME=sluice-dev",
      "SLUICE_TOPIC=events",
      "WORKLOAD_IDENTITY_PROVIDER=provider",
    ])
    error_message = output.github_variables
  }
}
