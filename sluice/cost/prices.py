"""List prices of Google Cloud in us-central1: USD, without discounts. The only place where a price is written."""

import dataclasses
from datetime import date
from typing import Literal

type Known = Literal["read", "second hand"]
"""Whether the price was read from the price list itself or from a quotation."""

GIB, TIB = 2**30, 2**40
HOURS_OF_MONTH = 730

_READ = date(2026, 11, 25)
_RUN = "https://cloud.google.com/run/pricing"
_PUBSUB = "https://cloud.google.com/pubsub/pricing"
_STORAGE = "https://cloud.google.com/storage/pricing"
_BIGQUERY = "https://cloud.google.com/bigquery/pricing"
_OBSERVABILITY = "https://cloud.google.com/stackdriver/pricing"
_DATAFLOW = "https://cloud.google.com/dataflow/pricing"


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """A price.

    Attributes:
        what: Subject of the price.
        usd: USD for `per` units.
        per: Number of units that the price list names.
        unit: Name of the unit.
        source: Page of the price list.
        date: Date on which the price was read there.
        read_by: Whether the price list itself was read, or a quotation.
        free: Units of a month that are free of charge; per billing account, or per project for logs.
        shown: Displayed name of `per` units; empty if it is `unit`.
    """

    what: str
    usd: float
    per: float
    unit: str
    source: str
    date: date
    read_by: Known
    free: float = 0.0
    shown: str = ""

    @property
    def usd_per_unit(self) -> float:
        """USD for one unit."""
        return self.usd / self.per

    @property
    def text(self) -> str:
        """The price as in the price list."""
        usd = f"{self.usd:.9f}".rstrip("0").rstrip(".")
        return f"{usd} USD for {self.shown or f'1 {self.unit}'}"


def _second_hand(day: str) -> tuple[date, Known]:
    return date.fromisoformat(day), "second hand"


PUBSUB_BYTES = Price(
    "Pub/Sub, throughput", 40, TIB, "byte", _PUBSUB, _READ, "read", 10 * GIB, "1 TiB, 1 000 bytes a request at least"
)
PUBSUB_KEPT = Price("Pub/Sub, messages that a topic keeps", 0.27, 1, "GiB-month", _PUBSUB, *_second_hand("2026-09-20"))
BIGQUERY_SUBSCRIPTION = Price(
    "Pub/Sub, BigQuery subscription", 50, TIB, "byte", _PUBSUB, *_second_hand("2026-09-20"), shown="1 TiB"
)
STORAGE_SUBSCRIPTION = Price(
    "Pub/Sub, Cloud Storage subscription", 50, TIB, "byte", _PUBSUB, *_second_hand("2026-09-20"), shown="1 TiB"
)
TRANSFORM = Price("Pub/Sub, JavaScript transform", 40, TIB, "byte", _PUBSUB, *_second_hand("2026-09-20"), shown="1 TiB")

REQUESTS = Price("Functions, requests", 0.40, 1e6, "request", _RUN, _READ, "read", 2_000_000, "1 000 000 requests")
VCPU_SECONDS = Price("Functions, CPU", 0.000024, 1, "vCPU-second", _RUN, _READ, "read", 180_000)
GIB_SECONDS = Price("Functions, memory", 0.0000025, 1, "GiB-second", _RUN, _READ, "read", 360_000)
INSTANCE_VCPU_SECONDS = Price(
    "Cloud Run billed by instance, CPU", 0.000018, 1, "vCPU-second", _RUN, _READ, "read", 240_000
)
INSTANCE_GIB_SECONDS = Price(
    "Cloud Run billed by instance, memory", 0.000002, 1, "GiB-second", _RUN, _READ, "read", 450_000
)

INSERTED_BYTES = Price(
    "BigQuery, streaming inserts",
    0.01,
    200 * 2**20,
    "byte",
    _BIGQUERY,
    _READ,
    "read",
    shown="200 MiB, 1 KiB a row at least",
)
WRITTEN_BYTES = Price("BigQuery, Storage Write API", 0.025, GIB, "byte", _BIGQUERY, _READ, "read", 2 * TIB, "1 GiB")
QUERIED_BYTES = Price(
    "BigQuery, queries on demand", 6.25, TIB, "byte", _BIGQUERY, _READ, "read", TIB, "1 TiB, 10 MiB a table at least"
)
ACTIVE_STORAGE = Price(
    "BigQuery, active logical storage",
    0.000031507,
    1 / HOURS_OF_MONTH,
    "GiB-month",
    _BIGQUERY,
    *_second_hand("2026-09-13"),
    10,
    "1 GiB-hour",
)
LONG_TERM_STORAGE = Price(
    "BigQuery, long-term logical storage",
    0.000021918,
    1 / HOURS_OF_MONTH,
    "GiB-month",
    _BIGQUERY,
    *_second_hand("2026-09-13"),
    shown="1 GiB-hour",
)

