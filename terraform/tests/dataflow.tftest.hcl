# engine = "dataflow": the job, its service account, its subscription, and its monitoring.

mock_provider "google-beta" {
  override_during = plan
}

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan

  mock_resource "google_kms_crypto_key" {
    defaults = { id = "the-key" }
  }
}

variables {
  project_id = "a-project"
  deployers  = ["user:ada@example.com"]
  package    = "versions.tf"
  engine     = "dataflow"
  dataflow   = { image = "us-central1-docker.pkg.dev/a-project/sluice-dev/dataflow:7" }
}

run "functions_have_nothing_of_dataflow" {
  command = plan
  variables {
    engine = "functions"
  }

  assert {
    condition     = length(google_dataflow_flex_template_job.ingest) + length(google_storage_bucket.dataflow) + length(google_project_iam_member.dataflow) + length(terraform_data.pull) == 0
    error_message = "A job, a bucket, a binding or a wait that is not configured."
  }
  assert {
    condition     = !contains(keys(google_service_account.this), "dataflow") && !contains(keys(google_project_iam_custom_role.this), "stager")
    error_message = "A service account or a role that is not configured."
  }
  assert {
    condition     = length(setintersection(["dataflow.googleapis.com", "compute.googleapis.com"], keys(google_project_service.needed))) == 0
    error_message = "Services that are not needed."
  }
  assert {
    condition     = !anytrue([for permission in google_project_iam_custom_role.this["operator"].permissions : startswith(permission, "dataflow.")])
    error_message = "Permissions that are not needed."
  }
}

run "a_job_reads_the_same_subscription" {
  command = plan

  # no push no dead letter topic and no backoff which dataflow does not support
  assert {
    condition     = length(google_pubsub_subscription.ingest.push_config) == 0
    error_message = "A subscription with a push cannot be pulled."
  }
  assert {
    condition     = length(google_pubsub_subscription.ingest.dead_letter_policy) + length(google_pubsub_subscription.ingest.retry_policy) == 0
    error_message = "Dataflow supports neither a dead-letter topic nor backoff."
  }
  assert {
    condition     = !coalesce(google_pubsub_subscription.ingest.enable_message_ordering, false) && !coalesce(google_pubsub_subscription.ingest.enable_exactly_once_delivery, false)
    error_message = "Dataflow is slower with either."
  }
  assert {
    condition     = google_pubsub_subscription.ingest.name == "sluice-dev-ingest" && google_pubsub_subscription.ingest.message_retention_duration == "604800s" && google_pubsub_subscription.ingest.expiration_policy[0].ttl == ""
    error_message = "It is the subscription of the functions, and keeps what it has."
  }
  assert {
    condition     = google_dataflow_flex_template_job.ingest[0].parameters["input_subscription"] == google_pubsub_subscription.ingest.id
    error_message = "another subscription"
  }

  # the function is there for the way back, and costs nothing
  assert {
    condition     = google_cloudfunctions2_function.ingest.service_config[0].min_instance_count == 0
    error_message = "A minimum of instances would be billed without any traffic."
  }

  # parameters of the pipeline
  assert {
    condition = google_dataflow_flex_template_job.ingest[0].parameters == tomap({
      archive_bucket     = "a-project-sluice-dev-archive"
      batch_bytes        = "2097152"
      batch_rows         = "500"
      code_version       = "dataflow-7"
      dataset            = "dev_events_dataset"
      flush_timeout      = "25"
      historical_dataset = "historical_dataset"
      input_subscription = "ingest"
      ip_policy          = "keep"
      linger             = "1"
      retention_days     = "90"
      shards             = "8"
    })
    error_message = jsonencode(google_dataflow_flex_template_job.ingest[0].parameters)
  }

  # one image, one account, private workers, and a bucket of its own
  assert {
    condition = (
      google_dataflow_flex_template_job.ingest[0].sdk_container_image == var.dataflow.image
      && jsondecode(google_storage_bucket_object.template[0].content).image == var.dataflow.image
      && jsondecode(google_storage_bucket_object.template[0].content).sdkInfo.language == "PYTHON"
      && length(jsondecode(google_storage_bucket_object.template[0].content).metadata.parameters) > 10
    )
    error_message = "The launcher's image is that of the workers."
  }
  assert {
    condition = (
      google_dataflow_flex_template_job.ingest[0].container_spec_gcs_path == "gs://a-project-sluice-dev-dataflow/${google_storage_bucket_object.template[0].name}"
      && google_storage_bucket_object.template[0].name == "templates/${sha256(google_storage_bucket_object.template[0].content)}.json"
    )
    error_message = "Another template is another object, so that the job is updated."
  }
  assert {
    condition     = alltrue([for place in [google_dataflow_flex_template_job.ingest[0].staging_location, google_dataflow_flex_template_job.ingest[0].temp_location] : startswith(place, "gs://a-project-sluice-dev-dataflow/")])
    error_message = "Without it, Dataflow would create a bucket."
  }
  assert {
    condition     = google_dataflow_flex_template_job.ingest[0].service_account_email == "dataflow@a" && google_dataflow_flex_template_job.ingest[0].ip_configuration == "WORKER_IP_PRIVATE"
    error_message = "account or addresses"
  }
  assert {
    condition     = google_dataflow_flex_template_job.ingest[0].labels == tomap({ environment = "dev", managed_by = "cloud_function", assessment = "data_engineering" }) && google_dataflow_flex_template_job.ingest[0].kms_key_name == null
    error_message = "labels or key"
  }

  # it ends without losing what it has read
  assert {
    condition     = google_dataflow_flex_template_job.ingest[0].on_delete == "drain" && google_dataflow_flex_template_job.ingest[0].skip_wait_on_job_termination == false
    error_message = "A job that is cancelled drops what it has acknowledged, and one that is not waited for meets the push."
  }
  assert {
    condition     = { for rule in google_storage_bucket.dataflow[0].lifecycle_rule : one(rule.action).type => one(rule.condition).matches_prefix } == { Delete = tolist(["temp/"]) }
    error_message = "Workers read what is staged as long as the job runs."
  }
  assert {
    condition     = one(one(google_storage_bucket.dataflow[0].lifecycle_rule).condition).age == 30 && google_storage_bucket.dataflow[0].soft_delete_policy[0].retention_duration_seconds == 0
    error_message = "Temporary files are deleted after 30 days, and are not billed for longer."
  }
  assert {
    condition     = google_dataflow_flex_template_job.ingest[0].autoscaling_algorithm == "THROUGHPUT_BASED" && google_dataflow_flex_template_job.ingest[0].enable_streaming_engine
    error_message = "The job scales, with the Streaming Engine."
  }
  assert {
    condition     = length(setsubtract(["dataflow.googleapis.com", "compute.googleapis.com"], keys(google_project_service.needed))) == 0
    error_message = "services"
  }
}

