variable "ingest" {
  description = <<-TEXT
    Delivery to the ingest function, and its size.
    mode: push, by which Pub/Sub calls ingest for each event, or batch, in which the function drain pulls all events each
    few minutes and writes them by load jobs, which are free. Then ingest has no traffic. docs/batch.md explains when to switch
    and what happens.
    concurrency: maximum concurrent requests of an instance, which share their flushes.
    cpu: vCPUs; its one process uses one.
    memory: memory of an instance, such as 512Mi.
    min_instances, max_instances: limits of the number of instances.
    timeout_seconds: seconds after which a request is aborted.
    canary: whether an apply keeps the current traffic split (docs/new-version.md#canary) or sends all traffic to the new revision.
    billing: request bills for requests and the time in which an instance has any. instance bills for the lifetime of an
    instance, at lower prices and without a fee for requests. docs/decisions-infrastructure.md explains the defaults.
  TEXT
  type = object({
    mode            = optional(string, "push")
    concurrency     = optional(number, 250)
    cpu             = optional(number, 1)
    memory          = optional(string, "512Mi")
    min_instances   = optional(number, 0)
    max_instances   = optional(number, 20)
    timeout_seconds = optional(number, 90)
    canary          = optional(bool, false)
    billing         = optional(string, "request")
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["push", "batch"], var.ingest.mode)
    error_message = "ingest.mode: push or batch."
  }
  validation {
    condition     = var.ingest.concurrency >= 1 && var.ingest.concurrency <= 1000
    error_message = "ingest.concurrency: 1 to 1000."
  }
  validation {
    condition     = contains([1, 2, 4, 6, 8], var.ingest.cpu)
    error_message = "ingest.cpu: 1, 2, 4, 6 or 8. With less than 1, an instance handles one request at a time."
  }
  validation {
    condition     = can(regex("^[0-9]+[MG]i$", var.ingest.memory))
    error_message = "ingest.memory: a number and a unit, such as 512Mi or 1Gi."
  }
  validation { # https://cloud.google.com/run/docs/configuring/services/cpu
    condition     = try(tonumber(trimsuffix(trimsuffix(var.ingest.memory, "Mi"), "Gi")), 0) * (endswith(var.ingest.memory, "Gi") ? 1024 : 1) >= (var.ingest.cpu >= 6 ? 4096 : var.ingest.cpu >= 4 ? 2048 : 512)
    error_message = "ingest.memory: at least 512Mi, 2Gi for 4 CPUs, and 4Gi for more CPUs."
  }
  validation {
    condition     = var.ingest.min_instances >= 0 && var.ingest.min_instances <= var.ingest.max_instances && var.ingest.max_instances <= 1000
    error_message = "ingest: 0 <= min_instances <= max_instances <= 1000."
  }
  validation {
    condition     = var.ingest.timeout_seconds > var.delivery.ack_deadline_seconds && var.ingest.timeout_seconds <= 3600
    error_message = "ingest.timeout_seconds: more than delivery.ack_deadline_seconds, so that a request is not aborted while Pub/Sub waits for it, and at most 3600."
  }
  validation {
    condition     = contains(["request", "instance"], var.ingest.billing)
    error_message = "ingest.billing: request or instance."
  }
  validation { # The function drain extends a lease for the first time within 20 seconds.
    condition     = var.ingest.mode != "batch" || var.delivery.ack_deadline_seconds >= 30
    error_message = "delivery.ack_deadline_seconds: at least 30 with ingest.mode = \"batch\"."
  }
  validation {
    condition     = var.ingest.concurrency <= var.flush.max_in_flight
    error_message = "ingest.concurrency: at most flush.max_in_flight. Otherwise a full instance responds with 429."
  }
}

variable "delivery" {
  description = <<-TEXT
    Delivery by Pub/Sub.
    ack_deadline_seconds: seconds after which a message without a response is redelivered.
    minimum_backoff_seconds, maximum_backoff_seconds: limits of the wait after a failure.
    max_attempts: number of deliveries before a message goes to the dead-letter topic. 100 attempts take about half a day.
  TEXT
  type = object({
    ack_deadline_seconds    = optional(number, 60)
    minimum_backoff_seconds = optional(number, 1)
    maximum_backoff_seconds = optional(number, 600)
    max_attempts            = optional(number, 100)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.delivery.ack_deadline_seconds > 2 * var.flush.flush_timeout + 5 && var.delivery.ack_deadline_seconds <= 600
    error_message = "delivery.ack_deadline_seconds: more than 2 * flush.flush_timeout + 5, the maximum time of a response, and at most 600."
  }
  validation {
    condition     = var.delivery.minimum_backoff_seconds >= 0 && var.delivery.minimum_backoff_seconds <= var.delivery.maximum_backoff_seconds && var.delivery.maximum_backoff_seconds <= 600
    error_message = "delivery: 0 <= minimum_backoff_seconds <= maximum_backoff_seconds <= 600."
  }
  validation {
    condition     = var.delivery.max_attempts >= 5 && var.delivery.max_attempts <= 100
    error_message = "delivery.max_attempts: 5 to 100, as Pub/Sub requires."
  }
}

variable "flush" {
  description = "Settings of the group commit. docs/settings.md explains each of them."
  type = object({
    batch_rows          = optional(number, 500)
    batch_bytes         = optional(number, 2097152)
    linger_ms           = optional(number, 500)
    flush_interval      = optional(number, 0)
    max_in_flight       = optional(number, 2000)
    max_in_flight_bytes = optional(number, 33554432)
    flush_timeout       = optional(number, 25)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.flush.batch_rows >= 1 && var.flush.batch_rows <= 50000
    error_message = "flush.batch_rows: 1 to 50000, the maximum of a BigQuery request."
  }
  validation {
    condition     = var.flush.linger_ms >= 0 && var.flush.linger_ms <= 10000
    error_message = "flush.linger_ms: 0 to 10000."
  }
  validation {
    condition     = var.flush.flush_interval >= 0 && var.flush.flush_interval < var.flush.flush_timeout
    error_message = "flush.flush_interval: 0 or more seconds, less than flush.flush_timeout."
  }
  validation {
    condition     = min(var.flush.batch_bytes, var.flush.max_in_flight, var.flush.max_in_flight_bytes) >= 1
    error_message = "flush: batch_bytes, max_in_flight and max_in_flight_bytes are at least 1."
  }
  validation {
    condition     = var.flush.flush_timeout > 0 && var.flush.flush_timeout <= 250
    error_message = "flush.flush_timeout: more than 0 and at most 250 seconds."
  }
}

variable "log_level" {
  description = "Minimum severity that the functions log. The metrics are extracted from INFO lines."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO"], var.log_level)
    error_message = "log_level: DEBUG or INFO. With a higher severity, metrics and alerts would have no data."
  }
}

variable "bootstrap_schedule" {
  description = "Schedule of the bootstrap as unix-cron in UTC; it also runs in each deployment. If it runs less than daily, add no_bootstrap to alerts_disabled."
  type        = string
  default     = "17 3 * * *"
  nullable    = false

  validation {
    condition     = length(split(" ", var.bootstrap_schedule)) == 5
    error_message = "bootstrap_schedule: five fields of unix-cron (minute, hour, day of the month, month, day of the week)."
  }
}

variable "reconcile_schedule" {
  description = <<-TEXT
    Schedule of the reconciliation as unix-cron in UTC. A run compares the full hours since the last run, up to an hour
    ago. It is billed for the data that the tables have of that day, so that a run every six hours costs a sixth of hourly
    runs. If runs are more than two hours apart, set alert_thresholds.no_reconciliation_minutes to more than the interval.
  TEXT
  type        = string
  default     = "11,41 * * * *"
  nullable    = false

  validation {
    condition     = length(split(" ", var.reconcile_schedule)) == 5
    error_message = "reconcile_schedule: five fields of unix-cron (minute, hour, day of the month, month, day of the week)."
  }
}
