# What Cloud Logging does not keep: https://cloud.google.com/logging/docs/routing/overview#exclusions.

variable "request_logs" {
  description = <<-TEXT
    Whether Cloud Run's log of the requests to ingest that succeeded is kept: a line for each event, which costs more
    than to store the event. Requests that failed are always kept. The metrics of Cloud Run count all of them.
  TEXT
  type        = bool
  default     = false
  nullable    = false
}

resource "google_logging_project_exclusion" "requests" {
  count = var.request_logs ? 0 : 1

  project     = var.project_id
  name        = "${local.name}-ingest-requests"
  description = "Requests to ingest that succeeded: one line for each event"
  filter      = <<-FILTER
    resource.type="cloud_run_revision" AND resource.labels.service_name="${google_cloudfunctions2_function.ingest.name}"
    AND log_id("run.googleapis.com/requests") AND httpRequest.status<300
  FILTER

  depends_on = [google_project_service.needed]
}
