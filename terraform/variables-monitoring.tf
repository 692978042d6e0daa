variable "notification_channels" {
  description = "Existing notification channels that every alert tells: projects/PROJECT/notificationChannels/ID."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "A notification channel is projects/PROJECT/notificationChannels/ID."
  }
}

variable "warning_channels" {
  description = <<-TEXT
    Existing notification channels that alerts of severity WARNING tell in the place of the others, so that an outage pages
    once; empty: all alerts tell the same.
  TEXT
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for channel in var.warning_channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", channel))])
    error_message = "A notification channel is projects/PROJECT/notificationChannels/ID."
  }
}

variable "alert_emails" {
  description = "Addresses that every alert tells by e-mail; a notification channel is made for each."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "An e-mail address is NAME@DOMAIN."
  }
}

variable "alerts_disabled" {
  description = "Alerts, by their key in monitoring/alerts.yaml, that are made but tell nobody: in dev, no_events."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.alerts_disabled, keys(local.alerts_of_engines))) == 0
    error_message = "There is no such alert: ${join(", ", setsubtract(var.alerts_disabled, keys(local.alerts_of_engines)))}."
  }
}

variable "alert_auto_close_minutes" {
  description = "Minutes without data after which an incident closes by itself."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.alert_auto_close_minutes >= 30 && var.alert_auto_close_minutes <= 10080 && floor(var.alert_auto_close_minutes) == var.alert_auto_close_minutes
    error_message = "Cloud Monitoring closes after 30 minutes at the soonest and 7 days (10080 minutes) at the latest."
  }
}

variable "alert_thresholds" {
  description = <<-EOT
    Above what the alerts tell. Shares are between 0 and 1.
    oldest_message_seconds: age of the oldest event that is not acknowledged; five times the ack deadline is five attempts.
    dead_letter_share, dead_letter_minimum: dead letters of an hour, in relation to its events and as a number.
    fast_burn_rate: how many times too fast the error budget of an objective burns in an hour and in five minutes; 14.4
    spend 2 % of a month's budget in an hour. slow_burn_rate: the same in a day and in two hours; 3 spend a tenth in a day.
    server_error_minimum: answers 5xx in the hour, or the two, below which availability's alerts are silent.
    freshness_minimum: answers 2xx, or with Dataflow events acknowledged, in the hour, or the two, below which those of
    freshness are silent.
    system_lag_seconds: how long an event may be in the Dataflow job; data_freshness_seconds: age of the oldest event that
    is in Pub/Sub or in the job.
    no_events_minutes: time without any event.
    no_reconciliation_minutes: time without any reconciliation, of which an hour and a half pass before the alert rings;
    more than the distance of two runs of reconcile_schedule.
    billed_gib_in_day: what BigQuery bills for queries in 24 hours, besides Sluice's own; 200 GiB are 1.22 USD at 6.25 USD
    a TiB.
    own_query_bytes: what Sluice's own queries may read for each event of a day, at most.
  EOT
  type = object({
    oldest_message_seconds    = optional(number, 300)
    dead_letter_share         = optional(number, 0.05)
    dead_letter_minimum       = optional(number, 20)
    fast_burn_rate            = optional(number, 14.4)
    slow_burn_rate            = optional(number, 3)
    server_error_minimum      = optional(number, 10)
    freshness_minimum         = optional(number, 100)
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
    error_message = "oldest_message_seconds is 120 at least: an event that is delivered a second time is no alarm."
  }

  validation {
    condition     = min(var.alert_thresholds.system_lag_seconds, var.alert_thresholds.data_freshness_seconds) >= 60
    error_message = "system_lag_seconds and data_freshness_seconds are 60 at least: Dataflow measures once a minute."
  }

  validation {
    condition     = var.alert_thresholds.dead_letter_share > 0 && var.alert_thresholds.dead_letter_share < 1
    error_message = "dead_letter_share is between 0 and 1."
  }

  validation {
    condition     = var.alert_thresholds.slow_burn_rate >= 1 && var.alert_thresholds.slow_burn_rate < var.alert_thresholds.fast_burn_rate
    error_message = "slow_burn_rate is 1 at least, which is as fast as the budget may burn, and less than fast_burn_rate."
  }

  validation {
    condition     = min(var.alert_thresholds.dead_letter_minimum, var.alert_thresholds.server_error_minimum, var.alert_thresholds.freshness_minimum) >= 1
    error_message = "dead_letter_minimum, server_error_minimum and freshness_minimum are 1 at least."
  }

  validation {
    condition = (
      var.alert_thresholds.no_events_minutes >= 5
      && var.alert_thresholds.no_events_minutes <= 1440
      && floor(var.alert_thresholds.no_events_minutes) == var.alert_thresholds.no_events_minutes
    )
    error_message = "no_events_minutes is a whole number from 5 to 1440."
  }

  validation {
    condition = (
      var.alert_thresholds.no_reconciliation_minutes >= 45
      && var.alert_thresholds.no_reconciliation_minutes <= 1500
      && floor(var.alert_thresholds.no_reconciliation_minutes) == var.alert_thresholds.no_reconciliation_minutes
    )
    error_message = "no_reconciliation_minutes is a whole number from 45 to 1500."
  }

  validation {
    condition     = var.alert_thresholds.billed_gib_in_day > 0 && var.alert_thresholds.own_query_bytes >= 0
    error_message = "billed_gib_in_day is above 0, and own_query_bytes is 0 at least."
  }
}

variable "objectives" {
  description = <<-EOT
    Service-level objectives.
    availability: share of requests that are answered with 2xx, of those with 2xx or 5xx.
    freshness: share of flushes whose oldest event is durable within lag_seconds of its publishing.
    lag_seconds: a bound of the metric's buckets.
    rolling_days: days that the shares are of.
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
    error_message = "availability and freshness are above 0 and at most 0.9999, as Cloud Monitoring takes them."
  }

  validation {
    condition     = contains(local.measured.buckets.ages, var.objectives.lag_seconds * 1000)
    error_message = "lag_seconds is a bound of the buckets of lag, or its share could only be guessed: ${join(", ", [for age in local.measured.buckets.ages : age / 1000])}."
  }

  validation {
    condition     = var.objectives.rolling_days >= 1 && var.objectives.rolling_days <= 30 && floor(var.objectives.rolling_days) == var.objectives.rolling_days
    error_message = "rolling_days is a whole number from 1 to 30."
  }
}

variable "runbook_url" {
  description = "Where your docs/operate.md can be read in a browser, for the links of alerts and dashboard. null: that of var.github, or no links."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_url == null || can(regex("^https://[^\\s#]+$", var.runbook_url))
    error_message = "runbook_url is an https:// address without a #."
  }
}
