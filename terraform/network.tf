# Ingress and egress of the functions.

variable "ingress" {
  description = <<-TEXT
    Networks from which the functions accept requests: internal-only, internal-and-gclb or all, as in gcloud. IAM controls
    the callers. Pub/Sub and Cloud Scheduler of the same project are internal.
    ingest: of the functions ingest and drain.
    called: of bootstrap, reconcile and compact. With all, deployers and operators call them from their machines; otherwise
    they run them by their Cloud Scheduler jobs.
  TEXT
  type = object({
    ingest = optional(string, "internal-only")
    called = optional(string, "all")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for name, value in var.ingress : contains(["internal-only", "internal-and-gclb", "all"], value)])
    error_message = "ingress: ingest and called are internal-only, internal-and-gclb or all."
  }
}

variable "vpc" {
  description = <<-TEXT
    Serverless VPC Access of the functions. null: none.
    connector: projects/PROJECT/locations/REGION/connectors/NAME.
    all_traffic: route all traffic through it, instead of traffic to private addresses only. The network then needs Private
    Google Access, or the functions cannot reach BigQuery and Cloud Storage.
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
