variable "engine" {
  description = <<-TEXT
    What reads the subscription of events: functions, to which Pub/Sub pushes, or dataflow, a job that pulls. docs/scale.md
    says when to switch, and what a switch does. The function ingest stays deployed, without traffic, for the way back.
  TEXT
  type        = string
  default     = "functions"
  nullable    = false

  validation {
    condition     = contains(["functions", "dataflow"], var.engine)
    error_message = "engine: functions or dataflow."
  }
  validation {
    condition     = var.engine != "dataflow" || var.dataflow.image != null
    error_message = "engine = \"dataflow\" needs dataflow.image: build it as docs/deploy-dataflow.md says."
  }
}

variable "dataflow" {
  description = <<-TEXT
    The job of engine = "dataflow". image: what dataflow/Dockerfile makes, with a tag that is never reused or a digest;
    another image updates the job in its place. max_workers: how far it may scale; machine_type: of each worker; linger:
    seconds that an event may wait for others, a batch being an object and a few requests; shards: batches that fill at
    once, one for each 1 000 events a second; writer: insert_all or storage_write, null for the pipeline's own default.
    subnetwork: regions/REGION/subnetworks/NAME or its URL, null for the network default; public_ips: whether workers
    have public addresses, without which the subnetwork needs Private Google Access.
  TEXT
  type = object({
    image        = optional(string)
    max_workers  = optional(number, 10)
    machine_type = optional(string, "e2-standard-2")
    linger       = optional(number, 1)
    shards       = optional(number, 8)
    writer       = optional(string)
    subnetwork   = optional(string)
    public_ips   = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.dataflow.image == null || can(regex("^[a-z0-9.-]+(:[0-9]+)?/[a-z0-9._/-]+(:[\\w.-]+|@sha256:[0-9a-f]{64})$", var.dataflow.image))
    error_message = "dataflow.image: HOST/PATH with a tag or a digest, such as us-central1-docker.pkg.dev/PROJECT/sluice-dev/dataflow:1."
  }
  validation {
    condition     = !endswith(coalesce(var.dataflow.image, "none"), ":latest")
    error_message = "dataflow.image: not :latest. Under a tag that moves, workers of one job could run different code, and no plan would show it."
  }
  validation {
    condition     = var.dataflow.max_workers >= 1 && var.dataflow.max_workers <= 1000 && floor(var.dataflow.max_workers) == var.dataflow.max_workers
    error_message = "dataflow.max_workers: 1 to 1000."
  }
  validation {
    condition     = can(regex("^[a-z0-9]+-[a-z0-9-]+$", var.dataflow.machine_type))
    error_message = "dataflow.machine_type: such as e2-standard-2."
  }
  validation {
    condition     = var.dataflow.linger >= 0 && var.dataflow.linger <= 60
    error_message = "dataflow.linger: 0 to 60 seconds."
  }
  validation {
    condition     = var.dataflow.shards >= 1 && var.dataflow.shards <= 1000 && floor(var.dataflow.shards) == var.dataflow.shards
    error_message = "dataflow.shards: 1 to 1000."
  }
  validation {
    condition     = var.dataflow.writer == null || contains(["insert_all", "storage_write"], coalesce(var.dataflow.writer, "none"))
    error_message = "dataflow.writer: insert_all or storage_write."
  }
  validation {
    condition     = var.dataflow.subnetwork == null || can(regex("^(https://www\\.googleapis\\.com/compute/v1/projects/[^/]+/)?regions/[^/]+/subnetworks/[^/]+$", var.dataflow.subnetwork))
    error_message = "dataflow.subnetwork: regions/REGION/subnetworks/NAME, or https://www.googleapis.com/compute/v1/projects/PROJECT/ before it."
  }
}
