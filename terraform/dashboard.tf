# The dashboard. monitoring/dashboard.yaml has the tiles; this file places them and renders the JSON of
# https://cloud.google.com/monitoring/api/ref_v3/rest/v1/projects.dashboards.
#
# Zero, empty and null values are omitted, as Cloud Monitoring does not return them and every plan would show a difference
# (https://github.com/hashicorp/terraform-provider-google/issues/16173).

locals {
  rows_of_engines = yamldecode(templatefile("${path.module}/monitoring/dashboard.yaml", merge(local.monitoring_values, {
    runbook = local.runbook_url == null ? "docs/operate.md" : "[the runbook](${local.runbook_url})"
  })))

  rows = [
    for row in local.rows_of_engines : {
      height = row.height
      tiles  = [for tile in row.tiles : tile if contains(flatten([try(tile.engine, local.engine)]), local.engine)]
    } if contains(flatten([try(row.engine, local.engine)]), local.engine)
  ]

  tiles = flatten([
    for y, row in local.rows : [
      for x, tile in row.tiles : {
        for name, value in {
          xPos   = sum(concat([0], [for before in slice(row.tiles, 0, x) : before.width]))
          yPos   = sum(concat([0], [for before in slice(local.rows, 0, y) : before.height]))
          width  = tile.width
          height = row.height
          widget = merge({ title = tile.title }, local.widgets[tile.title])
        } : name => value if value != 0
      }
    ]
  ])

  widgets = {
    for tile in flatten(local.rows[*].tiles) : tile.title => {
      for kind, widget in {
        text = try({ content = tile.text, format = "MARKDOWN" }, null)
        scorecard = try({
          timeSeriesQuery = { prometheusQuery = tile.query, unitOverride = tile.unit }
          sparkChartView  = { sparkChartType = "SPARK_LINE" }
          thresholds      = [{ value = tile.bad, color = "RED", direction = "ABOVE" }]
        }, null)
        xyChart = try(merge(
          {
            chartOptions = { mode = "COLOR" }
            dataSets = flatten([
              for line in [for line in tile.lines : line if contains(flatten([try(line.engine, local.engine)]), local.engine) && (var.archive.compact || !can(line.compact))] : [
                for key in try(local.repeated[line.each], [""]) : {
                  legendTemplate = replace(line.name, local.monitoring_names.each, key)
                  plotType       = "LINE"
                  targetAxis     = "Y1"
                  timeSeriesQuery = {
                    prometheusQuery = replace(line.query, local.monitoring_names.each, key)
                    unitOverride    = tile.unit
                  }
                }
              ]
            ])
          },
          try({ thresholds = [{ value = tile.limit, targetAxis = "Y1" }] }, {}),
        ), null)
      } : kind => widget if widget != null
    }
  }
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName  = local.name
    mosaicLayout = { columns = 48, tiles = local.tiles }
  })

  depends_on = [google_logging_metric.this]
}

moved {
  from = google_monitoring_dashboard.watching
  to   = google_monitoring_dashboard.this
}
