locals {
  # The settings of functions/settings.py; a test compares them. IP_HASH_KEY comes from the secret, and CODE_VERSION from
  # K_REVISION, which Cloud Run sets.
  settings = merge({
    ARCHIVE_BUCKET       = google_storage_bucket.archive.name
    BATCH_BYTES          = var.flush.batch_bytes
    BATCH_ROWS           = var.flush.batch_rows
    DATASET              = google_bigquery_dataset.events["live"].dataset_id
    ENVIRONMENT          = var.environment
    FLUSH_INTERVAL       = var.flush.flush_interval
    FLUSH_TIMEOUT        = var.flush.flush_timeout
    GOOGLE_CLOUD_PROJECT = var.project_id
    HISTORICAL_DATASET   = google_bigquery_dataset.events["historical"].dataset_id
    IP_POLICY            = var.ip_policy
    LINGER_MS            = var.flush.linger_ms
    LOCATION             = var.region
    LOG_LEVEL            = var.log_level
    MAX_IN_FLIGHT        = var.flush.max_in_flight
    MAX_IN_FLIGHT_BYTES  = var.flush.max_in_flight_bytes
    RETENTION_DAYS       = var.retention_days
    SUBSCRIPTION         = local.subscription_id
  }, { for name, tag in google_data_catalog_policy_tag.protected : "POLICY_TAG_${upper(name)}" => tag.id })

  package_digest = var.release == null ? filesha256(var.package) : var.release
  package_object = one(concat(google_storage_bucket_object.package[*].name, data.google_storage_bucket_object.release[*].name))

  # The build compiles the functions and then sets all file times to 1980. With SOURCE_DATE_EPOCH, bytecode is validated by
  # the hash of its source instead of the time, so that no start compiles again. Any time will do:
  # https://docs.python.org/3/library/py_compile.html
  #
  # SLUICE_PACKAGE has no effect on the build. It identifies the deployed code: the provider returns the configured source
  # of a function, but its deployed variables (docs/decisions.md, "How it is released").
  build_variables = { SOURCE_DATE_EPOCH = "315532801", SLUICE_PACKAGE = local.package_digest }

  # Functions called by a schedule, by deployments and by operators.
  called = merge({
    bootstrap = {
      description     = "Creates and updates datasets, tables and views as sql/ defines them"
      memory          = "512Mi"
      concurrency     = 8
      timeout_seconds = 600
      schedule        = var.bootstrap_schedule
    }
    reconcile = {
      description     = "Compares the archive with rows and dead letters"
      memory          = "2Gi" # docs/reliability.md: a million objects in an hour.
      concurrency     = 1
      timeout_seconds = 1800 # functions/reconcile/scheduled.py stops earlier and leaves the rest to the next run.
      schedule        = var.reconcile_schedule
    }
    }, var.archive.compact ? {
    compact = {
      description     = "Compacts the hours of the archive that reconcile has found complete"
      memory          = "1Gi"
      concurrency     = 1
      timeout_seconds = 1800         # functions/compact/scheduled.py stops earlier and leaves the rest to the next run.
      schedule        = "31 * * * *" # 20 minutes after the default of reconcile_schedule.
    }
  } : {})
}

resource "google_storage_bucket" "packages" {
  #checkov:skip=CKV_GCP_62:Access logs are for public buckets; the organization configures audit logs for readers
  #checkov:skip=CKV_GCP_78:An object's name is the hash of its content: there is only one version
  project                     = var.project_id
  name                        = "${var.project_id}-${local.name}-packages"
  location                    = var.region
  labels                      = local.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # `make package` rebuilds any package from its commit.

  dynamic "encryption" {
    for_each = var.customer_managed_keys ? [local.keys[var.region]] : []
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]
}

# Terraform, the workflow and .ci/deploy use the same name for a package. Packages are kept for later deployments.
resource "google_storage_bucket_object" "package" {
  count = var.release == null ? 1 : 0

  bucket          = google_storage_bucket.packages.name
  name            = "sluice-${local.package_digest}.zip"
  source          = var.package
  deletion_policy = "ABANDON"
}

