"""The overload benchmark: goodput while BigQuery or Cloud Storage stalls or is slow, and after it."""
