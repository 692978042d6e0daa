# A plan of prod without a recipient of alerts, a budget or a backend fails; plans of other environments do not.

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

run "prod_without_anything_fails" {
  command = plan
  variables {
    environment = "prod"
  }
  expect_failures = [terraform_data.required]
}

run "without_a_recipient_it_fails" {
  command = plan
  variables {
    required = ["recipient"]
    budget   = { billing_account = "012345-678901-ABCDEF", amount = 200 }
  }
  expect_failures = [terraform_data.required]
}

run "without_a_budget_it_fails" {
  command = plan
  variables {
    required     = ["budget"]
    alert_emails = ["on-call@example.com"]
  }
  expect_failures = [terraform_data.required]
}

run "with_local_state_it_fails" {
  command = plan
  variables {
    environment  = "prod"
    alert_emails = ["on-call@example.com"]
    budget       = { billing_account = "012345-678901-ABCDEF", amount = 200 }
  }
  expect_failures = [terraform_data.required]
}

run "what_is_kept_elsewhere_can_be_left_out" {
  command = plan
  variables {
    environment  = "prod"
    alert_emails = ["on-call@example.com"]
    required     = ["recipient"]
  }

  assert {
    condition     = length(google_billing_budget.monthly) == 0
    error_message = "budget"
  }
}

run "nothing_else_can_be_required" {
  command = plan
  variables {
    required = ["tests"]
  }
  expect_failures = [var.required]
}
