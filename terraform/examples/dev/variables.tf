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
