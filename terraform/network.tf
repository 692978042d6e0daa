# From where the functions can be reached, and how they reach Google.

variable "ingress" {
  description = <<-TEXT
    From where the functions can be reached, in gcloud's words: internal-only, internal-and-gclb or all; IAM says by whom.
    Pub/Sub and Cloud Scheduler of the same project are internal. called are bootstrap and reconcile: with all, deployers
    and operators call them from their machines; otherwise they run them by their Cloud Scheduler jobs.
  TEXT
  type = object({
    ingest = optional(string, "internal-only")
    called = optional(string, "all")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name, value in var.ingress : contains(["internal-only", "internal-and-gclb", "all"], value)])
    error_message = "ingress.ingest and ingress.called: internal-only, internal-and-gclb or all."
  }
}

variable "vpc" {
  description = <<-TEXT
    The VPC network that the functions' traffic leaves by; null: none. connector: a Serverless VPC Access connector,
    projects/P/locations/R/connectors/NAME. all_traffic: all of it and not only that to private addresses; the network
    then needs Private Google Access, or the functions reach neither BigQuery nor Cloud Storage.
  TEXT
  type = object({
    connector   = string
    all_traffic = optional(bool, false)
  })
  default = null

  validation {
    condition     = can(regex("^projects/[^/]+/locations/[^/]+/connectors/[^/]+$", coalesce(try(var.vpc.connector, null), "projects/p/locations/l/connectors/none")))
    error_message = "vpc.connector: projects/PROJECT/locations/REGION/connectors/NAME."
  }
}

locals {
  ingress_settings = { for name, value in var.ingress : name => "ALLOW_${upper(replace(value, "-", "_"))}" }

  vpc_connector = try(var.vpc.connector, null)
  vpc_egress    = try(var.vpc.all_traffic, false) ? "ALL_TRAFFIC" : "PRIVATE_RANGES_ONLY"
}
