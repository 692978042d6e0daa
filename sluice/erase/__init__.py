"""Erasure of a person from the tables, the dead letters and the archive."""
