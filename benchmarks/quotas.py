"""Default quotas of a Google Cloud project in a large region, us-central1, and the share of each that a load takes."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

from sluice.cost.fleet import INSTANCE_VCPU
from sluice.cost.prices import PUBSUB_MIN_BYTES

type Evidence = Literal["read", "second hand", "ours"]
"""Whether the page itself was read, or only what others say that it says."""

PUSH_EXTRA_BYTES = 350
"""Bytes of a push around the message: attributes, ids, times, the subscription's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """Load of all instances together.

    Attributes:
        rate: Events per second.
        instances: Number of running instances.
        in_flight: Events that are delivered and not acknowledged.
        uploads: Objects per second.
        message_bytes: Size of a message in bytes.
        row_bytes: Size of a row in bytes, at least 1 KiB.
    """

    rate: float
    instances: int
    in_flight: float
    uploads: float
    message_bytes: float
    row_bytes: float

    @property
    def pushed_bytes(self) -> float:
        """Per second: a push has its message in base64."""
        return self.rate * max(self.message_bytes * 4 / 3 + PUSH_EXTRA_BYTES, PUBSUB_MIN_BYTES)


class Quota(NamedTuple):
    """A limit.

    Attributes:
        what: Resource that is limited.
        most: Maximum.
        unit: Unit of the maximum.
        taken: Return the amount that a load takes.
        beyond: Effect of reaching the quota, and its remedy.
        source: Page that states the quota.
        evidence: Origin of the number: read in the source, second hand, or measured here.
    """

    what: str
    most: float
    unit: str
    taken: Callable[[Load], float]
    beyond: str
    source: str
    evidence: Evidence

    def share(self, load: Load) -> float:
        """Return the share of the quota that a load takes; 1 is the whole quota."""
        return self.taken(load) / self.most

    def reached(self, load: Load) -> float:
        """Return the events per second at which all is taken, if it grows with the rate from this load on or down."""
        return load.rate / self.share(load)


TERRAFORM_INSTANCES = 20

QUOTAS = (
    Quota(
        "this project's own instances",
        TERRAFORM_INSTANCES,
        "instances",
        lambda load: load.instances,
        "429, and Pub/Sub keeps what waits: raise `ingest.max_instances`",
        "terraform/variables-functions.tf",
        "ours",
    ),
    Quota(
        "Cloud Run instances",
        1_000 / INSTANCE_VCPU,
        "vCPU in a region",
        lambda load: load.instances,
        "no more instances; on request more",
        "https://cloud.google.com/run/docs/configuring/max-instances-limits",
        "read",
    ),
    Quota(
        "Pub/Sub's push window",
        3_000,
        "outstanding messages in a region",
        lambda load: load.in_flight,
        "no end: it grows more slowly from there, and stays while 99 % are acknowledged, on average within 1 s",
        "https://cloud.google.com/pubsub/docs/push",
        "second hand",
    ),
    Quota(
        "Pub/Sub, published",
        4e9,
        "bytes/s in a region",
        lambda load: load.rate * load.message_bytes,
        "publishers are rejected; on request more",
        "https://cloud.google.com/pubsub/quotas",
        "second hand",
    ),
    Quota(
        "Pub/Sub, pushed",
        440e6,
        "bytes/s in a region",
        lambda load: load.pushed_bytes,
        "messages wait; on request more, or pull",
        "https://cloud.google.com/pubsub/quotas",
        "second hand",
    ),
    Quota(
        "BigQuery, insertAll",
        300e6,
        "bytes/s of a project in a region (1 GB/s in the multi-regions US and EU)",
        lambda load: load.rate * load.row_bytes,
        "403 quotaExceeded, and Pub/Sub delivers again: the Storage Write API",
        "https://cloud.google.com/bigquery/quotas#streaming_inserts",
        "second hand",
    ),
    Quota(
        "BigQuery, rows with an insertId",
        100_000,
        "rows/s of a project in a region",
        lambda load: load.rate,
        "403 quotaExceeded: rows without insertId (the views deduplicate), or the Storage Write API",
        "https://cloud.google.com/bigquery/quotas#streaming_inserts",
        "second hand",
    ),
    Quota(
        "Cloud Storage, writes at first",
        1_000,
        "objects/s in a bucket",
        lambda load: load.uploads,
        "it scales within minutes, more slowly for names in order of time: larger flushes, or names with a hash first",
        "https://cloud.google.com/storage/docs/request-rate",
        "read",
    ),
)
