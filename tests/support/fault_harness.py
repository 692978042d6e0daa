"""The functions as they are deployed, with a proxy in each of their connections, and the books that must balance."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import cast

import httpx
from google.cloud import bigquery

from functions.archive import layout
from functions.archive.pending import load_files
from functions.archive.reader import ArchiveReader
from functions.clients import bigquery_client, storage_client
from functions.core import dead_letters
from functions.events import event_types
from functions.reconcile.findings import Reconciliation
from functions.reconcile.reconciler import Reconciler
from functions.schema.bootstrap import Bootstrap, SchemaChange
from functions.settings import Settings
from sluice.local.functions import Function, serving, unpacked
from sluice.local.names import PROJECT, topic_name
from sluice.local.process import Child, running
from sluice.local.push_relay import Relay
from sluice.local.stack import ACK_DEADLINE_SECONDS, CONCURRENCY, Emulators, create_resources
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated, Scenario
from sluice.shop.timeline import history_until
from tests.history.lines import digest
from tests.history.records import Archived, End, Pending, Record, Recorder, Shown, StoredRow
from tests.history.records import Published as PublishedMessage
from tests.support.background import Run
from tests.support.fault_proxy import BIGQUERY, PUSH, STORAGE, Proxy
from tests.support.waiting import PATIENCE, wait_until

EVENTS_PER_DAY = 30_000


def scenario(
    events: int, seed: int, *, bad: float = 0.05, duplicate: float = 0.0, shift: timedelta = timedelta()
) -> Iterator[Generated]:
    """Messages of the shop up to now, or as far from now as `shift` says."""
    return history_until(Scenario(seed, bad, duplicate, max(EVENTS_PER_DAY, events)), events, datetime.now(UTC) + shift)


class Published:
    """The published messages of a history.

    Args:
        recorder: Records them.
        may_be_rejected: Whether a fault may make good events dead letters.

    Attributes:
        messages: Their number, duplicates included.
        event_ids: Their events.
    """

    def __init__(self, recorder: Recorder, *, may_be_rejected: bool = False) -> None:
        self.messages = 0
        self.event_ids: set[str] = set()
        self._recorder = recorder
        self._may_be_rejected = may_be_rejected

    def add(self, message: Generated) -> None:
        """Record a message that is about to be published."""
        event_id = message.attributes["event_id"]
        tables = [dead_letters.TABLE]
        if message.kind != "bad":
            table = event_types()[json.loads(message.data)["event_type"]].table
            tables = [table, dead_letters.TABLE] if self._may_be_rejected else [table]
        self.messages += 1
        self.event_ids.add(event_id)
        self._recorder.add(PublishedMessage(event_id, digest(message.data), tables))


class Books:
    """Reads what a deployment has stored, past the proxy."""

    def __init__(self, settings: Settings) -> None:
        self.client: bigquery.Client = bigquery_client(settings)
        self._opened = datetime.now(UTC)
        self._settings = settings
        self._storage = storage_client(settings)
        self._dataset = settings.dataset
        self._reader = ArchiveReader(self._storage, settings.archive_bucket)
        self._archived: dict[str, list[tuple[str, str]]] = {}
        self._tables = sorted({event_type.table for event_type in event_types().values()})

    def query(self, sql: str) -> list[bigquery.Row]:
        """Rows of a query; `{dataset}` is the deployment's."""
        return list(self.client.query_and_wait(sql.format(dataset=self._dataset)))

    def missing(self, event_ids: Set[str]) -> set[str]:
        """Return the events that have neither a row nor a dead letter."""
        selects = [f"SELECT DISTINCT ingest.event_id AS id FROM `{{dataset}}.{table}`" for table in self._tables]
        selects.append(f"SELECT DISTINCT event_id AS id FROM `{{dataset}}.{dead_letters.TABLE}`")
        return set(event_ids) - {row.id for row in self.query(" UNION ALL ".join(selects))}

    def contents(self, event_ids: Set[str]) -> Iterator[Record]:
        """Yield what is stored of events, and the end of their history."""
        for archived in self._reader.objects():
            for original in archived.originals():
                if original.uri not in self._archived:
                    envelopes = original.envelopes()
                    lines = [(envelope.event_id, digest(envelope.message().data)) for envelope in envelopes]
                    self._archived[original.uri] = lines
        for uri, lines in self._archived.items():
            if any(event_id in event_ids for event_id, _ in lines):
                yield Archived(uri, lines)
        yield from (record for record in self._rows() if record.event_id in event_ids)
        bucket = self._storage.bucket(self._settings.archive_bucket)
        yield from (Pending(layout.address(bucket.name, file.name)) for file in load_files(bucket))
        yield End()

    def reconciled(self, clock: timedelta = timedelta()) -> Reconciliation:
        """Return the result of `sluice reconcile` for the events that arrived meanwhile, by a clock so far ahead."""
        reconcile = Reconciler(self.client, self._storage, self._settings)
        return reconcile(self._opened + clock, datetime.now(UTC) + clock)

    def _rows(self) -> Iterator[StoredRow | Shown]:
        """Yield the rows of the tables, of the deduplicated views and of the dead letters."""
        columns = dict.fromkeys(self._tables, "ingest.event_id, ingest.archive_uri, ingest.content_digest")
        columns[dead_letters.TABLE] = "event_id, archive_uri, content_digest"
        for table, names in columns.items():
            sql = f"SELECT {names}, COUNT(*) AS n FROM `{{dataset}}.{table}` GROUP BY 1, 2, 3"
            for row in self.query(sql):
                yield StoredRow(row.event_id, table, row.archive_uri, row.content_digest, row.n)
        for table in self._tables:
            sql = f"SELECT ingest.event_id AS id, COUNT(*) AS n FROM `{{dataset}}.{table}_deduplicated` GROUP BY id"
            for row in self.query(sql):
                yield Shown(row.id, table, row.n)


