locals {
  name   = "sluice-${var.environment}"
  labels = merge(var.labels, { environment = var.environment })

  # As the bootstrap finds them: each file of sql/schema is a table, but for the two datasets.
  tables       = toset([for file in fileset("${path.module}/../sql/schema", "*.sql") : trimsuffix(file, ".sql") if !contains(["dataset.sql", "historical_dataset.sql"], file)])
  event_tables = setsubtract(local.tables, ["dead_letters", "replays"])

  # And each file of sql/views a view, those of each/ one for each table. Who reads events reads nothing of dead letters.
  views = toset(concat(
    [for file in fileset("${path.module}/../sql/views", "*.sql") : trimsuffix(file, ".sql") if !startswith(file, "dead_letter")],
    [for pair in setproduct(local.event_tables, fileset("${path.module}/../sql/views/each", "*.sql")) : "${pair[0]}_${trimsuffix(pair[1], ".sql")}"],
  ))

  readers = setunion(var.access.readers, var.access.personal_data_readers)
}