CLASS_A = Price("Cloud Storage, class A", 0.005, 1e3, "operation", _STORAGE, _READ, "read", 5_000, "1 000 operations")
CLASS_B = Price(
    "Cloud Storage, class B",
    0.0004,
    1e3,
    "operation",
    _STORAGE,
    *_second_hand("2026-10-05"),
    50_000,
    "1 000 operations",
)
STANDARD = Price("Cloud Storage, STANDARD", 0.020, 1, "GiB-month", _STORAGE, *_second_hand("2026-08-29"), 5)
NEARLINE = Price("Cloud Storage, NEARLINE", 0.010, 1, "GiB-month", _STORAGE, *_second_hand("2026-08-29"))
COLDLINE = Price("Cloud Storage, COLDLINE", 0.004, 1, "GiB-month", _STORAGE, *_second_hand("2026-08-29"))
NEARLINE_CLASS_A = Price(
    "Cloud Storage, class A of NEARLINE",
    0.01,
    1e3,
    "operation",
    _STORAGE,
    *_second_hand("2026-11-28"),
    shown="1 000 operations",
)
COLDLINE_CLASS_A = Price(
    "Cloud Storage, class A of COLDLINE",
    0.02,
    1e3,
    "operation",
    _STORAGE,
    *_second_hand("2026-11-28"),
    shown="1 000 operations",
)

NEARLINE_CLASS_B = Price(
    "Cloud Storage, class B of NEARLINE",
    0.001,
    1e3,
    "operation",
    _STORAGE,
    *_second_hand("2026-11-29"),
    shown="1 000 operations",
)
COLDLINE_CLASS_B = Price(
    "Cloud Storage, class B of COLDLINE",
    0.01,
    1e3,
    "operation",
    _STORAGE,
    *_second_hand("2026-11-29"),
    shown="1 000 operations",
)
NEARLINE_RETRIEVAL = Price(
    "Cloud Storage, retrieval of NEARLINE", 0.01, 1, "GiB", _STORAGE, *_second_hand("2026-11-29")
)
COLDLINE_RETRIEVAL = Price(
    "Cloud Storage, retrieval of COLDLINE", 0.02, 1, "GiB", _STORAGE, *_second_hand("2026-11-29")
)

LOGGED_BYTES = Price(
    "Cloud Logging", 0.50, GIB, "byte", _OBSERVABILITY, *_second_hand("2026-08-29"), 50 * GIB, "1 GiB, 30 days included"
)
METRIC_BYTES = Price(
    "Cloud Monitoring, log-based metrics",
    0.2580,
    2**20,
    "byte",
    _OBSERVABILITY,
    *_second_hand("2026-08-29"),
    150 * 2**20,
    "1 MiB, 80 bytes a point of a distribution",
)
SCHEDULER_JOBS = Price(
    "Cloud Scheduler",
    0.10,
    1,
    "job-month",
    "https://cloud.google.com/scheduler/pricing",
    *_second_hand("2026-11-28"),
    3,
)

DATAFLOW_VCPU_HOURS = Price("Dataflow, streaming CPU", 0.069, 1, "vCPU-hour", _DATAFLOW, *_second_hand("2026-09-08"))
DATAFLOW_GIB_HOURS = Price("Dataflow, memory", 0.003557, 1, "GiB-hour", _DATAFLOW, *_second_hand("2026-09-08"))
DATAFLOW_DISK_HOURS = Price("Dataflow, standard disk", 0.000054, 1, "GiB-hour", _DATAFLOW, *_second_hand("2026-09-08"))
DATAFLOW_UNIT_HOURS = Price(
    "Dataflow, Streaming Engine Compute Units", 0.089, 1, "unit-hour", _DATAFLOW, *_second_hand("2026-09-08")
)
IMAGES = Price(
    "Artifact Registry, storage",
    0.10,
    1,
    "GiB-month",
    "https://cloud.google.com/artifact-registry/pricing",
    *_second_hand("2026-11-28"),
    0.5,
)

ALL = tuple(value for value in list(globals().values()) if isinstance(value, Price))

PUBSUB_MIN_BYTES = 1_000
"""Minimum bytes that are billed for a request of a publisher, and for a push."""
MIN_ROW_BYTES = 1_024
"""Minimum bytes that insertAll bills for a row."""
MIN_TABLE_BYTES = 10 * 2**20
"""Minimum bytes that are billed for each table that a query reads."""
METRIC_POINT_BYTES = 80
"""Bytes that Cloud Monitoring bills for a point of a distribution."""

ALERT_METRIC_USD, ALERT_MILLION_POINTS_USD = 0.35, 0.50
"""USD that alerting is said to cost from September 2027 on: for each metric that a condition names, a month, and for
a million points that its query returns. Second hand; no bill has it."""
