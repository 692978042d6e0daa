# All bindings except those of the datasets, which are in warehouse.tf. terraform/tests/access.tftest.hcl lists them.

locals {
  # `gcloud beta services identity create` creates it (docs/deploy.md), as the provider cannot.
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

# Delivery

resource "google_cloud_run_v2_service_iam_member" "push" {
  project  = var.project_id
  name     = google_cloudfunctions2_function.ingest.name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.this["push"].member
}

resource "google_pubsub_topic_iam_member" "forwards" {
  topic  = google_pubsub_topic.dead_letters.id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "forwards" {
  subscription = google_pubsub_subscription.ingest.id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

# The smoke test publishes.
resource "google_pubsub_topic_iam_member" "publisher" {
  for_each = setunion(var.access.publishers, var.access.operators)

  topic  = google_pubsub_topic.events.id
  role   = "roles/pubsub.publisher"
  member = each.value
}

# The archive

resource "google_storage_bucket_iam_member" "archive" {
  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.this["archiver"].id
  member = google_service_account.this["ingest"].member
}

resource "google_storage_bucket_iam_member" "archive_reader" {
  for_each = setunion(var.access.raw_data_readers, var.access.operators)

  bucket = google_storage_bucket.archive.name
  role   = "roles/storage.objectViewer"
  member = each.value
}

# BigQuery lists the objects to create the external table archive_events, as whoever creates it.
resource "google_storage_bucket_iam_member" "bootstrap" {
  # BigQuery also sees the bucket for whoever makes an external table.
  for_each = toset(["roles/storage.legacyBucketReader", "roles/storage.objectViewer"])

  bucket = google_storage_bucket.archive.name
  role   = each.value
  member = google_service_account.this["bootstrap"].member
}

resource "google_storage_bucket_iam_member" "reconcile" {
  bucket = google_storage_bucket.archive.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.this["reconcile"].member
}

# The reconciliation stores its progress in objects of its own, each written once.
resource "google_storage_bucket_iam_member" "checkpoints" {
  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.this["archiver"].id
  member = google_service_account.this["reconcile"].member

  condition {
    title      = "checkpoints of the reconciliation"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.archive.name}/objects/reconciled/\")"
  }
}

resource "google_storage_bucket_iam_member" "compact_reader" {
  count = var.archive.compact ? 1 : 0

  bucket = google_storage_bucket.archive.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.this["compact"].member
}

# It can neither change the checkpoints of the reconciliation, nor the load files and the ledger of batch mode.
resource "google_storage_bucket_iam_member" "compactor" {
  count = var.archive.compact ? 1 : 0

  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.this["compactor"].id
  member = google_service_account.this["compact"].member

  condition {
    title      = "raw events and progress of the compaction"
    expression = join(" || ", [for folder in ["raw/", "compacted/"] : "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.archive.name}/objects/${folder}\")"])
  }
}

# Batch mode. A condition on the name of an object is never true for a list, so that the permission to list has none.
resource "google_storage_bucket_iam_member" "archive_drain" {
  for_each = local.batch ? {
    archive_reader = "raw/" # If BigQuery rejects a row, its dead letter has the original bytes.
    archiver       = "raw/"
    lister         = null
    load_writer    = "load/"
  } : {}

  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.this[each.key].id
  member = google_service_account.this["drain"].member

  dynamic "condition" {
    for_each = each.value[*]
    content {
      title      = "objects of ${condition.value}"
      expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.archive.name}/objects/${condition.value}\")"
    }
  }
}

resource "google_storage_bucket_iam_member" "archive_operator" {
  for_each = var.access.operators

  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.this["restorer"].id
  member = each.value
}

resource "google_storage_bucket_iam_member" "archive_eraser" {
  for_each = var.access.erasers

  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.this["eraser"].id
  member = each.value
}

resource "google_pubsub_subscription_iam_member" "dead_letters" {
  for_each = setunion(var.access.operators, var.access.erasers) # No readers: pulling includes the permission to acknowledge, and so to delete.

  subscription = google_pubsub_subscription.dead_letters.id
  role         = "roles/pubsub.subscriber"
  member       = each.value
}

# Batch mode

resource "google_pubsub_subscription_iam_member" "drain" {
  count = local.batch ? 1 : 0

  subscription = google_pubsub_subscription.ingest.id
  role         = google_project_iam_custom_role.this["consumer"].id
  member       = google_service_account.this["drain"].member
}

# Operators run it by its Cloud Scheduler job.
resource "google_cloud_run_v2_service_iam_member" "drain" {
  count = local.batch ? 1 : 0

  project  = var.project_id
  name     = google_cloudfunctions2_function.drain[0].name
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.this["caller"].member
}

# Dataflow

# The role of workers. It can also read and create objects in the whole project; Google has no narrower role: https://cloud.google.com/dataflow/docs/concepts/access-control
resource "google_project_iam_member" "dataflow" {
  for_each = local.dataflow ? toset(["roles/dataflow.worker"]) : toset([])

  project = var.project_id
  role    = each.value
  member  = google_service_account.this["dataflow"].member
}

resource "google_pubsub_subscription_iam_member" "dataflow" {
  for_each = local.dataflow ? toset(["roles/pubsub.subscriber", "roles/pubsub.viewer"]) : toset([])

  subscription = google_pubsub_subscription.ingest.id
  role         = each.value
  member       = google_service_account.this["dataflow"].member
}

resource "google_storage_bucket_iam_member" "archive_dataflow" {
  count = local.dataflow ? 1 : 0

  bucket = google_storage_bucket.archive.name
  role   = google_project_iam_custom_role.this["archiver"].id
  member = google_service_account.this["dataflow"].member
}

resource "google_storage_bucket_iam_member" "dataflow" {
  count = local.dataflow ? 1 : 0

  bucket = google_storage_bucket.dataflow[0].name
  role   = google_project_iam_custom_role.this["stager"].id
  member = google_service_account.this["dataflow"].member
}

resource "google_artifact_registry_repository_iam_member" "dataflow" {
  count = local.dataflow ? 1 : 0

  project    = var.project_id
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.this["dataflow"].member
}

# To start a job, a member must be allowed to act as its service account.
resource "google_service_account_iam_member" "dataflow" {
  for_each = local.dataflow ? var.deployers : toset([])

  service_account_id = google_service_account.this["dataflow"].id
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

# Functions that are called

resource "google_cloud_run_v2_service_iam_member" "called" {
  for_each = merge([for name, function in google_cloudfunctions2_function.called : merge(
    { "${name} caller" = { function = function.name, member = google_service_account.this["caller"].member } },
    { for member in var.access.operators : "${name} ${member}" => { function = function.name, member = member } },
  )]...)

  project  = var.project_id
  name     = each.value.function
  location = var.region
  role     = "roles/run.invoker"
  member   = each.value.member
}

# Actions of the runbook: the push of events, and the revision with the traffic. To set a service account on a resource, a member
# must be allowed to act as it: https://cloud.google.com/iam/docs/service-accounts-actas

resource "google_pubsub_subscription_iam_member" "push_manager" {
  for_each = var.access.operators

  subscription = google_pubsub_subscription.ingest.id
  role         = google_project_iam_custom_role.this["push_manager"].id
  member       = each.value
}

resource "google_cloud_run_v2_service_iam_member" "traffic_manager" {
  for_each = var.access.operators

  project  = var.project_id
  name     = google_cloudfunctions2_function.ingest.name
  location = var.region
  role     = google_project_iam_custom_role.this["traffic_manager"].id
  member   = each.value
}

resource "google_service_account_iam_member" "operator" {
  for_each = { for pair in setproduct(["ingest", "push"], var.access.operators) : join(" ", pair) => { account = pair[0], member = pair[1] } }

  service_account_id = google_service_account.this[each.value.account].id
  role               = "roles/iam.serviceAccountUser"
  member             = each.value.member
}

resource "google_service_account_iam_member" "deployer" {
  for_each = merge(
    { for member in var.deployers : member => member },
    { for account in google_service_account.ci : "ci" => account.member },
  )

  service_account_id = google_service_account.this["caller"].id
  # serviceAccountOpenIdTokenCreator is not sufficient, as gcloud creates an access token before an identity token.
  role   = "roles/iam.serviceAccountTokenCreator"
  member = each.value
}

# Permission to run queries and load jobs. The bindings of the datasets control which data they may read and write.

resource "google_project_iam_member" "jobs" {
  for_each = merge(
    {
      bootstrap = google_service_account.this["bootstrap"].member
      reconcile = google_service_account.this["reconcile"].member
      backup    = google_service_account.this["backup"].member
    },
    local.batch ? { drain = google_service_account.this["drain"].member } : {},
    { for member in setunion(local.readers, var.access.raw_data_readers, var.access.operators, var.access.erasers) : member => member },
  )

  project = var.project_id
  role    = "roles/bigquery.jobUser"
  member  = each.value
}

# Operators on call: what the runbook tells them to inspect and run. Sizes and costs are metadata of the whole project.
resource "google_project_iam_member" "operator" {
  for_each = { for pair in setproduct(
    ["roles/bigquery.metadataViewer", "roles/bigquery.resourceViewer", "roles/logging.viewer", "roles/monitoring.viewer", "roles/pubsub.viewer", "operator"],
    var.access.operators,
  ) : join(" ", pair) => { role = pair[0], member = pair[1] } }

  project = var.project_id
  role    = each.value.role == "operator" ? google_project_iam_custom_role.this["operator"].id : each.value.role
  member  = each.value.member
}

# The build

resource "google_project_iam_member" "build" {
  for_each = {
    log = { role = "roles/logging.logWriter", condition = null }
    # Cloud Functions copies the package into a bucket of its own, which it creates with the first deployment.
    source = {
      role      = "roles/storage.objectViewer"
      condition = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-${data.google_project.this.number}-${var.region}\")"
    }
  }

  project = var.project_id
  role    = each.value.role
  member  = google_service_account.this["build"].member

  dynamic "condition" {
    for_each = each.value.condition == null ? [] : [each.value.condition]
    content {
      title      = "sources of functions"
      expression = condition.value
    }
  }
}

resource "google_artifact_registry_repository_iam_member" "build" {
  project    = var.project_id
  repository = google_artifact_registry_repository.images.name
  location   = var.region
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.this["build"].member
}

resource "google_storage_bucket_iam_member" "build" {
  bucket = google_storage_bucket.packages.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.this["build"].member
}

# The secret. Backfills and replays create rows too, so that operators need it.

resource "google_secret_manager_secret_iam_member" "ip_hash_key" {
  for_each = var.ip_policy == "hash" ? merge(
    { for account in concat(["ingest"], local.batch ? ["drain"] : [], local.dataflow ? ["dataflow"] : []) : account => google_service_account.this[account].member },
    { for member in var.access.operators : member => member },
  ) : {}

  secret_id = google_secret_manager_secret.ip_hash_key[0].id
  role      = "roles/secretmanager.secretAccessor"
  member    = each.value
}

# Protected columns

resource "google_data_catalog_taxonomy_iam_member" "bootstrap" {
  count = var.column_security ? 1 : 0

  taxonomy = google_data_catalog_taxonomy.protected[0].id
  role     = "roles/datacatalog.viewer"
  member   = google_service_account.this["bootstrap"].member
}

resource "google_data_catalog_policy_tag_iam_member" "reader" {
  for_each = { for reader in flatten([
    for tag, readers in local.column_readers : [for name, member in readers : { tag = tag, name = name, member = member }]
  ]) : "${reader.tag} ${reader.name}" => reader }

  policy_tag = google_data_catalog_policy_tag.protected[each.value.tag].id
  role       = "roles/datacatalog.categoryFineGrainedReader"
  member     = each.value.member
}

resource "google_bigquery_datapolicy_data_policy_iam_member" "masked" {
  for_each = { for reader in flatten([
    for tag in keys(google_data_catalog_policy_tag.protected) : [for name, member in local.masked_readers : { tag = tag, name = name, member = member }]
  ]) : "${reader.tag} ${reader.name}" => reader }

  project        = var.project_id
  data_policy_id = google_bigquery_datapolicy_data_policy.masked[each.value.tag].data_policy_id
  location       = var.region
  role           = "roles/bigquerydatapolicy.maskedReader"
  member         = each.value.member
}
