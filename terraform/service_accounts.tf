# A service account for each component, with no more permissions than it needs.

resource "google_service_account" "this" {
  for_each = merge({
    ingest    = "Runs the ingest function"
    bootstrap = "Runs the bootstrap function"
    reconcile = "Runs the reconcile function"
    push      = "Calls ingest for Pub/Sub"
    caller    = "Calls the other functions for Cloud Scheduler and deployments"
    build     = "Builds the images of the functions"
    backup    = "Copies history, and takes snapshots and copies"
    },
    var.archive.compact ? { compact = "Runs the compact function" } : {},
    local.batch ? { drain = "Runs the drain function" } : {},
    local.dataflow ? { dataflow = "Runs the Dataflow job, its launcher and its workers" } : {},
  )

  project      = var.project_id
  account_id   = "${local.name}-${each.key}"
  display_name = each.value
  depends_on   = [google_project_service.needed]
}

# Custom roles, as predefined ones have more permissions: dataEditor deletes tables, objectCreator lists projects, and
# dataOwner grants access.
resource "google_project_iam_custom_role" "this" {
  for_each = merge({
    row_writer = {
      title       = "writes rows"
      permissions = ["bigquery.tables.get", "bigquery.tables.updateData"]
    }
    archiver = {
      title       = "writes new objects, without reading or replacing any"
      permissions = ["storage.objects.create"]
    }
    operator = {
      title = "views functions, services, revisions and transfers, and runs scheduled jobs"
      permissions = concat([
        "bigquery.transfers.get",
        "cloudfunctions.functions.get",
        "cloudscheduler.jobs.enable",
        "cloudscheduler.jobs.get",
        "cloudscheduler.jobs.run", # Cloud Scheduler jobs have no bindings of their own.
        "run.operations.get",
        "run.revisions.list",
        "run.services.list",         # `sluice console` finds the function's subscription by it.
        "serviceusage.services.use", # gcloud names the project for quota: https://cloud.google.com/docs/quotas/quota-project
        ], local.dataflow ? [
        "dataflow.jobs.get", # Dataflow jobs have no bindings of their own: https://cloud.google.com/dataflow/docs/concepts/access-control
        "dataflow.jobs.list",
        "dataflow.jobs.updateContents", # Drains it.
        "dataflow.messages.list",
        "dataflow.metrics.get",
        ] : [], local.batch ? [
        "cloudscheduler.jobs.pause", # Stops drain, as push_manager stops the push.
      ] : [])
    }
    traffic_manager = {
      title       = "moves traffic between revisions"
      permissions = ["run.services.get", "run.services.update"]
    }
    push_manager = {
      title       = "stops and starts the push of a subscription"
      permissions = ["pubsub.subscriptions.update"]
    }
    restorer = {
      title = "writes objects, and restores deleted ones, also by overwriting others"
      permissions = [
        "storage.objects.create",
        "storage.objects.delete", # Required if a restored object replaces another one.
        "storage.objects.restore",
      ]
    }
    definer = {
      title = "creates and alters tables and views"
      permissions = [
        "bigquery.datasets.get",
        "bigquery.tables.create",
        "bigquery.tables.delete", # Required if a statement sets an expiration of partitions.
        "bigquery.tables.get",
        "bigquery.tables.getData", # Required to create a view.
        "bigquery.tables.setCategory",
        "bigquery.tables.update",
        "bigquery.tables.updateData",
      ]
    }
    reader = {
      title       = "reads rows"
      permissions = ["bigquery.tables.get", "bigquery.tables.getData"]
    }
    record_reader = {
      title       = "reads rows and dead letters"
      permissions = ["bigquery.tables.get", "bigquery.tables.getData"]
    }
    snapshotter = {
      title = "reads rows, and takes snapshots of them"
      permissions = [
        "bigquery.datasets.get",
        "bigquery.tables.createSnapshot",
        "bigquery.tables.deleteSnapshot", # Required to create a snapshot that expires: https://cloud.google.com/bigquery/docs/table-snapshots-create
        "bigquery.tables.get",
        "bigquery.tables.getData",
        "bigquery.tables.list",
      ]
    }
    eraser = {
      title = "deletes rows, and rewrites objects of the archive"
      permissions = [
        "bigquery.datasets.get",
        "bigquery.tables.get",
        "bigquery.tables.getData",
        "bigquery.tables.list",
        "bigquery.tables.updateData",
        "storage.buckets.get",
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
      ]
    }
    copier = {
      title       = "is required to copy into a dataset" # https://cloud.google.com/bigquery/docs/managing-datasets
      permissions = ["bigquery.datasets.update"]
    }
    keeper = {
      title = "adds rows, and snapshots that expire"
      permissions = [
        "bigquery.datasets.get",
        "bigquery.tables.create",
        "bigquery.tables.deleteSnapshot",
        "bigquery.tables.get",
        "bigquery.tables.getData",
        "bigquery.tables.list",
        "bigquery.tables.updateData",
      ]
    }
    }, var.archive.compact ? {
    compactor = {
      title = "writes objects, marks them as finished, and deletes their originals"
      permissions = [
        "storage.objects.create",
        "storage.objects.delete", # Also required to replace its progress.
        "storage.objects.update",
      ]
    }
    } : {}, local.batch ? {
    consumer = {
      title       = "pulls and acknowledges the messages of a subscription"
      permissions = ["pubsub.subscriptions.consume"]
    }
    archive_reader = {
      title       = "reads objects by name"
      permissions = ["storage.objects.get"]
    }
    load_writer = {
      title = "reads, writes and deletes load files"
      permissions = [
        "storage.objects.create",
        "storage.objects.delete", # Also required to replace the ledger.
        "storage.objects.get",
      ]
    }
    lister = {
      title = "lists objects, and sees the bucket"
      permissions = [
        "storage.buckets.get", # BigQuery requires it of whoever loads a file.
        "storage.objects.list",
      ]
    }
    } : {}, local.dataflow ? {
    stager = {
      title = "reads and writes files of Dataflow"
      permissions = [
        "storage.buckets.get",
        "storage.objects.create",
        "storage.objects.delete",
        "storage.objects.get",
        "storage.objects.list",
        "storage.objects.update",
      ]
    }
  } : {})

  project     = var.project_id
  role_id     = replace("${local.name}-${each.key}", "-", "_")
  title       = "Sluice ${var.environment}: ${each.value.title}"
  permissions = each.value.permissions
  depends_on  = [google_project_service.needed]
}
