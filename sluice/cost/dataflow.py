"""Workers of Dataflow: how many a rate needs, how large their batches are, and what they cost."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator

import msgspec

from sluice.cost import prices
from sluice.cost.bill import BillLine
from sluice.cost.flow import Instance

WORKERS = "Dataflow: workers"
STREAMING_ENGINE = "Dataflow: Streaming Engine"
IMAGE = "Dataflow: the workers' image"

FILE = pathlib.Path(__file__).with_name("beam.json")

TARGET = 0.7
"""Share of a worker's CPU that is used (https://cloud.google.com/dataflow/docs/guides/kafka-bigquery-performance)."""
VCPU, GIB, DISK_GIB = 2, 8, 30
"""vCPUs, GiB of memory and GiB of disk of a worker, n2-standard-2 or e2-standard-2, with Streaming Engine."""

PUBLISHED_EVENTS_OF_VCPU = 54_878 / 12
"""Messages of 500 bytes per second and vCPU that Beam in Python brought from Pub/Sub to the Storage Write API on
Dataflow, at least once, by its own source and sink: round 3 of
https://github.com/johanesalxd/dataflow-pubsub-perf-test. It is a whole job, with what Dataflow's processes take."""

UNIT_HOURS_OF_MESSAGE = 58 / 3600 / (2**30 / 1_000)
"""Streaming Engine Compute Units, in hours, for a message: Google's benchmark in exactly-once mode takes 58 of them for
1 GiB/s in messages of about 1 000 bytes (https://cloud.google.com/dataflow/docs/guides/kafka-bigquery-performance)."""

LINGER = 1.0
"""Seconds that an event waits for others (`--linger`)."""
SHARDS = 8
"""Minimum batches that fill at once (`--shards`)."""
EVENTS_OF_SHARD = 1_000
"""Events per second from which another shard is given: the batches of a shard are written one after the other."""

IMAGE_GIB = 1.0
"""Size of the image in Artifact Registry; estimated from the 830 MB of its packages, as benchmarks.beam counts them."""


class Beam(msgspec.Struct, frozen=True, kw_only=True):
    """The measured cost of an event on a worker.

    Attributes:
        source: The source of the number.
        event_cpu: Seconds of CPU for an event, from the bytes of a Pub/Sub message to the encoded row, batches
            included; without the calls of the services, and without what Dataflow's own processes take.
    """

    source: str
    event_cpu: float

    def write(self, file: pathlib.Path = FILE) -> None:
        """Keep the input of the model."""
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def read(file: pathlib.Path = FILE) -> Beam:
    """Read what was measured."""
    return msgspec.json.decode(file.read_bytes(), type=Beam)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A streaming job under a rate.

    Attributes:
        beam: The measured cost of an event on a worker.
        instance: The speed of a flush, and its maximum events.
        larger_cpu: Seconds of CPU that an event takes besides, because it is larger than those that were measured.
        rate: Events per second.
    """

    beam: Beam
    instance: Instance
    larger_cpu: float
    rate: float

    @property
    def shards(self) -> int:
        """Batches that fill at once."""
        return max(SHARDS, math.ceil(self.rate / EVENTS_OF_SHARD))

    @property
    def batches(self) -> float:
        """Batches for each event: one is full, or complete `LINGER` after its first event."""
        return 1 / min(self.instance.batch, 1 + self.rate / self.shards * LINGER)

    @property
    def own_workers(self) -> int:
        """Number of workers that Sluice's own work needs, as if Dataflow's processes took nothing."""
        cpu = self.beam.event_cpu + self.larger_cpu + self.batches * self.instance.flush_cpu
        return workers(self.rate, 1 / cpu)

    @property
    def workers(self) -> int:
        """Number of workers that are paid for: as many as a whole job was published to need, or Sluice's own work.

        One is always there.
        """
        cpu = 1 / PUBLISHED_EVENTS_OF_VCPU + self.larger_cpu
        return max(self.own_workers, workers(self.rate, 1 / cpu))

    def lines(self, hours: float) -> Iterator[BillLine]:
        """Yield what is paid to Dataflow.

        Args:
            hours: Hours of a month that have the rate.
        """
        yield from worker_lines(self.workers * hours)
        units = UNIT_HOURS_OF_MESSAGE * self.rate * 3600 * hours
        yield BillLine(STREAMING_ENGINE, prices.DATAFLOW_UNIT_HOURS, units)
        yield BillLine(IMAGE, prices.IMAGES, IMAGE_GIB * hours / prices.HOURS_OF_MONTH)


def workers(rate: float, events_of_vcpu: float) -> int:
    """Return the workers that a rate needs.

    Args:
        rate: Events per second.
        events_of_vcpu: Events per second that one vCPU takes.
    """
    return max(1, math.ceil(rate / events_of_vcpu / TARGET / VCPU))


def worker_lines(hours: float) -> Iterator[BillLine]:
    """Yield the lines of Dataflow's workers.

    Args:
        hours: Hours of all workers.
    """
    yield BillLine(WORKERS, prices.DATAFLOW_VCPU_HOURS, hours * VCPU)
    yield BillLine(WORKERS, prices.DATAFLOW_GIB_HOURS, hours * GIB)
    yield BillLine(WORKERS, prices.DATAFLOW_DISK_HOURS, hours * DISK_GIB)