@dataclasses.dataclass(slots=True)
class Deployment:
    """The functions between a topic and a dataset, with the proxy in every connection.

    Attributes:
        proxy: Between them all.
        relay: Delivers the messages.
        settings: Of the functions.
        books: What is stored.
        emulators: What the proxy forwards to.
        concurrency: Deliveries in flight at most.
    """

    proxy: Proxy
    relay: Relay
    settings: Settings
    books: Books
    emulators: Emulators
    concurrency: int
    _environment: Mapping[str, str]
    _folder: pathlib.Path
    _topic: str
    _names: Iterator[int]
    _instances: dict[str, Function]
    _children: dict[str, Child]
    _stack: contextlib.ExitStack

    @property
    def instances(self) -> list[Function]:
        """All that run."""
        return list(self._instances.values())

    @contextlib.contextmanager
    def instance(self, *, clock: timedelta = timedelta(), **settings: str) -> Iterator[Function]:
        """Another instance of `ingest`, that gets its share of the requests while the context lasts.

        Args:
            clock: How far its clock is ahead.
            settings: Where they differ from the deployment's.
        """
        name = f"ingest-{next(self._names)}"
        code = _with_clock(clock, self._folder / name) if clock else None
        with serving("ingest", self._folder, {**self._environment, **settings}, name, code=code) as function:
            self._instances[name] = function
            self.proxy.note(f"instance {name} has started")
            self.route(*self.instances)
            try:
                yield function
            finally:
                self._instances.pop(name, None)
                self.route(*self.instances)

    def route(self, *functions: Function) -> None:
        """Send requests to these instances only, in turns."""
        self.proxy.upstreams = {**self.proxy.upstreams, PUSH: [function.url for function in functions]}

    @contextlib.contextmanager
    def instead(self, *, clock: timedelta = timedelta(), **settings: str) -> Iterator[Function]:
        """An instance that gets all requests while the context lasts."""
        others = self.instances
        with self.instance(clock=clock, **settings) as function:
            self.route(function)
            yield function
        self.route(*others)

    def publish(self, messages: Iterable[Generated], published: Published) -> None:
        """Publish, and note it."""

        def noted() -> Iterator[Publication]:
            for message in messages:
                published.add(message)
                yield Publication(message.data, message.attributes)

        publish(noted(), self._topic)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it holds.

        Raises:
            AssertionError: It does not in time; says what was waited for, and what the relay has done.
        """
        wait_until(condition, what, lambda: f"{self.relay.counts}, {self.proxy.counts}")

    def settled(self, acknowledged: int) -> bool:
        """Return whether so many messages have been acknowledged, and nothing is under way."""
        return self.relay.counts.acknowledged >= acknowledged and not self.relay.counts.in_flight

    def workers(self, function: Function | None = None) -> list[int]:
        """Process ids of an instance's workers, the first instance's by default."""
        master = (function or next(iter(self._instances.values()))).child.process.pid
        children = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return [int(child) for child in children]

    def kill(self, function: Function | None = None) -> int:
        """SIGKILL the workers of an instance, and say how many; its master starts others at once."""
        killed = self.workers(function)
        self.proxy.note(f"SIGKILL of {len(killed)} workers")
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        self.wait_for(
            lambda: not {*killed} & {*self.workers(function)} and bool(self.workers(function)), "the workers run again"
        )
        return len(killed)

    def terminate(self, function: Function) -> None:
        """SIGTERM an instance that gets no requests any more, and wait for its end."""
        self.proxy.note("SIGTERM of an instance")
        self._instances = {name: other for name, other in self._instances.items() if other is not function}
        self.route(*self.instances)
        os.kill(function.child.process.pid, signal.SIGTERM)
        function.child.process.wait(PATIENCE)

    def replace(self) -> None:
        """A new instance takes the place of the oldest one."""
        oldest = self.instances[0]
        self._stack.enter_context(self.instance())
        self.terminate(oldest)

    @contextlib.contextmanager
    def without(self, emulator: str) -> Iterator[None]:
        """An emulator, `bigquery` or `storage`, is killed; at the end of the context it is back, with its data."""
        child = self._children[emulator]
        self.proxy.note(f"SIGKILL of {emulator}")
        child.signal(signal.SIGKILL)
        child.process.wait(PATIENCE)
        yield
        again = running(child.name, cast("Sequence[str]", child.process.args), self._folder)
        self._children[emulator] = self._stack.enter_context(again)
        url = f"{self.emulators.bigquery}/bigquery/v2/projects/{PROJECT}/datasets"
        if emulator == "storage":
            url = f"{self.emulators.storage}/storage/v1/b?project={PROJECT}"
        self._children[emulator].wait_until(lambda: httpx.get(url).is_success)
        self.proxy.note(f"{emulator} runs again")


@contextlib.contextmanager
def deployment(
    on: Emulators,
    folder: pathlib.Path,
    run: Run,
    name: str,
    seed: int,
    settings: Mapping[str, str],
    backoff: tuple[float, float],
    concurrency: int = CONCURRENCY,
) -> Iterator[Deployment]:
    """Deploy one instance on the emulators, which this process's clients must find by themselves.

    Args:
        on: The emulators.
        folder: Logs.
        run: Of the event loop for proxy and relay.
        name: Of topic, dataset and bucket.
        seed: Of the proxy's draws.
        settings: Of the functions, where they differ from the defaults.
        backoff: Seconds between deliveries of a message, at least and at most.
        concurrency: Deliveries in flight at most.
    """
    subscription = f"projects/{PROJECT}/subscriptions/{name}-ingest"
    proxy = Proxy({BIGQUERY: [on.bigquery], STORAGE: [on.storage], PUSH: []}, seed)
    run(proxy.__aenter__())
    environment = {
        **on.environment,
        **create_resources(on, name, backoff),
        "DATASET": name,
        "HISTORICAL_DATASET": f"{name}_historical",
        "BIGQUERY_EMULATOR_HOST": proxy.url(BIGQUERY),
        "STORAGE_EMULATOR_HOST": proxy.url(STORAGE),
        **settings,
    }
    chosen = Settings.from_environment(environment)
    books = Books(chosen)
    assert {step.change for step in Bootstrap(books.client, chosen).run()} == {SchemaChange.CREATED}
    relay = Relay(
        on.pubsub, subscription, proxy.url(PUSH), concurrency=concurrency, ack_deadline=ACK_DEADLINE_SECONDS, grace=1
    )
    with contextlib.ExitStack() as stack:
        children = {child.name: child for child in on.children}
        names, topic = itertools.count(1), topic_name(name)
        made = Deployment(
            proxy, relay, chosen, books, on, concurrency, environment, folder, topic, names, {}, children, stack
        )
        stack.enter_context(made.instance())
        relaying = run(_started(relay))
        try:
            yield made
        finally:
            run(_cancelled(relaying))
            run(proxy.__aexit__())


async def _started(relay: Relay) -> "asyncio.Task[None]":
    task = asyncio.create_task(relay.run())
    await asyncio.wait_for(relay.ready.wait(), PATIENCE)
    return task


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})


def _with_clock(ahead: timedelta, folder: pathlib.Path) -> pathlib.Path:
    """Unpack the product, and set its clock wrong."""
    file = unpacked(folder) / "functions" / "system.py"
    text = file.read_text()
    for right, wrong in (
        ("from datetime import UTC, datetime\n", "from datetime import UTC, datetime, timedelta\n"),
        ("return datetime.now(UTC)\n", f"return datetime.now(UTC) + timedelta(seconds={ahead.total_seconds()})\n"),
    ):
        assert text.count(right) == 1
        text = text.replace(right, wrong)
    file.write_text(text)
    return folder