run "the_account_of_the_job_may_do_no_more_than_it_does" {
  command = plan
  variables {
    ip_policy = "hash"
    access    = { operators = ["group:operators@example.com"] }
  }

  assert {
    condition = toset(concat(
      [for binding in google_project_iam_member.dataflow : "project ${binding.role} ${binding.member}"],
      [for binding in google_pubsub_subscription_iam_member.dataflow : "${binding.subscription} ${binding.role} ${binding.member}"],
      [for binding in concat(google_storage_bucket_iam_member.archive_dataflow, google_storage_bucket_iam_member.dataflow) : "${binding.bucket} ${binding.role} ${binding.member}"],
      [for binding in google_artifact_registry_repository_iam_member.dataflow : "images ${binding.role} ${binding.member}"],
      [for binding in google_secret_manager_secret_iam_member.ip_hash_key : "${binding.secret_id} ${binding.role} ${binding.member}"],
      [for binding in google_service_account_iam_member.dataflow : "account ${binding.role} ${binding.member}"],
      )) == toset([
      "project roles/dataflow.worker serviceAccount:dataflow@a",
      "ingest roles/pubsub.subscriber serviceAccount:dataflow@a",
      "ingest roles/pubsub.viewer serviceAccount:dataflow@a",
      "a-project-sluice-dev-archive archiver serviceAccount:dataflow@a",
      "a-project-sluice-dev-dataflow stager serviceAccount:dataflow@a",
      "images roles/artifactregistry.reader serviceAccount:dataflow@a",
      "the secret roles/secretmanager.secretAccessor serviceAccount:dataflow@a",
      "the secret roles/secretmanager.secretAccessor serviceAccount:ingest@a",
      "the secret roles/secretmanager.secretAccessor group:operators@example.com",
      "account roles/iam.serviceAccountUser user:ada@example.com",
    ])
    error_message = "bindings"
  }
  assert {
    condition     = { for name, dataset in google_bigquery_dataset.events : name => [for access in dataset.access : access.role if access.user_by_email == "dataflow@a"] } == { live = ["row_writer"], historical = [] }
    error_message = "It adds rows, as ingest does, and reads none."
  }
  assert {
    condition     = google_dataflow_flex_template_job.ingest[0].parameters["ip_hash_key_secret"] == "projects/a-project/secrets/sluice-dev-ip-hash-key/versions/1" && google_dataflow_flex_template_job.ingest[0].parameters["ip_policy"] == "hash"
    error_message = "It fetches the key; a parameter would show it."
  }
  assert {
    condition     = length(setsubtract(["dataflow.jobs.list", "dataflow.jobs.updateContents"], google_project_iam_custom_role.this["operator"].permissions)) == 0 && !contains(google_project_iam_custom_role.this["operator"].permissions, "dataflow.jobs.create")
    error_message = "Operators look at the job and drain it, and start none."
  }
}

