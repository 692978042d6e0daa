"""The reconciliation: the archive against the tables."""
