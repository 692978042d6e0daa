"""Queries of `sql/` that the BigQuery emulator cannot run, and why."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Lack:
    """A reason why the emulator cannot run a query.

    Attributes:
        reason: What it does not have.
        match: What it says; a pattern.
    """

    reason: str
    match: str


CANNOT_RUN: Mapping[str, Lack] = {
    "cost_by_query": Lack("its JOBS has no hash of a query, and no bytes billed: it bills nothing", "query_info"),
    "cost_by_user": Lack(
        "its JOBS has no bytes billed and no labels", "Unrecognized name: (total_bytes_billed|labels)"
    ),
    "failed_jobs": Lack("its JOBS has the reason of an error only, and not as error_result", "error_result"),
    "partition_sizes": Lack(
        "its PARTITIONS has no bytes and no time of the last change", "Unrecognized name: total_logical_bytes"
    ),
    "streaming_errors": Lack(
        "it has no STREAMING_TIMELINE_BY_PROJECT, and takes its place for a dataset", 'Invalid dataset ID "region-'
    ),
}
"""All that no test runs; the analyzer checks these too (`tests/unit/sql/test_analysis.py`)."""
