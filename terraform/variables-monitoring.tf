variable "notification_channels" {
  description = "Existing notification channels of all alerts: projects/PROJECT/notificationChannels/ID."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "notification_channels: each is projects/PROJECT/notificationChannels/ID."
  }
}

variable "warning_channels" {
  description = <<-TEXT
    Existing notification channels for alerts of severity WARNING, instead of the others, so that only outages page. Empty:
    all alerts use the same channels.
  TEXT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.warning_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "warning_channels: each is projects/PROJECT/notificationChannels/ID."
  }
}

variable "alert_emails" {
  description = "E-mail addresses that receive all alerts. A notification channel is created for each."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "alert_emails: each is NAME@DOMAIN."
  }
}

variable "alerts_disabled" {
  description = "Keys in monitoring/alerts.yaml of alerts that are created but disabled, such as no_events in a development environment."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.alerts_disabled, keys(local.alerts_of_engines))) == 0
    error_message = "alerts_disabled: unknown alerts ${join(", ", setsubtract(var.alerts_disabled, keys(local.alerts_of_engines)))}."
  }
}

variable "alert_auto_close_minutes" {
  description = "Minutes without data after which an incident closes automatically."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.alert_auto_close_minutes >= 30 && var.alert_auto_close_minutes <= 10080 && floor(var.alert_auto_close_minutes) == var.alert_auto_close_minutes
    error_message = "alert_auto_close_minutes: a whole number from 30 to 10080 (7 days), as Cloud Monitoring requires."
  }
}

