variable "project_id" {
  description = "Project that everything is made in."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id has 6 to 30 lower case letters, digits and hyphens, and begins with a letter."
  }
}

variable "deployers" {
  description = "Who applies this, as IAM members: they may run the bootstrap, which each deploy does."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.deployers) > 0 && alltrue([for member in var.deployers : can(regex("^(user|group|serviceAccount):[^@ ]+@[^@ ]+$", member))])
    error_message = "At least one of user:EMAIL, group:EMAIL or serviceAccount:EMAIL: a deploy runs the bootstrap as one of them."
  }
}

variable "package" {
  description = "The functions' zip, as `make package` builds it. It is not read where release is set."
  type        = string
  default     = "../dist/sluice.zip"
  nullable    = false

  validation {
    condition     = var.release != null || fileexists(var.package)
    error_message = "There is no such file: run `make package` first, or set release."
  }
}

variable "release" {
  description = "SHA-256 of a package that is in the packages bucket already, because a workflow has deployed it. null: package is uploaded and deployed."
  type        = string
  default     = null

  validation {
    condition     = var.release == null || can(regex("^[0-9a-f]{64}$", var.release))
    error_message = "release: the 64 lower case hex digits of a SHA-256, such as `sha256sum sluice.zip` prints."
  }
}

variable "environment" {
  description = "Which Sluice this is: part of all names, and a label."
  type        = string
  default     = "dev"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,9}$", var.environment))
    error_message = "1 to 10 lower case letters, digits and hyphens, a letter first: names of service accounts have room for no more."
  }
}

variable "region" {
  description = "Region of the functions, of the datasets and, unless archive.dual_region says otherwise, of the archive."
  type        = string
  default     = "us-central1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region, such as us-central1; functions do not run in multi-regions."
  }
}

variable "labels" {
  description = "Labels of everything that takes labels, beside `environment`."
  type        = map(string)
  default     = { managed_by = "cloud_function", assessment = "data_engineering" }
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", name)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Labels have lower case letters, digits, _ and -, 63 at most; names begin with a letter."
  }
}

variable "dataset" {
  description = "Dataset of the live tables."
  type        = string
  default     = "dev_events_dataset"
  nullable    = false

  validation {
    condition     = can(regex("^\\w+$", var.dataset))
    error_message = "A dataset's name has letters, digits and underscores."
  }
}

variable "historical_dataset" {
  description = "Dataset of the events that are older than retention_days, and of the snapshots."
  type        = string
  default     = "historical_dataset"
  nullable    = false

  validation {
    condition     = can(regex("^\\w+$", var.historical_dataset)) && var.historical_dataset != var.dataset
    error_message = "A dataset's name has letters, digits and underscores, and is not that of the live one."
  }
}

variable "retention_days" {
  description = "Days that a partition of a live table lives. A shorter one deletes: the bootstrap refuses to apply it."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 1825 && floor(var.retention_days) == var.retention_days
    error_message = "1 to 1825 whole days: BigQuery streams into no older partition."
  }
}

variable "time_travel_hours" {
  description = "Hours that deleted and changed data of the datasets can be read as before."
  type        = number
  default     = 168
  nullable    = false

  validation {
    condition     = contains([48, 72, 96, 120, 144, 168], var.time_travel_hours)
    error_message = "48, 72, 96, 120, 144 or 168: BigQuery takes whole days, two to seven."
  }
}

variable "access" {
  description = <<-TEXT
    Who may do what, as IAM members (user:, group:, serviceAccount:).
    publishers publish events; readers query rows and views of events, protected columns masked; personal_data_readers see
    the personal ones too; raw_data_readers read what may hold anything: dead letters, snapshots, extras and the archive;
    operators do what docs/operate.md says: backfill, replay, snapshot, restore, pull undeliverable messages, send the events
    of the smoke test, run the bootstrap, stop and start the push, drain the Dataflow job, roll ingest back; erasers remove a person's events from
    tables, dead letters, undeliverable messages and archive.
  TEXT
  type = object({
    publishers            = optional(set(string), [])
    readers               = optional(set(string), [])
    personal_data_readers = optional(set(string), [])
    raw_data_readers      = optional(set(string), [])
    operators             = optional(set(string), [])
    erasers               = optional(set(string), [])
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for member in setunion(values(var.access)...) : can(regex("^(user|group|serviceAccount):[^@ ]+@[^@ ]+$", member))])
    error_message = "Each is user:EMAIL, group:EMAIL or serviceAccount:EMAIL. Nobody's data is for allUsers."
  }
  validation { # or each plan would change them again
    condition     = !anytrue([for member in setunion(values(var.access)...) : can(regex(":.*[A-Z]", member))])
    error_message = "Addresses are in lower case, as BigQuery gives them back."
  }
}
