# Log entries that are excluded from Cloud Logging: https://cloud.google.com/logging/docs/routing/overview#exclusions.

variable "request_logs" {
  description = <<-TEXT
    Whether to keep the request log of successful requests to ingest. It has a line for each event, which costs more than
    storing the event. Failed requests are always logged, and the metrics of Cloud Run count all requests.
  TEXT
  type        = bool
  default     = false
  nullable    = false
}

resource "google_logging_project_exclusion" "requests" {
  count = var.request_logs ? 0 : 1

  project     = var.project_id
  name        = "${local.name}-ingest-requests"
  description = "Successful requests to ingest: one line for each event"
  filter      = <<-FILTER
    resource.type="cloud_run_revision" AND resource.labels.service_name="${google_cloudfunctions2_function.ingest.name}"
    AND log_id("run.googleapis.com/requests") AND httpRequest.status<300
  FILTER

  depends_on = [google_project_service.needed]
}
