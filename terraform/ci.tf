variable "github" {
  description = <<-TEXT
    Repository whose workflows may deploy the functions without a key (docs/release.md). null: none.
    repository: OWNER@ID/NAME@ID as in the subject of its tokens, or OWNER/NAME if it was created before July 2026.
    environment: GitHub environment of the deploying job, as in .github/workflows/deploy.yml.
    ref: branch or tag of a workflow whose job has no environment. Default: refs/heads/main. Set one of the two at most.
  TEXT
  type = object({
    repository  = string
    environment = optional(string)
    ref         = optional(string)
  })
  default = null

  validation {
    condition     = var.github == null || can(regex("^([\\w.-]+/[\\w.-]+|[\\w.-]+@\\d+/[\\w.-]+@\\d+)$", var.github.repository))
    error_message = "github.repository: OWNER@ID/NAME@ID with both numeric IDs, or OWNER/NAME."
  }
  validation {
    condition     = var.github == null || try(var.github.environment, null) == null || can(regex("^[\\w.-]+$", var.github.environment))
    error_message = "github.environment: letters, digits, _, . and -."
  }
  validation {
    condition     = var.github == null || try(var.github.ref, null) == null || can(regex("^refs/(heads|tags)/[\\w./-]+$", var.github.ref))
    error_message = "github.ref: refs/heads/NAME or refs/tags/NAME."
  }
  validation {
    condition     = var.github == null || try(var.github.environment, null) == null || try(var.github.ref, null) == null
    error_message = "github: either environment or ref. The subject of a job with an environment does not have the ref."
  }
}

locals {
  # https://docs.github.com/en/actions/reference/security/oidc: the subject of a job that has an environment names no ref.
  github_subject = var.github == null ? "" : join(":", [
    "repo", var.github.repository,
    var.github.environment == null ? "ref:${coalesce(var.github.ref, "refs/heads/main")}" : "environment:${var.github.environment}",
  ])
  github_page = var.github == null ? null : join("/", [
    "https://github.com", replace(var.github.repository, "/@\\d+/", ""), "blob",
    var.github.environment != null ? "HEAD" : regex("^refs/[a-z]+/(.+)$", coalesce(var.github.ref, "refs/heads/main"))[0],
  ])
}

resource "google_iam_workload_identity_pool" "github" {
  count = var.github == null ? 0 : 1

  project                   = var.project_id
  workload_identity_pool_id = "${local.name}-github"
  display_name              = "GitHub, for ${local.name}"
  depends_on                = [google_project_service.needed]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  #checkov:skip=CKV_GCP_125:The condition is one exact subject; the check does not read variables
  count = var.github == null ? 0 : 1

  project                            = var.project_id
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  display_name                       = "GitHub Actions"
  attribute_condition                = "assertion.sub == '${local.github_subject}'"
  attribute_mapping                  = { "google.subject" = "assertion.sub" }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }

  lifecycle {
    precondition { # https://cloud.google.com/iam/docs/workload-identity-federation#mapping
      condition     = length(local.github_subject) <= 127
      error_message = "github: the subject ${local.github_subject} is longer than 127 characters, the maximum of Google Cloud."
    }
  }
}

resource "google_service_account" "ci" {
  count = var.github == null ? 0 : 1

  project      = var.project_id
  account_id   = "${local.name}-ci"
  display_name = "Deploys the functions from GitHub workflows"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account_iam_member" "github" {
  count = var.github == null ? 0 : 1

  service_account_id = google_service_account.ci[0].id
  role               = "roles/iam.workloadIdentityUser"
  member             = "principal://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/subject/${local.github_subject}"
}

# Permissions of .ci/deploy and of the smoke test. docs/release.md lists them, and tests/terraform/test_ci.py compares the two.

resource "google_project_iam_custom_role" "ci" {
  for_each = var.github == null ? {} : {
    deployer = {
      title = "runs the bootstrap by Cloud Scheduler and reads its result"
      permissions = [
        "cloudscheduler.jobs.run", # Neither Cloud Scheduler jobs nor logs have bindings of their own.
        "logging.logEntries.list",
        "serviceusage.services.use", # gcloud names the project for quota: https://cloud.google.com/docs/quotas/quota-project
      ]
    }
    releaser = {
      title       = "adds packages, without replacing or deleting any"
      permissions = ["storage.objects.create", "storage.objects.get", "storage.objects.list"]
    }
  }

  project     = var.project_id
  role_id     = replace("${local.name}-${each.key}", "-", "_")
  title       = "Sluice ${var.environment}: ${each.value.title}"
  permissions = each.value.permissions
  depends_on  = [google_project_service.needed]
}

# Deploys new code of the functions, which run as their own service accounts, and runs the query of the smoke test.
resource "google_project_iam_member" "ci" {
  for_each = var.github == null ? {} : {
    deploys = "roles/cloudfunctions.developer"
    runs    = google_project_iam_custom_role.ci["deployer"].id
    queries = "roles/bigquery.jobUser"
  }

  project = var.project_id
  role    = each.value
  member  = google_service_account.ci[0].member
}

moved {
  from = google_project_iam_member.ci[0]
  to   = google_project_iam_member.ci["deploys"]
}

# It runs the bootstrap as the service account caller: google_service_account_iam_member.deployer in iam.tf.
resource "google_service_account_iam_member" "ci" {
  for_each = toset(var.github == null ? [] : concat(["ingest", "bootstrap", "reconcile", "build"], var.archive.compact ? ["compact"] : [], local.batch ? ["drain"] : []))

  service_account_id = google_service_account.this[each.key].id
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.ci[0].member
}

resource "google_storage_bucket_iam_member" "ci" {
  for_each = var.github == null ? {} : {
    packages = { bucket = google_storage_bucket.packages.name, role = google_project_iam_custom_role.ci["releaser"].id }
    archive  = { bucket = google_storage_bucket.archive.name, role = "roles/storage.objectViewer" }
  }

  bucket = each.value.bucket
  role   = each.value.role
  member = google_service_account.ci[0].member
}

resource "google_pubsub_topic_iam_member" "ci" {
  count = var.github == null ? 0 : 1

  topic  = google_pubsub_topic.events.id
  role   = "roles/pubsub.publisher"
  member = google_service_account.ci[0].member
}