variable "alert_thresholds" {
  description = <<-EOT
    Thresholds of the alerts. Shares are between 0 and 1. In batch mode, times of events are at least three intervals of the
    function drain, whatever is set.
    oldest_message_seconds: age of the oldest unacknowledged event. Five times the ack deadline is five attempts.
    dead_letter_share, dead_letter_minimum: dead letters of an hour, as a share of its events and as a number.
    fast_burn_rate: factor by which the error budget of an objective burns too fast in an hour and in five minutes. 14.4
    uses up 2 % of the budget of a month in an hour.
    slow_burn_rate: the same in a day and in two hours. 3 uses up a tenth of the budget in a day.
    server_error_minimum: minimum number of 5xx responses in the hour, or the two hours, for the alerts on availability.
    freshness_minimum: minimum number of 2xx responses, or with Dataflow and in batch mode of acknowledged events, for the
    alerts on freshness.
    pending_seconds: in batch mode, age of the oldest load file that is not loaded yet, on average over 15 minutes.
    system_lag_seconds: maximum time of an event in the Dataflow job.
    data_freshness_seconds: age of the oldest event in Pub/Sub or in the Dataflow job.
    no_events_minutes: minutes without any event.
    no_reconciliation_minutes: minutes without a reconciliation; the alert rings an hour and a half later. Set it to more
    than the interval of reconcile_schedule.
    billed_gib_in_day: GiB that BigQuery bills for queries in 24 hours, without those of Sluice. 200 GiB cost 1.22 USD at
    6.25 USD per TiB.
    own_query_bytes: maximum bytes that queries of Sluice read for each event of a day.
  EOT
  type = object({
    oldest_message_seconds    = optional(number, 300)
    dead_letter_share         = optional(number, 0.05)
    dead_letter_minimum       = optional(number, 20)
    fast_burn_rate            = optional(number, 14.4)
    slow_burn_rate            = optional(number, 3)
    server_error_minimum      = optional(number, 10)
    freshness_minimum         = optional(number, 100)
    pending_seconds           = optional(number, 1800)
    system_lag_seconds        = optional(number, 120)
    data_freshness_seconds    = optional(number, 300)
    no_events_minutes         = optional(number, 60)
    no_reconciliation_minutes = optional(number, 90)
    billed_gib_in_day         = optional(number, 200)
    own_query_bytes           = optional(number, 25000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.alert_thresholds.oldest_message_seconds >= 120
    error_message = "alert_thresholds.oldest_message_seconds: at least 120, so that a single redelivery raises no alert."
  }

  validation {
    condition     = var.alert_thresholds.pending_seconds >= 300
    error_message = "alert_thresholds.pending_seconds: at least 300, as a load job may take some minutes."
  }

  validation {
    condition     = min(var.alert_thresholds.system_lag_seconds, var.alert_thresholds.data_freshness_seconds) >= 60
    error_message = "alert_thresholds: system_lag_seconds and data_freshness_seconds are at least 60, as Dataflow measures once a minute."
  }

  validation {
    condition     = var.alert_thresholds.dead_letter_share > 0 && var.alert_thresholds.dead_letter_share < 1
    error_message = "alert_thresholds.dead_letter_share: more than 0 and less than 1."
  }

  validation {
    condition     = var.alert_thresholds.slow_burn_rate >= 1 && var.alert_thresholds.slow_burn_rate < var.alert_thresholds.fast_burn_rate
    error_message = "alert_thresholds.slow_burn_rate: at least 1, which uses up the budget exactly, and less than fast_burn_rate."
  }

  validation {
    condition     = min(var.alert_thresholds.dead_letter_minimum, var.alert_thresholds.server_error_minimum, var.alert_thresholds.freshness_minimum) >= 1
    error_message = "alert_thresholds: dead_letter_minimum, server_error_minimum and freshness_minimum are at least 1."
  }

  validation {
    condition = (
      var.alert_thresholds.no_events_minutes >= 5
      && var.alert_thresholds.no_events_minutes <= 1440
      && floor(var.alert_thresholds.no_events_minutes) == var.alert_thresholds.no_events_minutes
    )
    error_message = "alert_thresholds.no_events_minutes: a whole number from 5 to 1440."
  }

  validation {
    condition = (
      var.alert_thresholds.no_reconciliation_minutes >= 45
      && var.alert_thresholds.no_reconciliation_minutes <= 1500
      && floor(var.alert_thresholds.no_reconciliation_minutes) == var.alert_thresholds.no_reconciliation_minutes
    )
    error_message = "alert_thresholds.no_reconciliation_minutes: a whole number from 45 to 1500."
  }

  validation {
    condition     = var.alert_thresholds.billed_gib_in_day > 0 && var.alert_thresholds.own_query_bytes >= 0
    error_message = "alert_thresholds: billed_gib_in_day is more than 0, and own_query_bytes is at least 0."
  }
}

variable "objectives" {
  description = <<-EOT
    Service-level objectives.
    availability: share of requests with a 2xx response, among those with 2xx or 5xx.
    freshness: share of flushes whose oldest event is durable within lag_seconds of its publication.
    lag_seconds: a bound of the buckets of the metric lag. In batch mode, the next bound from three intervals of the function
    drain on, if that is more.
    rolling_days: days over which the shares are measured.
  EOT
  type = object({
    availability = optional(number, 0.999)
    freshness    = optional(number, 0.99)
    lag_seconds  = optional(number, 10)
    rolling_days = optional(number, 28)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for goal in [var.objectives.availability, var.objectives.freshness] : goal > 0 && goal <= 0.9999])
    error_message = "objectives: availability and freshness are more than 0 and at most 0.9999, as Cloud Monitoring requires."
  }

  validation {
    condition     = var.flush.flush_interval < var.objectives.lag_seconds
    error_message = "objectives.lag_seconds: more than flush.flush_interval, which an event may wait for its flush."
  }
  validation {
    condition     = contains(local.measured.buckets.ages, var.objectives.lag_seconds * 1000)
    error_message = "objectives.lag_seconds: a bound of the buckets of the metric lag, otherwise the share would be an estimate. Bounds are ${join(", ", [for age in local.measured.buckets.ages : age / 1000])}."
  }

  validation {
    condition     = var.objectives.rolling_days >= 1 && var.objectives.rolling_days <= 30 && floor(var.objectives.rolling_days) == var.objectives.rolling_days
    error_message = "objectives.rolling_days: a whole number from 1 to 30."
  }
}

variable "runbook_url" {
  description = "URL of docs/operate.md, for links in alerts and in the dashboard. null: its URL in the repository of var.github, or no links."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_url == null || can(regex("^https://[^\\s#]+$", var.runbook_url))
    error_message = "runbook_url: an https:// URL without a fragment (#)."
  }
}
