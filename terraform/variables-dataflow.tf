variable "engine" {
  description = <<-TEXT
    Engine that reads the subscription of events: functions, to which Pub/Sub pushes, or dataflow, a job that pulls.
    docs/scale.md explains when to switch and what happens. The function ingest stays deployed, without traffic.
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
    error_message = "engine: dataflow requires dataflow.image. Build it as described in docs/deploy-dataflow.md."
  }
  validation {
    condition     = var.engine != "dataflow" || var.ingest.mode == "push"
    error_message = "engine: dataflow and ingest.mode = \"batch\" both pull the subscription. Choose one of them."
  }
}

variable "dataflow" {
  description = <<-TEXT
    The job of engine = "dataflow".
    image: image built from dataflow/Dockerfile, with a digest or a tag that is never reused. Another image updates the job.
    max_workers: maximum number of workers.
    machine_type: machine type of the workers.
    linger: maximum seconds that an event waits for its batch. A batch is one object and a few requests.
    shards: number of batches that fill concurrently; one for each 1 000 events/s.
    writer: insert_all or storage_write. null: the default of the pipeline.
    subnetwork: regions/REGION/subnetworks/NAME or its URL. null: the network default.
    public_ips: whether workers have public addresses. Without them, the subnetwork needs Private Google Access.
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
    error_message = "dataflow.image: the tag latest is not allowed. Workers of one job could run different code, and no plan would show it."
  }
  validation {
    condition     = var.dataflow.max_workers >= 1 && var.dataflow.max_workers <= 1000 && floor(var.dataflow.max_workers) == var.dataflow.max_workers
    error_message = "dataflow.max_workers: a whole number from 1 to 1000."
  }
  validation {
    condition     = can(regex("^[a-z0-9]+-[a-z0-9-]+$", var.dataflow.machine_type))
    error_message = "dataflow.machine_type: a machine type, such as e2-standard-2."
  }
  validation {
    condition     = var.dataflow.linger >= 0 && var.dataflow.linger <= 60
    error_message = "dataflow.linger: 0 to 60 seconds."
  }
  validation {
    condition     = var.dataflow.shards >= 1 && var.dataflow.shards <= 1000 && floor(var.dataflow.shards) == var.dataflow.shards
    error_message = "dataflow.shards: a whole number from 1 to 1000."
  }
  validation {
    condition     = var.dataflow.writer == null || contains(["insert_all", "storage_write"], coalesce(var.dataflow.writer, "none"))
    error_message = "dataflow.writer: insert_all or storage_write."
  }
  validation {
    condition     = var.dataflow.subnetwork == null || can(regex("^(https://www\\.googleapis\\.com/compute/v1/projects/[^/]+/)?regions/[^/]+/subnetworks/[^/]+$", var.dataflow.subnetwork))
    error_message = "dataflow.subnetwork: regions/REGION/subnetworks/NAME, optionally after https://www.googleapis.com/compute/v1/projects/PROJECT/."
  }
}
