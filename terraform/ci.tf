variable "github" {
  description = "Repository whose workflows may deploy the functions without a key, such as { repository = \"acme/sluice\", ref = \"refs/heads/main\" }; null: none."
  type = object({
    repository = string
    ref        = optional(string, "refs/heads/main")
  })
  default = null

  validation {
    condition     = var.github == null || (can(regex("^[\\w.-]+/[\\w.-]+$", var.github.repository)) && can(regex("^refs/(heads|tags)/[\\w./-]+$", var.github.ref)))
    error_message = "repository: OWNER/NAME; ref: refs/heads/NAME or refs/tags/NAME."
  }
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
  attribute_condition                = "assertion.sub == 'repo:${var.github.repository}:ref:${var.github.ref}'"
  attribute_mapping                  = { "google.subject" = "assertion.sub" }

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account" "ci" {
  count = var.github == null ? 0 : 1

  project      = var.project_id
  account_id   = "${local.name}-ci"
  display_name = "Workflows of ${var.github.repository} deploy the functions as it"
  depends_on   = [google_project_service.needed]
}

resource "google_service_account_iam_member" "github" {
  count = var.github == null ? 0 : 1

  service_account_id = google_service_account.ci[0].id
  role               = "roles/iam.workloadIdentityUser"
  member             = "principal://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/subject/repo:${var.github.repository}:ref:${var.github.ref}"
}

# New code for the functions, which run as their own accounts; the rest of what is here stays with people.
resource "google_project_iam_member" "ci" {
  count = var.github == null ? 0 : 1

  project = var.project_id
  role    = "roles/cloudfunctions.developer"
  member  = google_service_account.ci[0].member
}

resource "google_service_account_iam_member" "ci" {
  for_each = toset(var.github == null ? [] : ["ingest", "bootstrap", "reconcile", "build"])

  service_account_id = google_service_account.this[each.key].id
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.ci[0].member
}
