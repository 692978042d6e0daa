variable "archive" {
  description = <<-TEXT
    Retention and location of raw events.
    compact: whether the function compact replaces the objects of each complete hour by few large ones (docs/archive.md).
    false: objects stay as they were written, for a retention policy that forbids to delete them.
    nearline_days, coldline_days: days after the arrival at which objects move to a colder storage class. 0: never. Each move
    has a fee for each object, so that it pays for compacted objects only. Erasures then pay for what they read (docs/archive.md).
    delete_days: days after the arrival at which objects are deleted. 0: never.
    soft_delete_days: days for which deleted objects can be restored.
    dual_region: two regions of a multi-region instead of var.region, such as
    { location = "US", regions = ["US-CENTRAL1", "US-EAST1"] }. If a region is lost, objects that have not been replicated
    are lost too. By default nearly all objects are replicated within an hour, with turbo = true within 15 minutes.
  TEXT
  type = object({
    compact          = optional(bool, true)
    nearline_days    = optional(number, 0)
    coldline_days    = optional(number, 0)
    delete_days      = optional(number, 730)
    soft_delete_days = optional(number, 7)
    dual_region = optional(object({
      location = string
      regions  = set(string)
      turbo    = optional(bool, false)
    }))
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([for days in [var.archive.nearline_days, var.archive.coldline_days] : days >= 0 && (var.archive.delete_days == 0 || days < var.archive.delete_days)]) && (
      var.archive.nearline_days == 0 || var.archive.coldline_days == 0 || var.archive.nearline_days < var.archive.coldline_days
    )
    error_message = "archive: nearline_days < coldline_days < delete_days, for those that are not 0."
  }
  validation {
    condition     = var.archive.delete_days == 0 || var.archive.delete_days > var.retention_days
    error_message = "archive.delete_days: 0 or more than retention_days, so that rows can be restored from the archive until they expire."
  }
  validation {
    condition     = var.archive.soft_delete_days == 0 || (var.archive.soft_delete_days >= 7 && var.archive.soft_delete_days <= 90)
    error_message = "archive.soft_delete_days: 0 (off) or 7 to 90, as Cloud Storage requires."
  }
  validation {
    condition     = var.archive.dual_region == null || (contains(["US", "EU", "ASIA"], try(var.archive.dual_region.location, "")) && length(try(var.archive.dual_region.regions, [])) == 2)
    error_message = "archive.dual_region: location is US, EU or ASIA, and regions are two regions in it."
  }
}

locals {
  archive_location = var.archive.dual_region == null ? var.region : var.archive.dual_region.location
  # The EU is named europe in Cloud KMS: https://cloud.google.com/kms/docs/locations
  archive_key_location = lookup({ EU = "europe" }, local.archive_location, lower(local.archive_location))

  # What compact and an erasure write has the time of arrival as its custom time. So it is kept no longer than what it replaces,
  # although it is created later.
  archive_rules = flatten([
    for rule in [
      { class = "NEARLINE", days = var.archive.nearline_days },
      { class = "COLDLINE", days = var.archive.coldline_days },
      { class = null, days = var.archive.delete_days },
    ] : [for begin in ["creation", "arrival"] : merge(rule, { begin = begin })] if rule.days > 0
  ])
}

resource "google_storage_bucket" "archive" {
  #checkov:skip=CKV_GCP_62:Access logs are for public buckets; the organization configures audit logs for readers
  #checkov:skip=CKV_GCP_78:Each object has a unique name and is written once; soft delete restores deleted objects
  project                     = var.project_id
  name                        = "${var.project_id}-${local.name}-archive"
  location                    = upper(local.archive_location)
  labels                      = local.labels
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  dynamic "custom_placement_config" {
    for_each = var.archive.dual_region[*]
    content {
      data_locations = [for region in custom_placement_config.value.regions : upper(region)]
    }
  }

  # https://cloud.google.com/storage/docs/availability-durability#turbo-replication
  rpo = var.archive.dual_region == null ? null : var.archive.dual_region.turbo ? "ASYNC_TURBO" : "DEFAULT"

  soft_delete_policy {
    retention_duration_seconds = var.archive.soft_delete_days * 86400
  }

  dynamic "lifecycle_rule" {
    for_each = local.archive_rules
    content {
      action {
        type          = lifecycle_rule.value.class == null ? "Delete" : "SetStorageClass"
        storage_class = lifecycle_rule.value.class
      }
      condition {
        age                    = lifecycle_rule.value.begin == "creation" ? lifecycle_rule.value.days : null
        send_age_if_zero       = false
        days_since_custom_time = lifecycle_rule.value.begin == "arrival" ? lifecycle_rule.value.days : null
      }
    }
  }

  dynamic "encryption" {
    for_each = var.customer_managed_keys ? [local.keys[local.archive_key_location]] : []
    content {
      default_kms_key_name = encryption.value
    }
  }

  depends_on = [google_project_service.needed, google_kms_crypto_key_iam_member.agent]

  lifecycle {
    prevent_destroy = true
  }
}
