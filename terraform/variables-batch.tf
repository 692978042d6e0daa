variable "batch" {
  description = <<-TEXT
    The function drain of ingest.mode = "batch".
    interval_minutes: minutes between two runs, a divisor of 60. An event is in its table after some two intervals.
    cpu: vCPUs, from 0.08 to 1. It mostly waits for Pub/Sub, Cloud Storage and BigQuery.
    memory: memory, such as 512Mi; at most 512Mi for less than 0.5 vCPUs, and 1Gi for less than one.
  TEXT
  type = object({
    interval_minutes = optional(number, 1)
    cpu              = optional(number, 0.333)
    memory           = optional(string, "512Mi")
  })
  default  = {}
  nullable = false

  validation { # Another interval would be shorter at the end of each hour: unix-cron steps start again with the hour.
    condition     = contains([1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60], var.batch.interval_minutes)
    error_message = "batch.interval_minutes: 1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60, a divisor of 60."
  }
  validation {
    condition     = var.batch.cpu >= 0.08 && can(regex("^(0\\.[0-9]{1,3}|1)$", tostring(var.batch.cpu)))
    error_message = "batch.cpu: 0.08 to 1, with three decimals at most. The function uses one CPU."
  }
  validation {
    condition     = can(regex("^[0-9]+[MG]i$", var.batch.memory))
    error_message = "batch.memory: a number and a unit, such as 512Mi or 1Gi."
  }
  validation { # https://cloud.google.com/run/docs/configuring/services/cpu
    condition     = try(tonumber(trimsuffix(trimsuffix(var.batch.memory, "Mi"), "Gi")), 0) * (endswith(var.batch.memory, "Gi") ? 1024 : 1) <= (var.batch.cpu < 0.5 ? 512 : var.batch.cpu < 1 ? 1024 : 4096)
    error_message = "batch.memory: at most 512Mi for less than 0.5 CPUs, 1Gi for less than 1 CPU, and 4Gi for 1 CPU."
  }
}
