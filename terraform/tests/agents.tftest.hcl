# Service accounts that service agents of Google may impersonate, and audit logs of data access.

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

run "scheduled_queries_run_as_the_backup_account" {
  command = plan

  assert {
    condition     = "${google_service_account_iam_member.transfer_agent.service_account_id} ${google_service_account_iam_member.transfer_agent.role} ${google_service_account_iam_member.transfer_agent.member}" == "projects/a-project/serviceAccounts/backup@a roles/iam.serviceAccountTokenCreator serviceAccount:service-123456789012@gcp-sa-bigquerydatatransfer.iam.gserviceaccount.com"
    error_message = "The agent of the Data Transfer Service makes tokens of the backup account, and of no other."
  }
  assert {
    condition     = length(google_service_account_iam_member.pubsub_agent) == 0
    error_message = "In a newer project Pub/Sub's agent may already."
  }
  assert {
    condition     = length(google_project_iam_audit_config.data_access) == 0
    error_message = "An audit configuration replaces the project's, so none is made unasked."
  }
}

run "in_an_old_project_pubsub_may_make_tokens_of_the_push_account" {
  command = plan
  variables {
    project_older_than_april_2021 = true
  }

  assert {
    condition     = "${google_service_account_iam_member.pubsub_agent[0].service_account_id} ${google_service_account_iam_member.pubsub_agent[0].role} ${google_service_account_iam_member.pubsub_agent[0].member}" == "projects/a-project/serviceAccounts/push@a roles/iam.serviceAccountTokenCreator serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = google_service_account_iam_member.pubsub_agent[0].member
  }
}

run "access_of_people_to_data_is_logged_if_configured" {
  command = plan
  variables {
    data_access_logs = ["secretmanager.googleapis.com", "storage.googleapis.com"]
  }

  assert {
    condition = toset(flatten([for service, config in google_project_iam_audit_config.data_access : [for log in config.audit_log_config : "${service} ${log.log_type} but ${join(" ", sort(log.exempted_members))}"]])) == toset(flatten([for type in ["ADMIN_READ", "DATA_READ", "DATA_WRITE"] : [
      "secretmanager.googleapis.com ${type} but ",
      "storage.googleapis.com ${type} but serviceAccount:compact@a serviceAccount:ingest@a serviceAccount:reconcile@a",
    ]]))
    error_message = "All access is logged, but for that of the functions to each object."
  }
}

run "a_service_without_such_logs_is_rejected" {
  command = plan
  variables {
    data_access_logs = ["bigquery.googleapis.com"]
  }
  expect_failures = [var.data_access_logs]
}
