variable "project_id" {
  description = "ID of the project in which all resources are created."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id: 6 to 30 lower case letters, digits and hyphens, beginning with a letter."
  }
}

variable "deployers" {
  description = "IAM members who apply this module. They get the permission to run the bootstrap, as each deployment does."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.deployers) > 0 && alltrue([for member in var.deployers : can(regex("^(user|group|serviceAccount):[^@ ]+@[^@ ]+$", member))])
    error_message = "deployers: at least one of user:EMAIL, group:EMAIL or serviceAccount:EMAIL. A deployment runs the bootstrap as one of them."
  }
}

variable "package" {
  description = "Path of the zip file with the functions, as built by `make package`. Ignored if release is set."
  type        = string
  default     = "../dist/sluice.zip"
  nullable    = false

  validation {
    condition     = var.release != null || fileexists(var.package)
    error_message = "package: the file does not exist. Run `make package` first, or set release."
  }
}

variable "release" {
  description = "SHA-256 of a package that a workflow has uploaded to the packages bucket. If null, package is uploaded and deployed."
  type        = string
  default     = null

  validation {
    condition     = var.release == null || can(regex("^[0-9a-f]{64}$", var.release))
    error_message = "release: 64 lower case hexadecimal digits, as printed by `sha256sum sluice.zip`."
  }
}

variable "environment" {
  description = "Name of the environment: part of all resource names, and a label."
  type        = string
  default     = "dev"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,9}$", var.environment))
    error_message = "environment: 1 to 10 lower case letters, digits and hyphens, beginning with a letter. Longer names do not fit into the IDs of service accounts."
  }
}

variable "region" {
  description = "Region of the functions, the datasets and, unless archive.dual_region is set, the archive."
  type        = string
  default     = "us-central1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region: a single region, such as us-central1. Functions do not run in multi-regions."
  }
}

variable "labels" {
  description = "Labels of all resources that support labels, in addition to `environment`."
  type        = map(string)
  default     = { managed_by = "cloud_function", assessment = "data_engineering" }
  nullable    = false

  validation {
    condition     = alltrue([for name, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", name)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels: keys and values have at most 63 lower case letters, digits, _ and -, and keys begin with a letter."
  }
}

variable "dataset" {
  description = "Name of the dataset with the live tables."
  type        = string
  default     = "dev_events_dataset"
  nullable    = false

  validation {
    condition     = can(regex("^\\w+$", var.dataset))
    error_message = "dataset: letters, digits and underscores."
  }
}

variable "historical_dataset" {
  description = "Name of the dataset with the events that are older than retention_days, and with the snapshots."
  type        = string
  default     = "historical_dataset"
  nullable    = false

  validation {
    condition     = can(regex("^\\w+$", var.historical_dataset)) && var.historical_dataset != var.dataset
    error_message = "historical_dataset: letters, digits and underscores, and different from dataset."
  }
}

variable "retention_days" {
  description = "Days after which a partition of a live table expires. A lower value would delete data, so the bootstrap rejects it."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.retention_days >= 1 && var.retention_days <= 1825 && floor(var.retention_days) == var.retention_days
    error_message = "retention_days: a whole number from 1 to 1825. BigQuery does not stream into older partitions."
  }
}

variable "time_travel_hours" {
  description = "Hours for which deleted and changed data of the datasets can still be read (time travel)."
  type        = number
  default     = 168
  nullable    = false

  validation {
    condition     = contains([48, 72, 96, 120, 144, 168], var.time_travel_hours)
    error_message = "time_travel_hours: 48, 72, 96, 120, 144 or 168. BigQuery supports two to seven whole days."
  }
}

variable "access" {
  description = <<-TEXT
    IAM members (user:, group:, serviceAccount:) by what they may do.
    publishers: publish events.
    readers: query rows and views of events, with protected columns masked.
    personal_data_readers: also see personal columns.
    raw_data_readers: read data that may contain anything, such as dead letters, snapshots, extras and the archive.
    operators: run the commands of docs/operate.md, such as backfill, replay, snapshot, restore, the smoke test and the
    bootstrap. They also stop and start the push, drain the Dataflow job, and roll ingest back.
    erasers: delete the events of a person from tables, dead letters, undeliverable messages and the archive.
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
    error_message = "access: each member is user:EMAIL, group:EMAIL or serviceAccount:EMAIL. allUsers and allAuthenticatedUsers are not allowed."
  }
  validation { # BigQuery returns lower case, so that every plan would show a change.
    condition     = !anytrue([for member in setunion(values(var.access)...) : can(regex(":.*[A-Z]", member))])
    error_message = "access: addresses are in lower case, as BigQuery returns them."
  }
}
