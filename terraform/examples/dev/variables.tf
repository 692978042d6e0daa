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
