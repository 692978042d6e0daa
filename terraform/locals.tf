locals {
  name   = "sluice-${var.environment}"
  labels = merge(var.labels, { environment = var.environment })

  # As the bootstrap finds them: each file of sql/schema is a table, but for the two datasets.
  tables       = toset([for file in fileset("${path.module}/../sql/schema", "*.sql") : trimsuffix(file, ".sql") if !endswith(file, "dataset.sql")])
  event_tables = setsubtract(local.tables, ["dead_letters", "replays"])
}
