output "settings" {
  description = "Environment of the `sluice` command."
  value       = module.sluice.settings
}

output "topic" {
  description = "Topic for events."
  value       = module.sluice.topic
}

output "functions" {
  description = "URLs of the functions."
  value       = module.sluice.functions
}

output "github_variables" {
  description = "Variables of the GitHub environment that deploys here; null without github."
  value       = module.sluice.github_variables
}

output "images" {
  description = "Repository of images."
  value       = module.sluice.images
}
