variable "project_id" {
  description = "ID of the project in which all resources are created."
  type        = string
  nullable    = false
}

variable "deployers" {
  description = "IAM members who apply this configuration."
  type        = set(string)
  nullable    = false
}

variable "alert_emails" {
  description = "E-mail addresses that receive all alerts."
  type        = set(string)
  nullable    = false
}

variable "budget" {
  description = "Billing account, whole amount and currency of the monthly budget of the project."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string, "USD")
  })
  nullable = false
}

variable "package" {
  description = "Path of the zip file with the functions, as built by `make package`."
  type        = string
  default     = "../../../dist/sluice.zip"
  nullable    = false
}

variable "access" {
  description = "IAM members by what they may do; see the variable of the module."
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
}

variable "release" {
  description = "SHA-256 of a package that a workflow has uploaded. If null, package is deployed."
  type        = string
  default     = null
}

variable "github" {
  description = "Repository, and environment or ref, whose workflows may deploy the functions. null: none."
  type = object({
    repository  = string
    environment = optional(string)
    ref         = optional(string)
  })
  default = null
}

# Variables that an environment for disaster recovery changes: docs/disaster-recovery.md.

variable "environment" {
  description = "Name of the environment: part of all resource names, and a label."
  type        = string
  default     = "prod"
  nullable    = false
}

variable "region" {
  description = "Region of the functions, the datasets and the archive."
  type        = string
  default     = "us-central1"
  nullable    = false
}

variable "copy_region" {
  description = "Another region, with a daily copy of both datasets. Empty: no copy."
  type        = string
  default     = "us-east1"
  nullable    = false
}

variable "dataset" {
  description = "Name of the dataset with the live tables."
  type        = string
  default     = "events"
  nullable    = false
}

variable "historical_dataset" {
  description = "Name of the dataset with the events that are older than the retention, and with the snapshots."
  type        = string
  default     = "events_historical"
  nullable    = false
}
