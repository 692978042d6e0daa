variable "ingest" {
  description = <<-TEXT
    Size of the ingest function. concurrency: requests at once in an instance, which share their flushes; cpu: vCPUs, one
    is what its one process uses; memory: such as 512Mi; instances: least and most; timeout_seconds: after it a request
    is cut off; canary: whether an apply leaves the traffic where it is, for docs/new-version.md#canary, or sends all of it to what
    it deploys; billing: request, for requests and the time that an instance has any, or instance, for all the time that it
    is there, at lower prices and nothing for a request. docs/decisions.md says where the defaults come from, and from
    which rate on instance costs less.
  TEXT
  type = object({
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
    condition     = var.ingest.concurrency >= 1 && var.ingest.concurrency <= 1000
    error_message = "concurrency: 1 to 1000."
  }
  validation {
    condition     = contains([1, 2, 4, 6, 8], var.ingest.cpu)
    error_message = "cpu: 1, 2, 4, 6 or 8; with less than one an instance takes one request at a time."
  }
  validation {
    condition     = can(regex("^[0-9]+[MG]i$", var.ingest.memory))
    error_message = "memory: such as 512Mi or 1Gi."
  }
  validation { # https://cloud.google.com/run/docs/configuring/services/cpu
    condition     = try(tonumber(trimsuffix(trimsuffix(var.ingest.memory, "Mi"), "Gi")), 0) * (endswith(var.ingest.memory, "Gi") ? 1024 : 1) >= (var.ingest.cpu >= 6 ? 4096 : var.ingest.cpu >= 4 ? 2048 : 512)
    error_message = "memory: 512Mi at least, 2Gi for 4 cpus, 4Gi for more."
  }
  validation {
    condition     = var.ingest.min_instances >= 0 && var.ingest.min_instances <= var.ingest.max_instances && var.ingest.max_instances <= 1000
    error_message = "min_instances is 0 or more, and no more than max_instances, which is 1000 at most."
  }
  validation {
    condition     = var.ingest.timeout_seconds > var.delivery.ack_deadline_seconds && var.ingest.timeout_seconds <= 3600
    error_message = "timeout_seconds is longer than delivery.ack_deadline_seconds, so that an answer is never cut off before Pub/Sub stops waiting for it."
  }
  validation {
    condition     = contains(["request", "instance"], var.ingest.billing)
    error_message = "billing: request or instance."
  }
  validation {
    condition     = var.ingest.concurrency <= var.flush.max_in_flight
    error_message = "concurrency is no more than flush.max_in_flight, or a full instance answers 429."
  }
}

variable "delivery" {
  description = <<-TEXT
    How Pub/Sub delivers: seconds until it delivers again what was not answered; the least and the longest wait after a
    failure; how often, before a message goes to the dead-letter topic. 100 attempts up to 600 s apart are half a day.
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
    error_message = "ack_deadline_seconds is longer than twice flush.flush_timeout and 5 s, within which each event is answered, and 600 at most."
  }
  validation {
    condition     = var.delivery.minimum_backoff_seconds >= 0 && var.delivery.minimum_backoff_seconds <= var.delivery.maximum_backoff_seconds && var.delivery.maximum_backoff_seconds <= 600
    error_message = "0 <= minimum_backoff_seconds <= maximum_backoff_seconds <= 600."
  }
  validation {
    condition     = var.delivery.max_attempts >= 5 && var.delivery.max_attempts <= 100
    error_message = "max_attempts: 5 to 100, which is what Pub/Sub takes."
  }
}

variable "flush" {
  description = "Settings of the group commit; docs/settings.md explains each."
  type = object({
    batch_rows          = optional(number, 500)
    batch_bytes         = optional(number, 2097152)
    linger_ms           = optional(number, 500)
    max_in_flight       = optional(number, 2000)
    max_in_flight_bytes = optional(number, 33554432)
    flush_timeout       = optional(number, 25)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.flush.batch_rows >= 1 && var.flush.batch_rows <= 50000
    error_message = "batch_rows: 1 to 50000, what BigQuery takes in a request."
  }
  validation {
    condition     = var.flush.linger_ms >= 0 && var.flush.linger_ms <= 10000
    error_message = "linger_ms: 0 to 10000."
  }
  validation {
    condition     = min(var.flush.batch_bytes, var.flush.max_in_flight, var.flush.max_in_flight_bytes) >= 1
    error_message = "batch_bytes, max_in_flight and max_in_flight_bytes are at least 1."
  }
  validation {
    condition     = var.flush.flush_timeout > 0 && var.flush.flush_timeout <= 250
    error_message = "flush_timeout: more than 0, at most 250 seconds."
  }
}

variable "log_level" {
  description = "Least severity that the functions log. The metrics are made of INFO lines."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["DEBUG", "INFO"], var.log_level)
    error_message = "DEBUG or INFO: with less, the metrics and alerts would see nothing."
  }
}

variable "bootstrap_schedule" {
  description = "When the bootstrap runs beside after each deploy, as unix-cron in UTC. Less than daily, and the alert no_bootstrap has to be in alerts_disabled."
  type        = string
  default     = "17 3 * * *"
  nullable    = false

  validation {
    condition     = length(split(" ", var.bootstrap_schedule)) == 5
    error_message = "Five fields of unix-cron: minute, hour, day of the month, month, day of the week."
  }
}

variable "reconcile_schedule" {
  description = <<-TEXT
    When the reconciliation runs, as unix-cron in UTC. A run compares the full hours since the last one, up to an hour ago,
    and is billed for what its tables have of that day: every six hours costs a sixth of every hour. Where runs are more than
    two hours apart, raise no_reconciliation_minutes of alert_thresholds to more than their distance.
  TEXT
  type        = string
  default     = "11,41 * * * *"
  nullable    = false

  validation {
    condition     = length(split(" ", var.reconcile_schedule)) == 5
    error_message = "Five fields of unix-cron: minute, hour, day of the month, month, day of the week."
  }
}
