variable "project_id" {
  description = "Project that everything is made in."
  type        = string
}

variable "deployers" {
  description = "Who applies this, as IAM members."
  type        = set(string)
}

variable "alert_emails" {
  description = "Addresses that every alert tells by e-mail."
  type        = set(string)
}

variable "budget" {
  description = "Billing account, whole amount and currency of the project's monthly budget."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string, "USD")
  })
}

variable "package" {
  description = "The functions' zip, as `make package` builds it."
  type        = string
  default     = "../../../dist/sluice.zip"
}

variable "access" {
  description = "Who may do what, as the module's own variable."
  type = object({
    publishers            = optional(set(string), [])
    readers               = optional(set(string), [])
    personal_data_readers = optional(set(string), [])
    raw_data_readers      = optional(set(string), [])
    operators             = optional(set(string), [])
    erasers               = optional(set(string), [])
  })
  default = {}
}

variable "release" {
  description = "SHA-256 of a package that a workflow has deployed; null: package is deployed."
  type        = string
  default     = null
}

variable "github" {
  description = "Repository, and environment or ref, whose workflows may deploy the functions; null: none."
  type = object({
    repository  = string
    environment = optional(string)
    ref         = optional(string)
  })
  default = null
}

# What the environment of a disaster recovery changes: docs/disaster-recovery.md.

variable "environment" {
  description = "Which Sluice this is: part of all names, and a label."
  type        = string
  default     = "prod"
}

variable "region" {
  description = "Region of the functions, of the datasets and of the archive."
  type        = string
  default     = "us-central1"
}

variable "copy_region" {
  description = "Another region, with a daily copy of both datasets; empty: no copy."
  type        = string
  default     = "us-east1"
}

variable "dataset" {
  description = "Dataset of the live tables."
  type        = string
  default     = "events"
}

variable "historical_dataset" {
  description = "Dataset of the events that are older than the retention, and of the snapshots."
  type        = string
  default     = "events_historical"
}
