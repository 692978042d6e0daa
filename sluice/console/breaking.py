"""The page on which a person breaks the local stack, and sees that no event is lost."""

import functools
import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from sluice.console.page import NoParameters
from sluice.console.shop_traffic import ShopTraffic
from sluice.console.sources import Sources
from sluice.demo.check import END_OF_TIME, ArchiveFollower, WarehouseContents, read_warehouse
from sluice.local.deliveries import read_acknowledged, read_deliveries, wait_for_list
from sluice.local.faults import Faults, kill_workers, read_faults, workers, write_faults

_NAMED = 20
"""Maximum number of missing events that are named."""

_BEFORE = timedelta(minutes=2)
"""Time before the first fault from which records count: a message that is acknowledged after it may have arrived
before, and an insert that repeats one of the last minute is dropped."""

_INSERTED_WITHIN = timedelta(minutes=1)
"""Time in which a processed event is a record: twice the default of `flush_timeout`. Older ones are not read again."""

_READ_TOGETHER = timedelta(seconds=10)
"""Time of the records that are read once more, so that they need not be read again."""

_SHARED_SECONDS = 0.5
"""Seconds for which a balance is the answer to all tabs."""


class Balance(msgspec.Struct, frozen=True):
    """The acknowledged messages, and what became of them.

    Attributes:
        acknowledged: Messages that the function has acknowledged. It may never lose one of them.
        archived: Those that are in the archive.
        rows: Events of those that are rows.
        dead_letters: Events of those that are dead letters.
        missing: Ids of the messages that are not in the archive, and of the events that have no row and no dead letter;
            the first 20.
        lost: Number of all that are missing.
        repeated: Deliveries in the archive beyond the first of their message.
        hidden: Rows beyond the first of their event, which the views do not show.
    """

    acknowledged: int = 0
    archived: int = 0
    rows: int = 0
    dead_letters: int = 0
    missing: Sequence[str] = ()
    lost: int = 0
    repeated: int = 0
    hidden: int = 0


def balance(
    acknowledged: Set[str], archived: Mapping[str, str], deliveries: Mapping[str, int], contents: WarehouseContents
) -> Balance:
    """Compare the acknowledged messages with the archive and the tables.

    Args:
        acknowledged: Ids of the messages.
        archived: Event id of each message in the archive, by its id.
        deliveries: Number of deliveries of each message in the archive, by its id.
        contents: The tables. Archive and tables must have been read after the ids.
    """
    events = {archived[message_id] for message_id in acknowledged if message_id in archived}
    rows, dead = contents.accepted & events, contents.dead & events
    not_archived = acknowledged - archived.keys()
    nowhere = events - rows - dead
    hidden = sum(ids.get(event_id, 1) - 1 for ids in contents.rows.values() for event_id in rows)
    return Balance(
        acknowledged=len(acknowledged),
        archived=len(acknowledged) - len(not_archived),
        rows=len(rows),
        dead_letters=len(dead),
        missing=sorted((*not_archived, *nowhere))[:_NAMED],
        lost=len(not_archived) + len(nowhere),
        repeated=sum(deliveries[message_id] - 1 for message_id in acknowledged - not_archived),
        hidden=hidden,
    )


class Breaking(msgspec.Struct, frozen=True):
    """The switches, the deliveries and the balance.

    Attributes:
        faults: The switches.
        active: What is broken now, in words.
        rate: Events per second that the page publishes; 0 if none.
        published: Number of events that the page has published since the first fault.
        undelivered: Number of those that no function has acknowledged yet.
        problem: Reason why the page's own events ended, if they did by an error.
        taken: Messages that the relay has delivered since the first fault, or tries to.
        waiting: Those of them that no function has acknowledged yet.
        oldest: Time at which the oldest of those was published.
        workers: Process ids of the function; empty while it is being started.
        balance: The acknowledged messages since the first fault.
    """

    faults: Faults
    active: Sequence[str]
    rate: float
    published: int
    undelivered: int
    problem: str | None
    taken: int
    waiting: int
    oldest: datetime | None
    workers: Sequence[int]
    balance: Balance


