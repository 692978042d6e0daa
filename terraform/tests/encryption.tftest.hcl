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
  ip_policy  = "hash"
  backup     = { copy_region = "us-east1" }
}

run "without_customer_managed_keys_there_are_none" {
  command = plan

  assert {
    condition     = length(google_kms_key_ring.store) + length(google_kms_crypto_key.store) + length(google_kms_crypto_key_iam_member.agent) == 0
    error_message = "keys"
  }
  assert {
    condition = alltrue([
      google_pubsub_topic.events.kms_key_name == null,
      google_cloudfunctions2_function.ingest.kms_key_name == null,
      length(google_bigquery_dataset.events["live"].default_encryption_configuration) == 0,
      length(google_storage_bucket.archive.encryption) == 0,
    ])
    error_message = "a store has a key"
  }
}

run "with_them_every_store_has_the_key_of_its_region" {
  command = plan
  variables {
    customer_managed_keys = true
  }

  assert {
    condition     = keys(google_kms_crypto_key.store) == ["us-central1", "us-east1"]
    error_message = "keys: ${join(", ", keys(google_kms_crypto_key.store))}"
  }
  assert {
    condition     = toset([for store in concat(values(google_cloudfunctions2_function.called), [google_pubsub_topic.events, google_pubsub_topic.dead_letters, google_cloudfunctions2_function.ingest, google_artifact_registry_repository.images]) : store.kms_key_name]) == toset(["the-key"])
    error_message = "topics, functions, images"
  }
  assert {
    condition     = toset([for dataset in concat([google_bigquery_dataset.events["live"], google_bigquery_dataset.events["historical"]], values(google_bigquery_dataset.copy)) : one(dataset.default_encryption_configuration[*].kms_key_name)]) == toset(["the-key"])
    error_message = "datasets"
  }
  assert {
    condition     = toset([for bucket in [google_storage_bucket.archive, google_storage_bucket.packages] : one(bucket.encryption[*].default_kms_key_name)]) == toset(["the-key"])
    error_message = "buckets"
  }
  assert {
    condition     = [for replica in google_secret_manager_secret.ip_hash_key[0].replication[0].user_managed[0].replicas : one(replica.customer_managed_encryption).kms_key_name] == ["the-key", "the-key"]
    error_message = "secret"
  }
  assert {
    condition     = toset([for query in google_bigquery_data_transfer_config.scheduled : one(query.encryption_configuration[*].kms_key_name)]) == toset(["the-key"])
    error_message = "scheduled queries"
  }
  assert {
    condition     = length(google_kms_crypto_key_iam_member.agent) == 2 * 7 && toset([for binding in google_kms_crypto_key_iam_member.agent : binding.role]) == toset(["roles/cloudkms.cryptoKeyEncrypterDecrypter"])
    error_message = "each of the seven agents uses each key, and does no more with it"
  }
  assert {
    condition     = alltrue([for key in google_kms_crypto_key.store : key.rotation_period == "7776000s"])
    error_message = "rotation"
  }
}

run "an_archive_in_europe_has_a_key_where_cloud_kms_calls_it_so" {
  command = plan
  variables {
    customer_managed_keys = true
    archive               = { dual_region = { location = "EU", regions = ["europe-west1", "europe-west4"] } }
    backup                = {}
    ip_policy             = "keep"
  }

  assert {
    condition     = keys(google_kms_crypto_key.store) == ["europe", "us-central1"]
    error_message = "keys: ${join(", ", keys(google_kms_crypto_key.store))}"
  }
  assert {
    condition = toset([for binding in google_kms_crypto_key_iam_member.agent : binding.member]) == toset([
      "serviceAccount:service-123456789012@gcp-sa-artifactregistry.iam.gserviceaccount.com",
      "serviceAccount:bq-agent@a",
      "serviceAccount:service-123456789012@gcf-admin-robot.iam.gserviceaccount.com",
      "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com",
      "serviceAccount:service-123456789012@serverless-robot-prod.iam.gserviceaccount.com",
      "serviceAccount:storage-agent@a",
    ])
    error_message = "agents, without that of a service that is not used"
  }
}

run "an_archive_of_two_regions_has_a_key_in_their_multi_region" {
  command = plan
  variables {
    customer_managed_keys = true
    archive               = { dual_region = { location = "US", regions = ["us-central1", "us-east1"] } }
    backup                = {}
  }

  assert {
    condition     = keys(google_kms_crypto_key.store) == ["us", "us-central1"]
    error_message = "keys: ${join(", ", keys(google_kms_crypto_key.store))}"
  }
}
