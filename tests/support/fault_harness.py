"""The functions as they are deployed, with a proxy in each of their connections, and the books that must balance."""

import asyncio
import collections
import contextlib
import dataclasses
import hashlib
import itertools
import os
import pathlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import httpx
from google.cloud import bigquery

from functions.clients import bigquery_client, storage_client
from functions.core import dead_letters
from functions.events import event_types
from functions.reconcile.findings import Reconciliation
from functions.reconcile.reconciler import Reconciler
from functions.schema.bootstrap import Bootstrap, SchemaChange
from functions.settings import Settings
from sluice.demo.check import ArchiveFollower
from sluice.local.functions import Function, serving, unpacked
from sluice.local.names import PROJECT, topic_name
from sluice.local.process import Child, running
from sluice.local.push_relay import Relay
from sluice.local.stack import ACK_DEADLINE_SECONDS, CONCURRENCY, Emulators, create_resources
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated, Scenario
from sluice.shop.timeline import history_until
from tests.support.background import Run
from tests.support.fault_proxy import BIGQUERY, PUSH, STORAGE, Proxy
from tests.support.waiting import PATIENCE, wait_until

EVENTS_PER_DAY = 30_000


def scenario(
    events: int, seed: int, *, bad: float = 0.05, duplicate: float = 0.0, shift: timedelta = timedelta()
) -> Iterator[Generated]:
    """Messages of the shop up to now, or as far from now as `shift` says."""
    return history_until(Scenario(seed, bad, duplicate, max(EVENTS_PER_DAY, events)), events, datetime.now(UTC) + shift)


def digest(data: bytes) -> bytes:
    """Payloads are compared by this: those of a soak do not fit into memory."""
    return hashlib.blake2b(data, digest_size=16).digest()


@dataclasses.dataclass(slots=True)
class Published:
    """The published messages, as the books know them.

    Attributes:
        messages: How many, duplicates included.
        events: Digest of the payload, and whether it is a good event, by event id.
    """

    messages: int = 0
    events: dict[str, tuple[bytes, bool]] = dataclasses.field(default_factory=dict)

    def add(self, message: Generated) -> None:
        self.messages += 1
        self.events[message.attributes["event_id"]] = digest(message.data), message.kind != "bad"


@dataclasses.dataclass(frozen=True, slots=True)
class Balance:
    """The outcomes of published events; all but `rows` and `duplicates` must be zero.

    Attributes:
        missing: In no table, and no dead letter.
        unarchived: Not in the archive.
        altered: In the archive with other bytes than were published.
        shown_twice: More than once in the deduplicated views.
        rejected: Good, and a dead letter only.
        accepted: Bad, and a row.
        duplicates: Rows and dead letters of an event beyond its first.
        rearchived: Copies in the archive beyond the first.
    """

    missing: int
    unarchived: int
    altered: int
    shown_twice: int
    rejected: int
    accepted: int
    duplicates: int
    rearchived: int

    def wrong(self) -> dict[str, int]:
        """Return the counts that are not zero and should be."""
        counted = dataclasses.asdict(self)
        return {name: n for name, n in counted.items() if n and name not in {"duplicates", "rearchived"}}


class Books:
    """Reads what a deployment has stored, past the proxy."""

    def __init__(self, settings: Settings) -> None:
        self.client: bigquery.Client = bigquery_client(settings)
        self._opened = datetime.now(UTC)
        self._settings = settings
        self._storage = storage_client(settings)
        self._dataset = settings.dataset
        self._reader = ArchiveFollower(self._storage, settings.archive_bucket)
        self._archived: dict[str, collections.Counter[bytes]] = collections.defaultdict(collections.Counter)

    def query(self, sql: str) -> list[bigquery.Row]:
        """Rows of a query; `{dataset}` is the deployment's."""
        return list(self.client.query_and_wait(sql.format(dataset=self._dataset)))

    def accounts_balance(self, published: Published) -> Balance:
        """Compare what was published with the views, the tables, the dead letters and the archive."""
        for envelope in self._reader.new_envelopes():
            self._archived[envelope.event_id][digest(envelope.message().data)] += 1
        rows, shown, dead = self._stored()
        events = published.events
        archived = {event_id: self._archived[event_id] for event_id in events}
        return Balance(
            missing=len(events.keys() - shown.keys() - dead.keys()),
            unarchived=sum(data not in archived[event_id] for event_id, (data, _) in events.items()),
            altered=sum(not archived[event_id].keys() <= {data} for event_id, (data, _) in events.items()),
            shown_twice=sum(shown[event_id] > 1 for event_id in events),
            rejected=sum(good and event_id not in shown and event_id in dead for event_id, (_, good) in events.items()),
            accepted=sum(not good and event_id in shown for event_id, (_, good) in events.items()),
            duplicates=sum(max(rows[event_id] + dead[event_id] - 1, 0) for event_id in events),
            rearchived=sum(max(sum(archived[event_id].values()) - 1, 0) for event_id in events),
        )

    def reconciled(self, clock: timedelta = timedelta()) -> Reconciliation:
        """Return the result of `sluice reconcile` for the events that arrived meanwhile, by a clock so far ahead."""
        reconcile = Reconciler(self.client, self._storage, self._settings)
        return reconcile(self._opened + clock, datetime.now(UTC) + clock)

    def _stored(self) -> tuple[collections.Counter[str], ...]:
        """Return the counts by event id: rows in the tables, rows in the deduplicated views, dead letters."""
        tables = sorted({event_type.table for event_type in event_types().values()})
        kinds = {"row": tables, "shown": [f"{table}_deduplicated" for table in tables], "dead": [dead_letters.TABLE]}
        parts = [
            f"SELECT '{kind}' AS kind, {'' if kind == 'dead' else 'ingest.'}event_id AS id, COUNT(*) AS n"
            f" FROM `{{dataset}}.{name}` GROUP BY id"
            for kind, names in kinds.items()
            for name in names
        ]
        counters = {kind: collections.Counter[str]() for kind in kinds}
        for row in self.query(" UNION ALL ".join(parts)):
            counters[row.kind][row.id] += row.n
        return tuple(counters.values())


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
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        self.wait_for(
            lambda: not {*killed} & {*self.workers(function)} and bool(self.workers(function)), "the workers run again"
        )
        return len(killed)

    def terminate(self, function: Function) -> None:
        """SIGTERM an instance that gets no requests any more, and wait for its end."""
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
        child.signal(signal.SIGKILL)
        child.process.wait(PATIENCE)
        yield
        again = running(child.name, cast("Sequence[str]", child.process.args), self._folder)
        self._children[emulator] = self._stack.enter_context(again)
        url = f"{self.emulators.bigquery}/bigquery/v2/projects/{PROJECT}/datasets"
        if emulator == "storage":
            url = f"{self.emulators.storage}/storage/v1/b?project={PROJECT}"
        self._children[emulator].wait_until(lambda: httpx.get(url).is_success)


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
