CREATE SCHEMA IF NOT EXISTS `{{ project }}.{{ dataset }}`
OPTIONS (
  description = "Real-time events: orders, inventory, user activity",
  location = "{{ location }}",
  default_partition_expiration_days = {{ retention_days }},
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function")]
);
