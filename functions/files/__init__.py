"""Events in files: NDJSON of plain events or of the archive, as `sluice backfill` and Apache Beam read them."""