data "google_storage_bucket_object" "release" {
  count = var.release == null ? 0 : 1

  bucket = google_storage_bucket.packages.name
  name   = "sluice-${local.package_digest}.zip"
}

resource "google_artifact_registry_repository" "images" {
  project       = var.project_id
  repository_id = local.name
  description   = "Images of the functions, built by Cloud Build"
  location      = var.region
  format        = "DOCKER"
  labels        = local.labels
  kms_key_name  = lookup(local.keys, var.region, null)

  cleanup_policies {
    id     = "keep-to-roll-back"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }
  cleanup_policies {
    id     = "delete-after-30-days"
    action = "DELETE"
    condition {
      older_than = "${30 * 86400}s"
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]
}

resource "google_cloudfunctions2_function" "called" {
  #checkov:skip=CKV_GCP_124:Deployers and operators call them from outside; IAM rejects all others
  for_each = local.called

  project      = var.project_id
  name         = "${local.name}-${each.key}"
  description  = each.value.description
  location     = var.region
  labels       = local.labels
  kms_key_name = lookup(local.keys, var.region, null)

  build_config {
    runtime           = "python313"
    entry_point       = each.key
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.this["build"].id

    environment_variables = local.build_variables

    source {
      storage_source {
        bucket = google_storage_bucket.packages.name
        object = local.package_object
      }
    }
  }

  service_config {
    available_cpu                    = "1"
    available_memory                 = each.value.memory
    max_instance_count               = 1
    max_instance_request_concurrency = each.value.concurrency
    timeout_seconds                  = each.value.timeout_seconds
    ingress_settings                 = local.ingress_settings.called
    vpc_connector                    = local.vpc_connector
    vpc_connector_egress_settings    = local.vpc_connector == null ? null : local.vpc_egress
    all_traffic_on_latest_revision   = true
    service_account_email            = google_service_account.this[each.key].email
    environment_variables            = local.settings
  }

  depends_on = [
    google_project_iam_member.build,
    google_artifact_registry_repository_iam_member.build,
    google_storage_bucket_iam_member.build,
    terraform_data.permissions,
  ]
}

# Ingest is deployed after its tables have been updated. A rejected change of the schema stops the deployment here.
resource "google_cloudfunctions2_function" "ingest" {
  project      = var.project_id
  name         = "${local.name}-ingest"
  description  = "Events from Pub/Sub into BigQuery and Cloud Storage"
  location     = var.region
  labels       = local.labels
  kms_key_name = lookup(local.keys, var.region, null)

  build_config {
    runtime           = "python313"
    entry_point       = "ingest"
    docker_repository = google_artifact_registry_repository.images.id
    service_account   = google_service_account.this["build"].id

    environment_variables = local.build_variables

    source {
      storage_source {
        bucket = google_storage_bucket.packages.name
        object = local.package_object
      }
    }
  }

  service_config {
    available_cpu                    = tostring(var.ingest.cpu)
    available_memory                 = var.ingest.memory
    min_instance_count               = local.dataflow || local.batch ? 0 : var.ingest.min_instances
    max_instance_count               = var.ingest.max_instances
    max_instance_request_concurrency = var.ingest.concurrency
    timeout_seconds                  = var.ingest.timeout_seconds
    ingress_settings                 = local.ingress_settings.ingest
    vpc_connector                    = local.vpc_connector
    vpc_connector_egress_settings    = local.vpc_connector == null ? null : local.vpc_egress
    all_traffic_on_latest_revision   = !var.ingest.canary
    service_account_email            = google_service_account.this["ingest"].email
    environment_variables            = local.settings

    dynamic "secret_environment_variables" {
      for_each = local.ip_hash_key
      content {
        project_id = var.project_id
        key        = secret_environment_variables.key
        secret     = secret_environment_variables.value
        version    = var.ip_hash_key_version
      }
    }
  }

  depends_on = [
    google_secret_manager_secret_iam_member.ip_hash_key,
    google_storage_bucket_iam_member.archive,
    terraform_data.bootstrap,
    terraform_data.ip_hash_key,
  ]
}