class _Watch:
    """Follows the archive and the tables since the first fault. Each object and each old record is read once.

    Args:
        sources: The clients.
        since: Time of the first fault.
    """

    def __init__(self, sources: Sources, since: datetime) -> None:
        self._sources, self._since = sources, since
        self._archive = ArchiveFollower(sources.storage, sources.settings.archive_bucket, since - _BEFORE)
        self._events: dict[str, str] = {}
        self._deliveries: Counter[str] = Counter()
        self._old = WarehouseContents({}, {})
        self._read_until = since - _BEFORE
        self._lock = threading.Lock()
        self._read_at = -math.inf
        self._last: tuple[Balance, Set[str]] = Balance(), frozenset()

    def balance(self) -> tuple[Balance, Set[str]]:
        """Return the balance until now, and the ids of the acknowledged events."""
        with self._lock:
            if time.monotonic() - self._read_at > _SHARED_SECONDS:
                self._last = self._compare()
                self._read_at = time.monotonic()
            return self._last

    def _compare(self) -> tuple[Balance, Set[str]]:
        # In this order: what arrives meanwhile is no acknowledged message yet.
        acknowledged = set(read_acknowledged(self._sources.stack.data, self._since))
        for envelope in self._archive.new_envelopes():
            self._events[envelope.message_id] = envelope.event_id
            self._deliveries[envelope.message_id] += 1
        contents = self._contents(datetime.now(UTC))
        events = {self._events[message_id] for message_id in acknowledged & self._events.keys()}
        return balance(acknowledged, self._events, self._deliveries, contents), events

    def _contents(self, now: datetime) -> WarehouseContents:
        old_until = now - _INSERTED_WITHIN
        if old_until - self._read_until > _READ_TOGETHER:
            self._old += self._read(self._read_until, old_until)
            self._read_until = old_until
        return self._old + self._read(self._read_until)

    def _read(self, since: datetime, until: datetime = END_OF_TIME) -> WarehouseContents:
        return read_warehouse(self._sources.bigquery, self._sources.settings.dataset, since, until)


_watch = functools.lru_cache(1)(_Watch)


_shop = ShopTraffic()
"""The events that the page publishes."""


def breaking(sources: Sources, _: NoParameters) -> Breaking:
    """Return the switches, and the balance until now.

    Raises:
        google.api_core.exceptions.GoogleAPIError: An emulator rejected a request or did not answer.
    """
    local = sources.stack
    faults = read_faults(local.data)
    deliveries = read_deliveries(local.data)
    published = _shop.published
    accounts, undelivered = Balance(), len(published)
    if faults.watched_since:
        accounts, events = _watch(sources, faults.watched_since).balance()
        undelivered = len(published - events)
    stack = local.running
    waiting = deliveries.waiting if deliveries else 0
    return Breaking(
        faults=faults,
        active=faults.active,
        rate=_shop.rate,
        published=len(published),
        undelivered=undelivered,
        problem=_shop.problem,
        taken=accounts.acknowledged + waiting,
        waiting=waiting,
        oldest=deliveries.oldest if deliveries else None,
        workers=workers(stack) if stack else (),
        balance=accounts,
    )


class Switches(msgspec.Struct, frozen=True):
    """The switches as they shall be; one that is omitted is off.

    Attributes:
        bigquery_down: Whether the function cannot connect to BigQuery.
        slow_bucket: Whether it gets each answer of Cloud Storage late.
        duplicates: Whether each message is delivered twice.
    """

    bigquery_down: bool = False
    slow_bucket: bool = False
    duplicates: bool = False


def switch(sources: Sources, switches: Switches) -> Faults:
    """Set the switches."""
    faults = msgspec.structs.replace(_watched(sources), **msgspec.structs.asdict(switches))
    write_faults(sources.stack.data, faults)
    return faults


def _watched(sources: Sources) -> Faults:
    """Return the switches; from now on the relay lists what is acknowledged, if it does not yet."""
    faults = read_faults(sources.stack.data)
    return faults if faults.watched_since else count_anew(sources)


class Killed(msgspec.Struct, frozen=True):
    """Killed processes.

    Attributes:
        workers: Their ids.
    """

    workers: Sequence[int]


def kill(sources: Sources, _: NoParameters) -> Killed:
    """Kill the process of `ingest` as a crash does."""
    _watched(sources)
    stack = sources.stack.running
    return Killed(kill_workers(stack) if stack else ())


class TrafficRate(msgspec.Struct, frozen=True):
    """Rate of the events that the page publishes.

    Attributes:
        rate: Events per second; 0 for none.
    """

    rate: Annotated[float, Meta(ge=0, le=500)] = 20


def publish_shop(sources: Sources, chosen: TrafficRate) -> TrafficRate:
    """Publish events of the simulated shop from now on, or end that."""
    _watched(sources)
    _shop.run(sources.stack.topic, chosen.rate)
    return chosen


def restart_count(sources: Sources, _: NoParameters) -> Faults:
    """Count from now on; the switches stay as they are."""
    return count_anew(sources)


def count_anew(sources: Sources) -> Faults:
    """Return the switches, after the relay has begun a new list; what was published before does not count."""
    faults = msgspec.structs.replace(read_faults(sources.stack.data), watched_since=(since := datetime.now(UTC)))
    write_faults(sources.stack.data, faults)
    wait_for_list(sources.stack.data, since)
    _shop.forget()
    return faults
