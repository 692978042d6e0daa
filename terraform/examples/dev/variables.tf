variable "project_id" {
  description = "Project that everything is made in."
  type        = string
}

variable "deployers" {
  description = "Who applies this, as IAM members."
  type        = set(string)
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