run "options_reach_the_job" {
  command = plan
  variables {
    dataflow = {
      image        = "us-central1-docker.pkg.dev/a-project/sluice-dev/dataflow@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
      max_workers  = 30
      machine_type = "n2-standard-4"
      linger       = 2.5
      shards       = 100
      writer       = "storage_write"
      subnetwork   = "regions/us-central1/subnetworks/workers"
      public_ips   = true
    }
  }

  assert {
    condition = (
      google_dataflow_flex_template_job.ingest[0].max_workers == 30
      && google_dataflow_flex_template_job.ingest[0].machine_type == "n2-standard-4"
      && google_dataflow_flex_template_job.ingest[0].subnetwork == "regions/us-central1/subnetworks/workers"
      && google_dataflow_flex_template_job.ingest[0].ip_configuration == "WORKER_IP_PUBLIC"
    )
    error_message = "workers"
  }
  assert {
    condition     = { for name in ["linger", "shards", "writer", "code_version"] : name => google_dataflow_flex_template_job.ingest[0].parameters[name] } == { linger = "2.5", shards = "100", writer = "storage_write", code_version = "dataflow-0123456789abcdef0123" }
    error_message = "parameters"
  }
}

run "its_stores_have_the_key" {
  command = plan
  variables {
    customer_managed_keys = true
  }

  assert {
    condition     = google_storage_bucket.dataflow[0].encryption[0].default_kms_key_name == "the-key" && google_dataflow_flex_template_job.ingest[0].kms_key_name == "the-key"
    error_message = "bucket or job"
  }
  assert {
    condition = length(setsubtract(
      ["serviceAccount:service-123456789012@compute-system.iam.gserviceaccount.com", "serviceAccount:service-123456789012@dataflow-service-producer-prod.iam.gserviceaccount.com"],
      [for binding in google_kms_crypto_key_iam_member.agent : binding.member],
    )) == 0
    error_message = "The agents of the workers' disks and of the job use it."
  }
}

run "an_engine_without_an_image" {
  command = plan
  variables {
    dataflow = {}
  }
  expect_failures = [var.engine]
}

run "an_engine_that_there_is_not" {
  command = plan
  variables {
    engine = "flink"
  }
  expect_failures = [var.engine]
}

run "an_image_without_a_tag" {
  command = plan
  variables {
    dataflow = { image = "us-central1-docker.pkg.dev/a-project/sluice-dev/dataflow" }
  }
  expect_failures = [var.dataflow]
}

run "an_image_under_a_tag_that_moves" {
  command = plan
  variables {
    dataflow = { image = "us-central1-docker.pkg.dev/a-project/sluice-dev/dataflow:latest" }
  }
  expect_failures = [var.dataflow]
}

run "no_workers" {
  command = plan
  variables {
    dataflow = { image = "a.pkg.dev/p/r/i:1", max_workers = 0 }
  }
  expect_failures = [var.dataflow]
}

run "no_machine" {
  command = plan
  variables {
    dataflow = { image = "a.pkg.dev/p/r/i:1", machine_type = "large" }
  }
  expect_failures = [var.dataflow]
}

run "too_long_a_linger" {
  command = plan
  variables {
    dataflow = { image = "a.pkg.dev/p/r/i:1", linger = 61 }
  }
  expect_failures = [var.dataflow]
}

run "no_shards" {
  command = plan
  variables {
    dataflow = { image = "a.pkg.dev/p/r/i:1", shards = 0.5 }
  }
  expect_failures = [var.dataflow]
}

run "another_writer" {
  command = plan
  variables {
    dataflow = { image = "a.pkg.dev/p/r/i:1", writer = "load_jobs" }
  }
  expect_failures = [var.dataflow]
}

run "a_network_for_a_subnetwork" {
  command = plan
  variables {
    dataflow = { image = "a.pkg.dev/p/r/i:1", subnetwork = "default" }
  }
  expect_failures = [var.dataflow]
}
