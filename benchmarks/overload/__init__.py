"""The overload benchmark: what becomes of goodput when BigQuery or Cloud Storage stalls or gets slow."""
