# Scheduled calls. The bootstrap runs daily, and fixes or reports manual changes. The reconciliation runs twice an hour. The
# first run compares the hour that ended an hour ago, so that a lost event is found within two hours. The second run has
# work only if the first could not finish. The compaction runs once an hour, and compacts the hours that the reconciliation
# has found complete.

resource "google_cloud_scheduler_job" "called" {
  for_each = local.called

  project          = var.project_id
  name             = "${local.name}-${each.key}"
  description      = "Runs ${each.key}"
  region           = var.region
  schedule         = each.value.schedule
  time_zone        = "Etc/UTC"
  attempt_deadline = "${each.value.timeout_seconds}s"

  http_target {
    http_method = "POST"
    uri         = google_cloudfunctions2_function.called[each.key].service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.this["caller"].email
      audience              = google_cloudfunctions2_function.called[each.key].service_config[0].uri
    }
  }

  retry_config {
    retry_count          = 3
    min_backoff_duration = "30s"
    max_backoff_duration = "300s"
  }

  depends_on = [google_project_service.needed]
}
