"""Settings of a deployment of Sluice that affect its cost, with the defaults of Terraform and the code."""

import dataclasses
from typing import Literal, get_args

type Writer = Literal["insert_all", "storage_write"]
"""BigQuery's API that writes rows (`--writer`)."""

WRITERS: tuple[Writer, ...] = get_args(Writer.__value__)


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """Settings of a deployment; the defaults are those of `terraform/` and of the code.

    Attributes:
        request_logs: Whether Cloud Run's log of the requests that succeeded is kept.
        is_compacted: Whether the function `compact` replaces the archive's objects by few large ones.
        nearline_days: Age at which the archive's objects move to NEARLINE; 0: never.
        coldline_days: Age at which they move to COLDLINE; 0: never.
        archive_days: Age at which they are deleted, the days of soft delete included.
        retention_days: Days that a row lives in the live tables.
        history_days: Days that a row is kept in all. Nothing deletes history: the model counts the first two years.
        keep_history_days: Days before its expiry at which a row is copied into history. A run reads as many.
        snapshot_days: Days that the daily snapshots keep what has expired.
        topic_days: Days that the topic keeps all messages.
        reconciled_days: Days of rows that the reconciliation reads to compare an hour: the day of that hour, of which
            there is what has come until the run, eleven minutes after the end of the next hour.
        reconciled_objects: Share of the archive's objects that the reconciliation reads: those with an event that is
            missing, redelivered or dated on another day. Assumed, as docs/reliability.md measures it.
        history_days_read: Days of history whose ids `keep_history` reads.
        writer: The API that writes rows; None: the default of each engine.
        flush_interval: Minimum seconds between two flushes of an instance: the setting of this name.
        batch_minutes: Minutes between two runs of `drain` in batch mode.
    """

    request_logs: bool = False
    is_compacted: bool = True
    nearline_days: int = 0
    coldline_days: int = 0
    archive_days: int = 730 + 7
    retention_days: int = 90
    history_days: int = 730
    keep_history_days: int = 7
    snapshot_days: int = 30
    topic_days: int = 7
    reconciled_days: float = 0.57
    reconciled_objects: float = 1 / 400
    history_days_read: int = 7 + 7 + 1
    writer: Writer | None = None
    flush_interval: float = 0.0
    batch_minutes: float = 1.0


DEFAULT = Deployment()

LIVE_TABLES = 3
"""Number of event tables; as many are in the historical dataset."""
TABLES_OF_A_RUN = LIVE_TABLES + 1
"""Number of tables that the reconciliation asks about an hour: the live ones, and the dead letters."""
RUNS_OF_AN_HOUR = 2
"""Number of runs of the reconciliation. The first one compares; the other one only looks how far that came."""
SCHEDULER_JOBS = 2
"""Number of scheduled jobs: `bootstrap` and `reconcile`; batch mode and compaction have one more each."""

DRAIN_VCPU = 0.333
DRAIN_GIB = 0.5
"""Size of `drain`, as Terraform deploys it."""
DRAIN_SECONDS = 5.0
"""Seconds of a run of `drain` besides its messages, until all services have answered; assumed."""
DRAIN_LINE_BYTES = 1_000
"""Bytes of the log entry of a run of `drain`."""
DRAIN_METRICS = 1
"""Log-based metrics that have a point for each run of `drain`."""
LEDGER_READS = 4
"""Reads of the ledger in a run of `drain`: its metadata and its content, at the beginning and at the end."""
SOFT_DELETE_DAYS = 7
"""Days for which a deleted object is kept, and billed."""

FLUSH_LINE_BYTES = 1_300
"""Bytes of the log entry of a flush: the line, of about 600 bytes, and what Cloud Logging adds (resource, labels with
the instance's id, names, times)."""
REQUEST_LINE_BYTES = 1_000
"""Bytes of an entry in Cloud Run's request log, of 0.7 to 1.2 kB."""
FLUSH_METRICS = 10
"""Log-based metrics that have a point in each minute with a flush: events, rows of three tables, wait, archive, insert,
lag; and with bad events dead letters of a stage, and unknown fields. The others are rare."""
MESSAGE_OVERHEAD_BYTES = 81
"""Bytes that Pub/Sub bills for a message beside its payload: the attribute `event_id` with a UUID, 20 for the time, and
the message's id."""

OBJECT_CPU_SECONDS = 0.000_068
"""Seconds of CPU in which the reconciliation compares an object: docs/reliability.md."""
LIST_SECONDS = 0.3
"""Seconds to list `LISTED_OBJECTS`; estimated."""
SUM_SECONDS = 1 / 5_000
"""Seconds to receive what a query has summed up of a table's rows for an object; estimated."""
RUN_SECONDS = 5.0
"""Seconds of a run of the reconciliation besides: its start, and until BigQuery has answered; assumed."""
OBJECT_READ_SECONDS = 0.03
"""Seconds to read an object of the archive; assumed."""
OBJECT_READERS = 8
"""Maximum objects that the reconciliation reads at once."""
RECONCILE_GIB = 2.0
BOOTSTRAP_SECONDS = 60.0
"""Seconds of the daily bootstrap; assumed."""
LISTED_OBJECTS = 1_000
"""Maximum objects of a page of a list, which is an operation of class A."""
