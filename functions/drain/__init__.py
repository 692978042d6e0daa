"""Batch mode: pulls what has arrived, and brings it into the tables by load jobs."""
