"""Bills of the alternatives: subscriptions, a Dataflow template, the plain function."""

import dataclasses
import math
from collections.abc import Iterator

from sluice.cost import dataflow, prices, sluice
from sluice.cost import deployment as deployed
from sluice.cost.bill import Bill, BillLine, stored
from sluice.cost.deployment import DEFAULT, Deployment
from sluice.cost.fleet import CONCURRENCY, INSTANCE_GIB, INSTANCE_VCPU, TARGET
from sluice.cost.measured import Measured
from sluice.cost.workload import DAYS_OF_MONTH, Workload

BIGQUERY_SUBSCRIPTION = "BigQuery subscription: deliver"
STORAGE_SUBSCRIPTION = "Cloud Storage subscription: deliver"
TRANSFORM = "BigQuery subscription: transform"
ROWS = "BigQuery: storage of rows"

FILES_OF_DAY = 10 * 24 * 12
"""Files that a Cloud Storage subscription writes: ten at a time, each closed after five minutes, which is the default;
assumed."""

JAVA_EVENTS_OF_VCPU = 14_200
"""Messages of 500 bytes per second and vCPU that Beam in Java brings from Pub/Sub to BigQuery
(https://github.com/johanesalxd/dataflow-pubsub-perf-test)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Alternatives:
    """Alternatives that load a workload's events into BigQuery and keep them as long.

    A row has the producer's columns only. All rows are in one table, which keeps them as long as the model counts
    Sluice's history.

    Attributes:
        measured: The measured cost of an event.
        workload: The events that come in.
        deployment: The deployment, which says how long things are kept.
    """

    measured: Measured
    workload: Workload
    deployment: Deployment = DEFAULT

    def bare_subscription(self) -> Bill:
        """Return the bill of a BigQuery subscription, which writes into a table of the message's own columns."""
        return self._bill([*self._published(), *self._subscription(), *self._rows()])

    def subscriptions(self) -> Bill:
        """Return the bill of a BigQuery subscription with a JavaScript transform, and one into Cloud Storage."""
        transform = BillLine(TRANSFORM, prices.TRANSFORM, self._events * self._size)
        return self._bill([*self._published(), *self._subscription(), transform, *self._files(), *self._rows()])

    def dataflow_template(self) -> Bill:
        """Return the bill of Google's template into BigQuery, at least once, and a subscription into Cloud Storage."""
        workers = sum(
            hours * DAYS_OF_MONTH * dataflow.workers(rate, JAVA_EVENTS_OF_VCPU)
            for rate, hours in self.workload.hours.items()
        )
        lines = [
            BillLine(sluice.DELIVER, prices.PUBSUB_BYTES, self._events * self._size),
            *dataflow.worker_lines(workers),
            BillLine(sluice.INSERTS, prices.WRITTEN_BYTES, self._events * self._row_bytes),
        ]
        return self._bill([*self._published(), *lines, *self._files(), *self._rows()])

    def plain_function(self) -> Bill:
        """Return the bill of a function that makes an upload and an insert of each event, and logs each request."""
        seconds = 0.0
        for rate, hours in self.workload.hours.items():
            in_flight = rate * (self.measured.upload + self.measured.insert + self.measured.plain_cpu)
            needed = max(rate * self.measured.plain_cpu / TARGET, in_flight / TARGET / CONCURRENCY)
            instances = math.ceil(needed)
            busy = 1 - math.exp(-in_flight / instances)
            seconds += hours * 3600 * DAYS_OF_MONTH * instances * busy
        billed = max(prices.MIN_ROW_BYTES, self._row_bytes)
        stored_bytes = self.measured.plain_object_bytes + self.workload.message_bytes - self.measured.message_bytes
        lines = [
            BillLine(sluice.DELIVER, prices.PUBSUB_BYTES, self._events * max(self._size, prices.PUBSUB_MIN_BYTES)),
            BillLine(sluice.REQUESTS, prices.REQUESTS, self._events),
            BillLine(sluice.CPU, prices.VCPU_SECONDS, seconds * INSTANCE_VCPU),
            BillLine(sluice.MEMORY, prices.GIB_SECONDS, seconds * INSTANCE_GIB),
            BillLine(sluice.INSERTS, prices.INSERTED_BYTES, self._events * billed),
            BillLine(sluice.OBJECTS, prices.CLASS_A, self._events),
            stored(sluice.ARCHIVE, prices.STANDARD, self._events * stored_bytes, 0, self.deployment.archive_days),
            BillLine(sluice.REQUEST_LINES, prices.LOGGED_BYTES, self._events * deployed.REQUEST_LINE_BYTES),
        ]
        return self._bill([*self._published(), *lines, *self._rows()])

    @property
    def _events(self) -> float:
        return self.workload.events_per_month

    @property
    def _size(self) -> float:
        """Bytes of a message as Pub/Sub bills it, where many share a request."""
        return self.workload.message_bytes + deployed.MESSAGE_OVERHEAD_BYTES

    @property
    def _row_bytes(self) -> float:
        sizes = self.measured.sizes
        return max(1.0, sizes.row - sizes.lineage + self.workload.message_bytes - self.measured.message_bytes)

    def _bill(self, lines: list[BillLine]) -> Bill:
        return Bill(lines, self._events)

    def _published(self) -> Iterator[BillLine]:
        yield BillLine(sluice.PUBLISH, prices.PUBSUB_BYTES, self._events * max(self._size, prices.PUBSUB_MIN_BYTES))

    def _subscription(self) -> Iterator[BillLine]:
        yield BillLine(BIGQUERY_SUBSCRIPTION, prices.BIGQUERY_SUBSCRIPTION, self._events * self._size)

    def _files(self) -> Iterator[BillLine]:
        """Yield the cost of the archive that a Cloud Storage subscription writes: payloads as text."""
        yield BillLine(STORAGE_SUBSCRIPTION, prices.STORAGE_SUBSCRIPTION, self._events * self._size)
        yield BillLine(sluice.OBJECTS, prices.CLASS_A, FILES_OF_DAY * DAYS_OF_MONTH)
        archived = self._events * self.workload.message_bytes
        yield stored(sluice.ARCHIVE, prices.STANDARD, archived, 0, self.deployment.archive_days)

    def _rows(self) -> Iterator[BillLine]:
        rows = self._events * self._row_bytes
        yield stored(ROWS, prices.ACTIVE_STORAGE, rows, 0, 90)
        yield stored(ROWS, prices.LONG_TERM_STORAGE, rows, 90, self.deployment.history_days)
