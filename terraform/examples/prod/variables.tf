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
