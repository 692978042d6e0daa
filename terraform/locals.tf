locals {
  name   = "sluice-${var.environment}"
  labels = merge(var.labels, { environment = var.environment })

  # Each file of sql/schema is a table, except for the two datasets, as in functions/schema/definitions.py.
  tables       = toset([for file in fileset("${path.module}/../sql/schema", "*.sql") : trimsuffix(file, ".sql") if !contains(["dataset.sql", "historical_dataset.sql"], file)])
  event_tables = setsubtract(local.tables, ["dead_letters", "replays"])

  # Each file of sql/views is a view; those of each/ are one for each event table. Readers of events have no access to views
  # of dead letters.
  views = toset(concat(
    [for file in fileset("${path.module}/../sql/views", "*.sql") : trimsuffix(file, ".sql") if !startswith(file, "dead_letter")],
    [for pair in setproduct(local.event_tables, fileset("${path.module}/../sql/views/each", "*.sql")) : "${pair[0]}_${trimsuffix(pair[1], ".sql")}"],
  ))

  readers = setunion(var.access.readers, var.access.personal_data_readers)
}
