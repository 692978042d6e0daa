CREATE SCHEMA IF NOT EXISTS `{{ project }}.{{ historical_dataset }}`
OPTIONS (
  description = "Events that are older than the retention of {{ dataset }}; nothing expires here",
  location = "{{ location }}",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function")]
);
