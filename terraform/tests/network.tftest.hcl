# Ingress and egress of the functions, regions of messages, and billing of instances.

mock_provider "google-beta" {
  override_during = plan
}

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project_id = "a-project"
  deployers  = ["user:ada@example.com"]
  package    = "versions.tf"
}

run "defaults" {
  command = plan

  assert {
    condition     = [for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) : function.service_config[0].ingress_settings] == ["ALLOW_INTERNAL_ONLY", "ALLOW_ALL", "ALLOW_ALL", "ALLOW_ALL"]
    error_message = "Pub/Sub is internal; deployers and operators call the others from outside."
  }
  assert {
    condition     = alltrue([for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) : function.service_config[0].vpc_connector == null])
    error_message = "no VPC by default"
  }
  assert {
    condition     = length(google_pubsub_topic.events.message_storage_policy) + length(google_pubsub_topic.dead_letters.message_storage_policy) == 0
    error_message = "Messages are stored where the organization allows."
  }
  assert {
    condition     = terraform_data.billing.triggers_replace[2].billing == "request"
    error_message = "as created by gcloud functions deploy"
  }
}

run "all_functions_are_internal_if_configured" {
  command = plan
  variables {
    ingress = { called = "internal-only" }
  }

  assert {
    condition     = toset([for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) : function.service_config[0].ingress_settings]) == toset(["ALLOW_INTERNAL_ONLY"])
    error_message = "ingress"
  }
}

run "all_traffic_leaves_by_a_connector" {
  command = plan
  variables {
    vpc = { connector = "projects/p/locations/us-central1/connectors/c", all_traffic = true }
  }

  assert {
    condition     = alltrue([for function in concat([google_cloudfunctions2_function.ingest], values(google_cloudfunctions2_function.called)) : function.service_config[0].vpc_connector == "projects/p/locations/us-central1/connectors/c" && function.service_config[0].vpc_connector_egress_settings == "ALL_TRAFFIC"])
    error_message = "connector"
  }
  assert {
    condition     = terraform_data.billing.triggers_replace[3].connector == "projects/p/locations/us-central1/connectors/c"
    error_message = "set_billing.sh runs after each deploy, also that of another connector."
  }
}

run "messages_stay_in_their_regions" {
  command = plan
  variables {
    message_regions = ["us-central1", "us-east1"]
  }

  assert {
    condition     = alltrue([for topic in [google_pubsub_topic.events, google_pubsub_topic.dead_letters] : one(topic.message_storage_policy).allowed_persistence_regions == toset(["us-central1", "us-east1"])])
    error_message = "both topics hold events"
  }
}

run "an_instance_is_billed_for_its_time_if_configured" {
  command = plan
  variables {
    ingest = { billing = "instance" }
  }

  assert {
    condition     = terraform_data.billing.triggers_replace[2].billing == "instance"
    error_message = "set_billing.sh runs when it changes, and after each deploy"
  }
  assert {
    condition     = strcontains(local.requests_of_ingest, "sluice-dev-ingest") && google_cloudfunctions2_function.ingest.name == "sluice-dev-ingest"
    error_message = "It is the same service, so that metrics, alerts and the subscription stay."
  }
}

run "wrong_values" {
  command = plan
  variables {
    ingress         = { ingest = "internal" }
    vpc             = { connector = "c" }
    message_regions = ["US"]
    ingest          = { billing = "cpu" }
    access          = { readers = ["group:Analysts@example.com"] }
  }
  expect_failures = [var.ingress, var.vpc, var.message_regions, var.ingest, var.access]
}
