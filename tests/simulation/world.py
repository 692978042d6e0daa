"""The world of a scenario: services, the events that are published, and the promises that must hold at every moment."""

import base64
import collections
import dataclasses
import functools
import gzip
import json
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import google.cloud.bigquery
import google.cloud.storage

from functions.archive import layout
from functions.archive.compacted_file import CompactedMetadata
from functions.archive.envelope import Envelope, read_envelopes
from functions.archive.pending import LoadFile
from functions.core.dead_letters import TABLE as DEAD_LETTERS
from functions.core.message import Message
from functions.events import event_types
from functions.ingest.http_client import Api
from functions.settings import Settings
from tests.history import invariants
from tests.history.invariants import Contents, Expected, Row, Violation
from tests.history.lines import archived_payloads, digest, named_objects
from tests.simulation import clients, queries
from tests.simulation.bigquery import BigQuery
from tests.simulation.cloud_storage import CloudStorage, StoredObject
from tests.simulation.history import History
from tests.simulation.machine import EPOCH, Machine
from tests.simulation.network import Answer, Network, Request
from tests.simulation.virtual_time import VirtualTime
from tests.support.samples import event

TABLES = {name: event_type.table for name, event_type in event_types().items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Published:
    """An event that was published.

    Attributes:
        message: Its message.
        table: The table that must have it in the end.
    """

    message: Message
    table: str


class Unrecorded(NamedTuple):
    """Events at a moment, by their ids.

    Attributes:
        archived: Those that are archived and have neither a row nor a dead letter.
        recorded: Those that have one.
    """

    archived: frozenset[str]
    recorded: frozenset[str]


type Plan = Mapping[str, Any]
"""The parameters of a scenario, by name: numbers of events and kills, shares of faults, limits."""


def draw(choices: Mapping[str, Sequence[Any]], seed: int) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(f"plan {seed}")
    return {name: rng.choice(options) for name, options in choices.items()}


class World:
    """Services in virtual time.

    Args:
        seed: The seed of all choices that the plan leaves open.
        plan: What the scenario has.
        is_kept: Whether to keep the history.

    Attributes:
        plan: What the scenario has.
        rng: Draws what happens.
        time: The time.
        history: What happened.
        network: Between machines and services.
        storage: Cloud Storage.
        bigquery: BigQuery.
        machines: All machines, also dead ones.
        published: What was published, by event id.
        acknowledged: Ids of the events that were acknowledged.
    """

    def __init__(self, seed: int, plan: Plan, *, is_kept: bool = False) -> None:
        self.plan = plan
        self.rng = random.Random(seed)
        self.history = History(lambda: self.time.now, is_kept=is_kept)
        self.time = VirtualTime(self.rng, self.history.violated)
        self.services = self.time.loop()
        self.network = Network(self.time, self.services, self.rng, self.history)
        self.storage = CloudStorage(self.rng, lambda: EPOCH + timedelta(seconds=self.time.now))
        self.bigquery = BigQuery(
            self.rng, lambda: self.time.now, self.services.call_later, self.storage, self._check_inserted
        )
        self.bigquery.is_bad = lambda table, row: table != DEAD_LETTERS and row["ingest"]["event_id"] in self._rejected
        self.machines: list[Machine] = []
        self.published: dict[str, Published] = {}
        self.acknowledged: set[str] = set()
        self._rejected: set[str] = set()
        self._records: dict[str, set[str]] = collections.defaultdict(set)
        self._contents: dict[tuple[str, int], Mapping[str, Collection[str]]] = {}

    def machine(self, name: str) -> Machine:
        """Return a new machine, whose clock is more or less right."""
        skew = self.rng.choice((0.0, -0.3, 2.0, -30.0)) if self.plan["skew"] else 0.0
        machine = Machine(self.time, self.rng, f"{name}-{len(self.machines)}", skew)
        self.machines.append(machine)
        self.history.add(machine.name, f"starts, its clock is {skew:g} s ahead")
        return machine

    def close(self) -> None:
        """End all machines."""
        for machine in self.machines:
            machine.close()

    def storage_api(self, machine: Machine) -> Api:
        """Return the client of Cloud Storage that `ingest` has."""
        return Api("", clients.urlopen(self.network, "storage", self.serve_storage), machine.system)

    def bigquery_api(self, machine: Machine) -> Api:
        """Return the client of BigQuery that `ingest` has."""
        return Api("", clients.urlopen(self.network, "bigquery", self.bigquery.serve), machine.system)

    def storage_client(self) -> google.cloud.storage.Client:
        """Return Google's own client of Cloud Storage."""
        return clients.storage_client(self.network, self.serve_storage)

    def bigquery_client(self) -> google.cloud.bigquery.Client:
        """Return Google's own client of BigQuery."""
        ask = functools.partial(queries.answer, self.bigquery.tables)
        return clients.bigquery_client(self.network, self.bigquery.serve, ask)

    def serve_storage(self, request: Request) -> Answer:
        """Answer a request to Cloud Storage."""
        return self.storage.serve(request)

    def new_message(self) -> Message:
        """Return the next event: a good one, one that the contract rejects, or one that BigQuery rejects."""
        number, rng = len(self.published), self.rng
        event_id = f"e{number}"
        event_type = rng.choice(list(TABLES))
        fate = rng.random() if self.plan["bad_events"] else 1.0
        table = TABLES[event_type]
        payload = json.dumps(event(event_type, **{_OWN_FIELDS[table]: _own_value(event_id)})).encode()
        if fate < 0.1:
            payload, table = json.dumps(event(event_type, **{_OWN_FIELDS[table]: number})).encode(), DEAD_LETTERS
        elif fate < 0.15:
            payload, table = b"{", DEAD_LETTERS
        elif fate < 0.25:
            self._rejected.add(event_id)
            table = DEAD_LETTERS
        now = EPOCH + timedelta(seconds=self.time.now)
        message = Message(payload, {"event_id": event_id}, f"m{number}", now)
        self.published[event_id] = Published(message, table)
        return message

    def sent_again(self, message: Message) -> Message:
        """Return the message of a producer that sends an event a second time."""
        now = EPOCH + timedelta(seconds=self.time.now)
        return Message(message.data, message.attributes, f"{message.message_id}-again", now)

    def break_services(self) -> None:
        """Begin the faults of the plan; a table may be behind the code until the bootstrap has run."""
        plan = self.plan
        self.network.fault_share = plan["fault_share"]
        self.bigquery.fault_share = plan["row_fault_share"]
        self.bigquery.max_bytes = plan["max_request_bytes"]
        if plan["is_a_table_behind"]:
            self.bigquery.missing[self.rng.choice(list(TABLES.values()))] = "ingest"

    def calm_down(self) -> None:
        """End all faults; the bootstrap has run, so no table lacks a column any more."""
        self.history.add("network", "has no faults any more")
        self.network.fault_share = self.bigquery.fault_share = 0.0
        self.network.slowness = 1.0
        self.bigquery.missing.clear()

    def publish(self, publish: Callable[[Message], object]) -> None:
        """Publish an event; some events are sent twice."""
        message = self.new_message()
        publish(message)
        if self.rng.random() < self.plan["sent_again_share"]:
            self.services.call_later(self.rng.random() * 20, lambda: publish(self.sent_again(message)))

    def check_acknowledged(self, message: Message) -> None:
        """Check that an event is durable at the moment at which it is acknowledged."""
        event_id = message.event_id
        self.acknowledged.add(event_id)
        self.history.add("pubsub", f"{event_id} is acknowledged")
        is_recorded = bool(self._records[event_id]) or self._waits_in_load_file(event_id)
        self.report(
            invariants.check_acknowledged(event_id, is_archived=self._is_archived(event_id), is_recorded=is_recorded)
        )

    def check_end(self) -> None:
        """Check that each event is where it belongs, and nowhere else, once all are acknowledged and loaded."""
        published = {
            event_id: Expected({published.table}, {digest(published.message.data)})
            for event_id, published in self.published.items()
        }
        names = self.storage.objects
        originals = {*filter(layout.is_original, names), *self._compacted()}
        objects = {_uri(name): self._content(name) for name in originals}
        rows = [
            Row(table, where["event_id"], where["archive_uri"], where["content_digest"])
            for table, stored in self.bigquery.tables.items()
            for where in (stored if table == DEAD_LETTERS else [row["ingest"] for row in stored])
        ]
        load_files = [name for name in names if LoadFile.from_name(name)]
        self.report(invariants.check_end(published, self.acknowledged, Contents(objects, rows, load_files)))

    def report(self, violations: Iterable[Violation]) -> None:
        """Keep violations of invariants."""
        for violation in violations:
            self.history.violated(violation.text)

    def records(self) -> dict[str, int]:
        """Return the number of rows and dead letters of each event."""
        return collections.Counter(
            _event_id(table, row) for table, rows in self.bigquery.tables.items() for row in rows
        )

    def lose(self, event_ids: Collection[str]) -> None:
        """Lose all rows and dead letters of some events, as no service does."""
        self.history.add("bigquery", f"loses {sorted(event_ids)}")
        for table, rows in self.bigquery.tables.items():
            rows[:] = [row for row in rows if _event_id(table, row) not in event_ids]
        for event_id in event_ids:
            self._records[event_id].clear()

    def hours(self) -> list[datetime]:
        """Return the hours of the archive's originals."""
        return sorted({hour_of(name) for name in self.storage.objects if layout.is_original(name)})

    def without_record(self) -> "Unrecorded":
        """Return the events that are archived and have no record now."""
        recorded = frozenset(event_id for event_id, tables in self._records.items() if tables)
        archived = frozenset(
            event_id
            for name in self.storage.objects
            if name.startswith(layout.PREFIX)
            for event_id in self._content(name)
        )
        return Unrecorded(archived - recorded, recorded)

    def _check_inserted(self, table: str, row: dict[str, Any]) -> None:
        event_id = _event_id(table, row)
        uri = (row if table == DEAD_LETTERS else row["ingest"])["archive_uri"]
        self._records[event_id].add(table)
        self.history.add("bigquery", f"{table} has {event_id}")
        if not self._has_content(table, row):
            self.history.violated(f"a row of {event_id} in {table} has the content of another event")
        self.report(invariants.check_row(event_id, uri, self._content(uri.removeprefix(_uri("")))))

    def _has_content(self, table: str, row: Mapping[str, Any]) -> bool:
        """Return whether a row or a dead letter has what was published."""
        event_id = _event_id(table, row)
        if table == DEAD_LETTERS:
            return base64.b64decode(row["payload"]) == self.published[event_id].message.data
        return bool(row[_OWN_FIELDS[table]] == _own_value(event_id))

    def _is_archived(self, event_id: str) -> bool:
        return any(event_id in self._content(name) for name in self.storage.objects if name.startswith(layout.PREFIX))

    def _waits_in_load_file(self, event_id: str) -> bool:
        return any(event_id in self._content(name) for name in self.storage.objects if name.startswith("load/"))

    def _content(self, name: str) -> Mapping[str, Collection[str]]:
        """Return the event ids of an object, in the archive with digests of payloads; none if it is not there."""
        stored = self.storage.objects.get(name)
        if stored is None:
            return self._compacted().get(name, {})
        if not name.endswith(".gz"):
            return {}
        key = name, stored.generation
        if key not in self._contents:
            read = archived_payloads if name.startswith(layout.PREFIX) else named_objects
            self._contents[key] = read(stored.data)
        return self._contents[key]

    def _compacted(self) -> Mapping[str, Mapping[str, Collection[str]]]:
        """Return the content of each original that a finished compacted object has, by the name of the original."""
        contents: dict[str, Mapping[str, Collection[str]]] = {}
        for name, stored in self.storage.objects.items():
            for original, envelopes in finished_originals(name, stored).items():
                contents[original] = {each.event_id: [digest(each.message().data)] for each in envelopes}
        return contents


def finished_originals(name: str, stored: StoredObject) -> Mapping[str, Sequence[Envelope]]:
    """Return the envelopes of the originals of a compacted object by their names; none if their lines do not count."""
    originals: dict[str, list[Envelope]] = {}
    if layout.compacted_range(name) and CompactedMetadata.of(stored.metadata).is_finished:
        for envelope in read_envelopes(gzip.decompress(stored.data)):
            originals.setdefault(layout.original_of(name, str(envelope.origin)), []).append(envelope)
    return originals


def hour_of(name: str) -> datetime:
    """Return the hour in which the events of an archive object arrived."""
    return layout.arrival_time(name).replace(minute=0, second=0, microsecond=0)


def _event_id(table: str, row: Mapping[str, Any]) -> str:
    event_id: str = (row if table == DEAD_LETTERS else row["ingest"])["event_id"]
    return event_id


def _uri(name: str) -> str:
    return layout.address("archive", name)


_OWN_FIELDS = {"orders": "order_id", "inventory": "inventory_id", "user_activity": "user_id"}
"""A field of each table that is required and no number. Each good event has a value of its own there."""


def _own_value(event_id: str) -> str:
    return f"value of {event_id}"


def settings(**changes: Any) -> Settings:
    """Return the settings of a deployment."""
    names: dict[str, Any] = {
        "archive_bucket": "archive",
        "google_cloud_project": "project",
        "dataset": queries.LIVE_DATASET,
        "flush_timeout": 5.0,
    }
    return Settings(**names | changes)
