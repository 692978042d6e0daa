"""The bill of Sluice: the cost of ingestion, and of storage, logs and scheduled jobs."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, get_args

from functions.drain.limits import CHUNK_BYTES, CHUNK_MESSAGES
from sluice.cost import dataflow, prices
from sluice.cost import deployment as deployed
from sluice.cost.bill import Bill, BillLine, stored
from sluice.cost.compaction import Compaction
from sluice.cost.dataflow import Beam, Job
from sluice.cost.deployment import DEFAULT, Deployment, Writer
from sluice.cost.fleet import INSTANCE_GIB, INSTANCE_VCPU, MAX_RATE, Fleet, turn
from sluice.cost.flow import Instance
from sluice.cost.measured import Measured
from sluice.cost.workload import DAYS_OF_MONTH, Workload

type Way = Literal["push", "push, billed by instance", "batch", "pull", "Dataflow"]
"""The way in which events are received from Pub/Sub. `pull` does not exist in Sluice: an instance that always runs."""

WAYS: tuple[Way, ...] = get_args(Way.__value__)

WRITERS: Mapping[Way, Writer] = {
    "push": "insert_all",
    "push, billed by instance": "insert_all",
    "pull": "storage_write",
    "Dataflow": "insert_all",
}
"""Default API that writes rows, by engine; batch mode has load jobs."""

PUBLISH = "Pub/Sub: publish"
DELIVER = "Pub/Sub: deliver"
TOPIC = "Pub/Sub: the topic keeps messages"
REQUESTS = "ingest: requests"
CPU = "ingest: CPU"
MEMORY = "ingest: memory"
INSERTS = "BigQuery: inserts"
LOADS = "drain: load files, ledger"
DRAIN = "drain: CPU and memory"
OBJECTS = "archive: objects written"
ARCHIVE = "archive: storage"
TRANSITIONS = "archive: moves to colder classes"
LIVE = "BigQuery: storage of live rows"
HISTORY = "BigQuery: storage of history"
SNAPSHOTS = "BigQuery: snapshots"
FLUSH_LINES = "logs: lines of flushes"
REQUEST_LINES = "logs: lines of requests"
METRICS = "metrics from logs"
RECONCILE_QUERIES = "reconcile: queries"
RECONCILE_OBJECTS = "reconcile: objects listed and read"
RECONCILE_CPU = "reconcile: CPU and memory"
KEEP_HISTORY = "keep_history: queries"
SCHEDULE = "bootstrap and schedule"

_MINUTES_OF_HOUR = 60


class Hour(NamedTuple):
    """An hour of a day, with a rate.

    Attributes:
        hours: Hours of a month that have the rate.
        rate: Events per second.
        objects: Objects of the archive for an event; each is a flush with a log line.
        lines: Cost of ingestion.
    """

    hours: float
    rate: float
    objects: float
    lines: list[BillLine]

    @property
    def events(self) -> float:
        """Events in a month."""
        return self.hours * 3600 * self.rate


@dataclasses.dataclass(frozen=True, slots=True)
class Sluice:
    """Sluice under a workload.

    Attributes:
        measured: The measured cost of an event.
        workload: The events that come in.
        deployment: Settings of the deployment.
        beam: The measured cost of an event on a worker of Dataflow.
    """

    measured: Measured
    workload: Workload
    deployment: Deployment = DEFAULT
    beam: Beam = dataclasses.field(default_factory=functools.cache(dataflow.read))

    @property
    def instance(self) -> Instance:
        """The speed of an instance."""
        return Instance.of(self.measured, self.workload.message_bytes, self.deployment.flush_interval)

    @property
    def row_bytes(self) -> float:
        """Logical bytes of a row."""
        return max(self.measured.sizes.lineage, self.measured.sizes.row + self._larger)

    @property
    def billed_row_bytes(self) -> float:
        """Bytes that insertAll bills for a row."""
        return max(self.measured.billed_row_bytes, self.measured.sizes.json + self._larger)

    @property
    def _larger(self) -> float:
        return self.workload.message_bytes - self.measured.message_bytes

    @property
    def _object_bytes(self) -> float:
        """Compressed bytes of an event in an object: they grow with the message."""
        return self.measured.archived_bytes * self.workload.message_bytes / self.measured.message_bytes

    def bill(self, way: Way = "push") -> Bill:
        """Return the monthly bill."""
        hours = self._hours(way)
        lines = [*self._pubsub(way), *_summed(hours), *self._kept(hours), *self._watched(way, hours)]
        return Bill([*lines, *self._reconciled(hours), *self._history()], self.workload.events_per_month)

    def compaction(self, way: Way = "push") -> Compaction:
        """Return the compaction of a month of the archive."""
        return self._compaction(self._hours(way))

    def job(self, rate: float) -> Job:
        """Return the Dataflow job for a rate."""
        return Job(self.beam, self.instance, self.instance.event_cpu - self.measured.event_cpu, rate)

    def cheaper_from(self, way: Way, other: Way) -> float | None:
        """Return the steady rate in events per second from which one alternative costs less than another.

        Returns:
            The rate within 1 %; None if it never costs less.
        """

        def is_so(rate: float) -> bool:
            steady = dataclasses.replace(self, workload=Workload.at_rate(rate, self.workload.message_bytes))
            return steady.bill(way).usd < steady.bill(other).usd

        return turn(is_so, 1.0, MAX_RATE)

    def _pubsub(self, way: Way) -> Iterator[BillLine]:
        events, size = self.workload.events_per_month, self.workload.message_bytes + deployed.MESSAGE_OVERHEAD_BYTES
        delivered = max(size, prices.PUBSUB_MIN_BYTES) if way.startswith("push") else size
        yield BillLine(PUBLISH, prices.PUBSUB_BYTES, events * max(size, prices.PUBSUB_MIN_BYTES))
        yield BillLine(DELIVER, prices.PUBSUB_BYTES, events * delivered)
        yield stored(TOPIC, prices.PUBSUB_KEPT, events * size, 0, self.deployment.topic_days)

    def _hours(self, way: Way) -> list[Hour]:
        return [self._hour(way, rate, hours * DAYS_OF_MONTH) for rate, hours in self.workload.hours.items()]

    def _hour(self, way: Way, rate: float, hours: float) -> Hour:
        seconds, events = hours * 3600, hours * 3600 * rate
        if way == "batch":
            return self._drained(rate, hours)
        written = self._written(way, events)
        if way == "Dataflow":
            job = self.job(rate)
            return Hour(hours, rate, job.batches, [*job.lines(hours), written])
        fleet = Fleet(self.instance, rate)
        if way == "push":
            cpu, memory, instances = prices.VCPU_SECONDS, prices.GIB_SECONDS, fleet.busy_instances
        else:
            cpu, memory = prices.INSTANCE_VCPU_SECONDS, prices.INSTANCE_GIB_SECONDS
            instances = fleet.working_instances if way == "pull" else fleet.instances
        lines = [
            BillLine(REQUESTS, prices.REQUESTS, events if way == "push" else 0.0),
            BillLine(CPU, cpu, instances * INSTANCE_VCPU * seconds),
            BillLine(MEMORY, memory, instances * INSTANCE_GIB * seconds),
            written,
        ]
        return Hour(hours, rate, fleet.each.flushes, lines)

    def _drained(self, rate: float, hours: float) -> Hour:
        """Return an hour of batch mode, whose load jobs are free."""
        runs, messages = hours * 60 / self.deployment.batch_minutes, rate * 60 * self.deployment.batch_minutes
        of_chunk = min(CHUNK_MESSAGES, CHUNK_BYTES / self.workload.message_bytes)
        chunks = max(1 - math.exp(-messages), messages / of_chunk)
        files, measured = chunks * deployed.TABLES_OF_A_RUN, self.measured
        cpu = measured.drain_cpu + measured.byte_cpu * max(0.0, self.workload.message_bytes - measured.message_bytes)
        seconds = deployed.DRAIN_SECONDS + messages * cpu / deployed.DRAIN_VCPU + (chunks + files) * measured.upload
        file_bytes = rate * hours * 3600 * self._object_bytes * self.billed_row_bytes / self.workload.message_bytes
        lines = [
            BillLine(REQUESTS, prices.REQUESTS, runs),
            BillLine(DRAIN, prices.VCPU_SECONDS, runs * seconds * deployed.DRAIN_VCPU),
            BillLine(DRAIN, prices.GIB_SECONDS, runs * seconds * deployed.DRAIN_GIB),
            BillLine(LOADS, prices.CLASS_A, runs * (files + 2)),  # It lists the files, and replaces the ledger.
            BillLine(LOADS, prices.CLASS_B, runs * (files + deployed.LEDGER_READS)),
            stored(LOADS, prices.STANDARD, file_bytes, 0, deployed.SOFT_DELETE_DAYS),
        ]
        return Hour(hours, rate, chunks / messages, lines)

    def _written(self, way: Way, events: float) -> BillLine:
        """Return the lines for writing rows."""
        if (self.deployment.writer or WRITERS[way]) == "storage_write":
            return BillLine(INSERTS, prices.WRITTEN_BYTES, events * self.row_bytes)
        return BillLine(INSERTS, prices.INSERTED_BYTES, events * self.billed_row_bytes)

    def _kept(self, hours: list[Hour]) -> Iterator[BillLine]:
        """Yield the cost of storage: the archive, live rows, history and snapshots."""
        chosen, events = self.deployment, self.workload.events_per_month
        compaction = self._compaction(hours)
        objects, archived = compaction.written_objects, compaction.written_bytes
        yield BillLine(OBJECTS, prices.CLASS_A, objects)
        if chosen.is_compacted:
            objects, archived = compaction.objects, compaction.bytes
            yield from compaction.lines()
        classes = [
            (0, prices.STANDARD, None),
            (chosen.nearline_days, prices.NEARLINE, prices.NEARLINE_CLASS_A),
            (chosen.coldline_days, prices.COLDLINE, prices.COLDLINE_CLASS_A),
        ]
        used = [storage_class for number, storage_class in enumerate(classes) if not number or storage_class[0]]
        ends = [*(start for start, _, _ in used[1:]), chosen.archive_days]
        for (start, price, transition), end in zip(used, ends, strict=True):
            yield stored(ARCHIVE, price, archived, start, end)
            if transition:
                yield BillLine(TRANSITIONS, transition, objects, first=0.0)
        rows, expiry = events * self.row_bytes, chosen.retention_days
        yield stored(LIVE, prices.ACTIVE_STORAGE, rows, 0, expiry)
        copied = expiry - chosen.keep_history_days
        yield stored(HISTORY, prices.ACTIVE_STORAGE, rows, copied, copied + 90)
        yield stored(HISTORY, prices.LONG_TERM_STORAGE, rows, copied + 90, chosen.history_days)
        yield stored(SNAPSHOTS, prices.LONG_TERM_STORAGE, rows, expiry, expiry + chosen.snapshot_days)

    def _compaction(self, hours: list[Hour]) -> Compaction:
        events, objects = self.workload.events_per_month, sum(hour.events * hour.objects for hour in hours)
        compacted = events * self._object_bytes
        return Compaction(events, objects, objects * self.measured.object_bytes + compacted, compacted)

    def _watched(self, way: Way, hours: list[Hour]) -> Iterator[BillLine]:
        """Yield the cost of logs, and of the metrics that are derived from them."""
        lines = minutes = 0.0
        for hour in hours:
            lines += hour.events * hour.objects
            flushes_of_minute = 60 * hour.rate * hour.objects
            minutes += hour.hours * _MINUTES_OF_HOUR * (1 - math.exp(-flushes_of_minute))
        requests = self.workload.events_per_month if way.startswith("push") and self.deployment.request_logs else 0.0
        points = minutes * deployed.FLUSH_METRICS
        logged = lines * deployed.FLUSH_LINE_BYTES
        if way == "batch":
            runs = DAYS_OF_MONTH * 24 * _MINUTES_OF_HOUR / self.deployment.batch_minutes
            points += runs * deployed.DRAIN_METRICS
            logged += runs * deployed.DRAIN_LINE_BYTES
            yield BillLine(SCHEDULE, prices.SCHEDULER_JOBS, 1)
        yield BillLine(FLUSH_LINES, prices.LOGGED_BYTES, logged)
        yield BillLine(REQUEST_LINES, prices.LOGGED_BYTES, requests * deployed.REQUEST_LINE_BYTES)
        yield BillLine(METRICS, prices.METRIC_BYTES, points * prices.METRIC_POINT_BYTES)

    def _reconciled(self, hours: list[Hour]) -> Iterator[BillLine]:
        chosen, compared = self.deployment, 24 * DAYS_OF_MONTH
        runs = compared * deployed.RUNS_OF_AN_HOUR
        read = self.workload.events_per_day * chosen.reconciled_days * self.measured.sizes.reconciled
        minimum = deployed.TABLES_OF_A_RUN * prices.MIN_TABLE_BYTES
        yield BillLine(RECONCILE_QUERIES, prices.QUERIED_BYTES, compared * max(read, minimum))
        objects = sum(hour.events * hour.objects for hour in hours)
        opened = objects * chosen.reconciled_objects
        pages = max(objects / deployed.LISTED_OBJECTS, compared)
        # Each run lists the checkpoints and the load files, and one of an hour's writes the next checkpoint.
        yield BillLine(RECONCILE_OBJECTS, prices.CLASS_A, pages + 2 * runs + compared)
        yield BillLine(RECONCILE_OBJECTS, prices.CLASS_B, opened)
        sums = objects * min(deployed.LIVE_TABLES, self.workload.events_per_month / objects)
        seconds = (
            runs * deployed.RUN_SECONDS
            + objects * deployed.OBJECT_CPU_SECONDS
            + pages * deployed.LIST_SECONDS
            + sums * deployed.SUM_SECONDS
            + opened * deployed.OBJECT_READ_SECONDS / deployed.OBJECT_READERS
        )
        yield BillLine(RECONCILE_CPU, prices.VCPU_SECONDS, seconds)
        yield BillLine(RECONCILE_CPU, prices.GIB_SECONDS, seconds * deployed.RECONCILE_GIB)
        yield BillLine(SCHEDULE, prices.SCHEDULER_JOBS, deployed.SCHEDULER_JOBS + chosen.is_compacted)
        bootstrap = DAYS_OF_MONTH * deployed.BOOTSTRAP_SECONDS
        yield BillLine(SCHEDULE, prices.VCPU_SECONDS, bootstrap)
        yield BillLine(SCHEDULE, prices.GIB_SECONDS, bootstrap * INSTANCE_GIB)

    def _history(self) -> Iterator[BillLine]:
        """Yield the cost of the daily `keep_history`: live rows that expire soon, and the ids of the history."""
        chosen, a_day = self.deployment, self.workload.events_per_day
        ids = a_day * chosen.history_days_read * self.measured.sizes.merged
        read = a_day * chosen.keep_history_days * self.row_bytes + ids
        minimum = 2 * deployed.LIVE_TABLES * prices.MIN_TABLE_BYTES
        yield BillLine(
            KEEP_HISTORY, prices.QUERIED_BYTES, DAYS_OF_MONTH * max(read, minimum), first=DAYS_OF_MONTH * minimum
        )


def _summed(hours: list[Hour]) -> Iterator[BillLine]:
    """Yield the lines of all hours, combined by item and price."""
    units: dict[tuple[str, prices.Price], float] = {}
    for hour in hours:
        for line in hour.lines:
            units[line.item, line.price] = units.get((line.item, line.price), 0.0) + line.units
    for (item, price), total in units.items():
        yield BillLine(item, price, total)
