"""List prices, in one place: USD, us-central1, without free tiers and discounts, as read on `READ_ON`."""

import datetime
from typing import NamedTuple

READ_ON = datetime.date(2026, 11, 25)


class Price(NamedTuple):
    """A price of a unit.

    Attributes:
        what: The service.
        usd: For one unit.
        unit: What one unit is.
        source: The page that says so.
    """

    what: str
    usd: float
    unit: str
    source: str


PUBSUB_BYTES = Price("Pub/Sub, throughput", 40 / 2**40, "byte", "https://cloud.google.com/pubsub/pricing")
INSERTED_BYTES = Price(
    "BigQuery, streaming inserts", 0.01 / (200 * 2**20), "byte", "https://cloud.google.com/bigquery/pricing"
)
CLASS_A = Price("Cloud Storage, class A", 0.005 / 1_000, "operation", "https://cloud.google.com/storage/pricing")
REQUESTS = Price("Functions, requests", 0.40 / 10**6, "request", "https://cloud.google.com/run/pricing")
VCPU_SECONDS = Price("Functions, CPU", 0.000024, "vCPU-second", "https://cloud.google.com/run/pricing")
GIB_SECONDS = Price("Functions, memory", 0.0000025, "GiB-second", "https://cloud.google.com/run/pricing")

ALL = (PUBSUB_BYTES, INSERTED_BYTES, CLASS_A, REQUESTS, VCPU_SECONDS, GIB_SECONDS)

PUBSUB_MIN_BYTES = 1_000
"""Billed for a message at least, when it is published and again when it is delivered."""

INSTANCE_VCPU = 1.0
INSTANCE_GIB = 0.5

# Of the other ways to run it, for benchmarks/scale.py.

RUNNING_VCPU_SECONDS = Price(
    "Cloud Run billed by instance, CPU", 0.000018, "vCPU-second", "https://cloud.google.com/run/pricing"
)
RUNNING_GIB_SECONDS = Price(
    "Cloud Run billed by instance, memory", 0.000002, "GiB-second", "https://cloud.google.com/run/pricing"
)
WRITTEN_BYTES = Price("BigQuery, Storage Write API", 0.025 / 2**30, "byte", "https://cloud.google.com/bigquery/pricing")
WORKER_VCPU_HOURS = Price("Dataflow, streaming CPU", 0.069, "vCPU-hour", "https://cloud.google.com/dataflow/pricing")
WORKER_GIB_HOURS = Price("Dataflow, memory", 0.003557, "GiB-hour", "https://cloud.google.com/dataflow/pricing")
WORKER_DISK_HOURS = Price("Dataflow, standard disk", 0.000054, "GiB-hour", "https://cloud.google.com/dataflow/pricing")

OF_OTHER_WAYS = (
    RUNNING_VCPU_SECONDS,
    RUNNING_GIB_SECONDS,
    WRITTEN_BYTES,
    WORKER_VCPU_HOURS,
    WORKER_GIB_HOURS,
    WORKER_DISK_HOURS,
)
