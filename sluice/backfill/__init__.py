"""The backfill: events of files into the live and the historical tables."""
