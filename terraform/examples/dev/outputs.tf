output "settings" {
  description = "Environment of the `sluice` command."
  value       = module.sluice.settings
}

output "topic" {
  description = "Publish events to it."
  value       = module.sluice.topic
}

output "functions" {
  description = "The functions' addresses."
  value       = module.sluice.functions
}

output "workload_identity_provider" {
  description = "For the workflow's google-github-actions/auth step; null without github."
  value       = module.sluice.workload_identity_provider
}

output "ci_account" {
  description = "The account that the workflow deploys as; null without github."
  value       = module.sluice.ci_account
}
