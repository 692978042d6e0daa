# One account for each thing that acts, so that each may do its own and no more.

resource "google_service_account" "ingest" {
  account_id   = "${local.name}-ingest"
  display_name = "Runs the ingest function"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account" "bootstrap" {
  account_id   = "${local.name}-bootstrap"
  display_name = "Runs the bootstrap function"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account" "push" {
  account_id   = "${local.name}-push"
  display_name = "Pub/Sub calls ingest as it"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account" "caller" {
  account_id   = "${local.name}-caller"
  display_name = "Cloud Scheduler and deploys call bootstrap as it"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account" "build" {
  account_id   = "${local.name}-build"
  display_name = "Builds the functions' images"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account" "backup" {
  account_id   = "${local.name}-backup"
  display_name = "Keeps history, and takes snapshots and copies"
  depends_on   = [google_project_service.needed]
}

# What the predefined roles would allow beyond: dataEditor deletes tables, objectCreator lists projects,
# dataOwner gives access away.
resource "google_project_iam_custom_role" "this" {
  for_each = {
    row_writer = {
      title       = "writes rows"
      permissions = ["bigquery.tables.get", "bigquery.tables.updateData"]
    }
    archiver = {
      title = "writes new objects, and neither reads nor replaces any"
      # The client reads the bucket's metadata once: https://github.com/googleapis/google-cloud-python/issues/17650
      permissions = ["storage.buckets.get", "storage.objects.create"]
    }
    definer = {
      title = "makes and alters tables and views"
      permissions = [
        "bigquery.datasets.get",
        "bigquery.tables.create",
        "bigquery.tables.delete", # BigQuery asks for it where a statement sets an expiration of partitions.
        "bigquery.tables.get",
        "bigquery.tables.getData", # and for this where one makes a view.
        "bigquery.tables.setCategory",
        "bigquery.tables.update",
        "bigquery.tables.updateData",
      ]
    }
    snapshotter = {
      title = "reads rows, and takes snapshots of them"
      permissions = [
        "bigquery.datasets.get",
        "bigquery.tables.createSnapshot",
        "bigquery.tables.get",
        "bigquery.tables.getData",
        "bigquery.tables.list",
      ]
    }
    keeper = {
      title = "adds rows and snapshots, and deletes none"
      permissions = [
        "bigquery.datasets.get",
        "bigquery.tables.create",
        "bigquery.tables.get",
        "bigquery.tables.getData",
        "bigquery.tables.list",
        "bigquery.tables.updateData",
      ]
    }
  }

  role_id     = replace("${local.name}-${each.key}", "-", "_")
  title       = "Sluice ${var.environment}: ${each.value.title}"
  permissions = each.value.permissions
  depends_on  = [google_project_service.needed]
}
