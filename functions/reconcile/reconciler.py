"""Reconciliation: compares the archive, which has all messages, with the rows and the dead letters."""

import collections
import dataclasses
import functools
import heapq
import itertools
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import msgspec
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive import delivery
from functions.archive.envelope import Envelope
from functions.archive.reader import (
    Archived,
    ArchivedObject,
    ArchiveReader,
    CompactedObject,
    ObjectNotFound,
    UnreadableObject,
    address,
    arrival_time,
    object_at,
)
from functions.archive.summary import Summary
from functions.core.contracts import Contracts
from functions.core.dead_letters import DeadLetter, content_digest
from functions.core.message import Message, is_smoke_test
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy
from functions.events import event_types
from functions.names import UNKNOWN
from functions.reconcile.findings import MAX_EXAMPLES, EventRef, HourCounts, Reconciliation
from functions.reconcile.records import EventsOfDays, ObjectRecords, Records, StoredRecord
from functions.settings import Settings
from functions.system import SYSTEM, System

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

SPAN = 6 * _HOUR
"""Maximum time of arrival that one query sums up. Each query reads whole days, so it should be long; the answer is
sorted, so it must not be too long."""

_SPAN_WITH_CONTENTS = _HOUR
"""Maximum time of arrival of a query that returns whole rows."""

_READERS = 8
"""Number of threads; below the ten connections that a client keeps."""

_OBJECTS_AT_ONCE = 16

_NO_RETENTION_DAYS = 10_000
"""Retention in days of the comparison: no event is too old."""

_BYTES_OF_A_LOOKUP = 2 * 2**20
"""Maximum size of the ids in a look-up, in bytes. Each look-up reads whole days; a request has 10 MB at most."""

_BYTES_BESIDES_AN_ID = 16
"""Size of the JSON around an id in a request, in bytes."""


class ArchivedEvent(msgspec.Struct):
    """The fields of an envelope that say which event it is."""

    event_id: str
    message_id: str
    event_type: str | None = None


type Compare = Callable[[Envelope, StoredRecord], bool]
"""Returns whether a record, with its columns, has the content of its envelope."""

type _ReadMessages = Callable[[str], Mapping[tuple[str, str], Message]]


class _ListedObject(NamedTuple):
    """An object of the archive.

    Attributes:
        uri: Its address; of a compacted object that of its first original.
        arrived: When its events, or those of its first original, arrived.
        archived: The object; None if records name it, but it has been deleted.
    """

    uri: str
    arrived: datetime
    archived: Archived | None = None

    @property
    def last(self) -> str:
        """The last address that its records may name."""
        return self.archived.last if isinstance(self.archived, CompactedObject) else self.uri

    @property
    def summary(self) -> Summary | None:
        """Summary of its events by its metadata."""
        return self.archived.summary if self.archived else None

    @property
    def hour(self) -> datetime:
        """The hour in which its events arrived."""
        return _hour_of(self.arrived)


class _Content(NamedTuple):
    """The content of an object: its envelopes, or the reason why it cannot be read."""

    envelopes: Sequence[Envelope] = ()
    problem: str | None = None


class _Unsettled(NamedTuple):
    """An envelope whose event has no record that names its object, as far as is known.

    Attributes:
        archived: The envelope; all of it where contents are compared.
        archive_uri: Its object.
        account: Where it counts.
        event_type: Its type, or `unknown`.
        day: The day of its row by today's contracts; None where they reject it.
    """

    archived: ArchivedEvent | Envelope
    archive_uri: str
    account: HourCounts
    event_type: str
    day: date | None


@dataclasses.dataclass(slots=True)
class _Batch:
    """The events of a batch, which are looked up together.

    Attributes:
        days: The days whose records have been counted by their objects.
        unsettled: The envelopes.
        surplus: By object and type, where those records count of which the object is not known to have the event, and
            how many they are.
        bytes: Size of the ids in a request.
    """

    days: frozenset[date]
    unsettled: list[_Unsettled] = dataclasses.field(default_factory=list)
    surplus: dict[tuple[str, str], tuple[HourCounts, int]] = dataclasses.field(default_factory=dict)
    bytes: int = 0

    def add(self, unsettled: _Unsettled) -> None:
        """Add an envelope."""
        self.unsettled.append(unsettled)
        self.bytes += len(msgspec.json.encode(unsettled.archived.event_id)) + _BYTES_BESIDES_AN_ID


class Reconciler:
    """Compares the archive with the tables.

    The archive's objects and the records that name them are listed in the same order: memory does not grow with the
    time that is compared. Where the records of an object are of the very deliveries that its metadata sums up, it is
    not read; nor is a compacted object where those of all its originals are. Otherwise it is, and what no record of the
    object accounts for is looked up by its id: a row dated on another day than its arrival, and the row that another
    delivery of the event brought.

    Args:
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Datasets and archive.
        compare: Compares contents; then all objects are read. None to compare ids only.
        system: The machine.
    """

    def __init__(
        self,
        client: bigquery.Client,
        storage: StorageClient,
        settings: Settings,
        compare: Compare | None = None,
        system: System = SYSTEM,
    ) -> None:
        self._pool = system.pool
        self._storage = storage
        self._archive = ArchiveReader(storage, settings.archive_bucket)
        self._records = Records(client, settings, with_columns=compare is not None, system=system)
        self._compare = compare
        self._types = frozenset(event_types())
        # The digest of a content does not depend on the policy for addresses.
        self._process = EventPipeline(Contracts.load(), Privacy(), _NO_RETENTION_DAYS, settings.code_version)
        self._found = Reconciliation(datetime.max.replace(tzinfo=UTC))

    def __call__(
        self,
        start: datetime,
        end: datetime,
        advance: Callable[[datetime], object] = lambda _: None,
        is_over: Callable[[], bool] = lambda: False,
    ) -> Reconciliation:
        """Compare all that arrived in a time.

        Args:
            start: Its begin, with a time zone.
            end: Its end, exclusive. An event that is being inserted at the time counts as missing.
            advance: Called with the time up to which all is compared.
            is_over: Returns whether to stop before the end; called after each group of objects.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage rejected a request or did not answer.
        """
        self._found = reconciliation = Reconciliation(start.astimezone(UTC))
        span = SPAN if self._compare is None else _SPAN_WITH_CONTENTS
        is_stopped = False
        while reconciliation.until < end and not is_stopped:
            span_end = min(_hour_of(reconciliation.until) + span, end)
            reconciliation.until = self._compare_span(reconciliation.until, span_end, advance, is_over)
            is_stopped = reconciliation.until < span_end
            advance(reconciliation.until)
        return reconciliation

    def _compare_span(
        self,
        start: datetime,
        end: datetime,
        advance: Callable[[datetime], object],
        is_over: Callable[[], bool],
    ) -> datetime:
        """Compare what arrived in a time that one query sums up; return the time up to which it did."""
        days = _days(start, end)
        first, last = self._archive.bounds(start, end)
        # The records first: what arrives meanwhile is an object without any, and is found by its ids.
        records = self._records.of_objects(days, first, last)
        batch, hour, until = _Batch(days), _hour_of(start), end
        merged = itertools.batched(
            self._merge(self._objects(start, end), records, start), _OBJECTS_AT_ONCE, strict=False
        )
        with self._pool(_READERS, "readers") as threads:
            for number, batch_of_objects in enumerate(merged):
                first_object, _ = batch_of_objects[0]
                if number and is_over():
                    until = first_object.arrived
                    break
                if first_object.hour > hour:
                    hour = first_object.hour
                    advance(hour)
                to_read = [listed for listed, named in batch_of_objects if not self._agrees(listed, named)]
                contents = dict(zip((listed.uri for listed in to_read), threads.map(self._read, to_read), strict=True))
                for listed, named in batch_of_objects:
                    self._count(listed, named)
                    if listed.uri in contents:
                        self._settle(listed, named, contents[listed.uri], batch)
                if batch.bytes >= _BYTES_OF_A_LOOKUP:
                    self._look_up(batch)
                    batch = _Batch(days)
        self._look_up(batch)
        return until

    def _objects(self, start: datetime, end: datetime) -> Iterator[_ListedObject]:
        """Yield the objects of a time in the order of their addresses; a compacted one with a summary as a whole."""
        for hour in self._archive.hours(start, end):
            whole = (archived for archived in hour if not self._is_split(archived))
            split = (archived for archived in hour if self._is_split(archived))
            yield from _listed(heapq.merge(whole, *map(self._originals, split), key=address))

    def _is_split(self, archived: Archived) -> bool:
        """Return whether the originals of a compacted object are compared one by one from the start."""
        return isinstance(archived, CompactedObject) and (self._compare is not None or archived.summary is None)

    def _originals(self, compacted: Archived) -> Iterator[ArchivedObject]:
        try:
            yield from compacted.originals()
        except ObjectNotFound:
            return  # Deleted since it was listed.
        except UnreadableObject as error:
            self._found.unreadable.append(str(error))

    def _merge(
        self, objects: Iterator[_ListedObject], records: Iterable[ObjectRecords], start: datetime
    ) -> Iterator[tuple[_ListedObject, list[ObjectRecords]]]:
        """Yield each object of a time with the records that name it; objects that are gone, but have records, too."""
        grouped = itertools.groupby(records, key=operator.attrgetter("archive_uri"))
        nothing: tuple[None, Iterator[ObjectRecords]] = None, iter(())
        uri, named = next(grouped, nothing)
        arrived = start
        for listed in objects:
            while uri is not None and uri < listed.uri:
                yield _gone(uri, arrived), list(named)
                uri, named = next(grouped, nothing)
            arrived = listed.arrived
            of_object: list[ObjectRecords] = []
            while uri is not None and uri <= listed.last:
                of_object += named
                uri, named = next(grouped, nothing)
            if isinstance(listed.archived, CompactedObject) and not self._agrees(listed, of_object):
                yield from self._merge(_listed(self._originals(listed.archived)), of_object, arrived)
            else:
                yield listed, of_object
        while uri is not None:
            yield _gone(uri, arrived), list(named)
            uri, named = next(grouped, nothing)

    def _agrees(self, listed: _ListedObject, named: Sequence[ObjectRecords]) -> bool:
        """Return whether the records that name an object are of the deliveries that its metadata sums up."""
        if self._compare is not None or listed.summary is None:
            return False
        return listed.summary.digest == sum(group.digest for group in named)

    def _read(self, listed: _ListedObject) -> _Content:
        if not isinstance(listed.archived, ArchivedObject):
            return _Content()
        try:
            return _Content(listed.archived.envelopes())
        except ObjectNotFound:
            return _Content()  # Deleted since it was listed.
        except UnreadableObject as error:
            return _Content(problem=f"{listed.uri}: {error}")

    def _type(self, event_type: str | None) -> str:
        return event_type if event_type is not None and event_type in self._types else UNKNOWN

    def _account(self, listed: _ListedObject, event_type: str | None) -> HourCounts:
        return self._found.accounts[listed.hour, self._type(event_type)]

    def _count(self, listed: _ListedObject, named: Sequence[ObjectRecords]) -> None:
        """Count the records that name an object, and the object's events where the records are of exactly these."""
        for group in named:
            account = self._account(listed, group.event_type)
            if group.are_dead_letters:
                account.dead_letters += group.records
            else:
                account.rows += group.records
            account.duplicates += group.duplicates
            account.conflicts += group.conflicts
            for event_id, message_id in group.conflicting:
                _name(self._found.conflicting, ArchivedEvent(event_id, message_id, group.event_type), group.archive_uri)
        if listed.summary is not None and self._agrees(listed, named):
            for event_type, count in listed.summary.counts.items():
                account = self._account(listed, event_type)
                account.archived += count
                account.matched += count

    def _settle(self, listed: _ListedObject, named: Sequence[ObjectRecords], content: _Content, batch: _Batch) -> None:
        """Count the envelopes of an object; those that its records may not be of go into the batch."""
        if content.problem:
            self._found.unreadable.append(content.problem)
            return
        envelopes: dict[str, dict[tuple[str, str], Envelope]] = collections.defaultdict(dict)
        for envelope in content.envelopes:
            of_type, delivered = envelopes[self._type(envelope.event_type)], (envelope.event_id, envelope.message_id)
            account = self._account(listed, envelope.event_type)
            account.archived += 1
            account.redelivered += delivered in of_type
            of_type.setdefault(delivered, envelope)
        records: dict[str, list[ObjectRecords]] = collections.defaultdict(list)
        for group in named:
            records[self._type(group.event_type)].append(group)
        for event_type in envelopes.keys() | records.keys():
            self._settle_type(listed, event_type, envelopes[event_type].values(), records[event_type], batch)

    def _settle_type(
        self,
        listed: _ListedObject,
        event_type: str,
        envelopes: Collection[Envelope],
        named: Sequence[ObjectRecords],
        batch: _Batch,
    ) -> None:
        """Settle the envelopes of one type, each of another delivery, as far as the digests of the records allow."""
        account = self._account(listed, event_type)
        digest = sum(group.digest for group in named)
        settled, unsettled = list(envelopes), list[tuple[Envelope, date | None]]()
        if _digest(settled) != digest:
            dated = [(envelope, self._day(envelope)) for envelope in envelopes]
            settled = [envelope for envelope, day in dated if day is None or day in batch.days]
            unsettled = [(envelope, day) for envelope, day in dated if day is not None and day not in batch.days]
            if _digest(settled) != digest:
                settled, unsettled = [], dated
                batch.surplus[listed.uri, event_type] = account, sum(group.records for group in named)
        account.matched += len(settled)
        for envelope, day in unsettled:
            archived = ArchivedEvent(envelope.event_id, envelope.message_id, envelope.event_type)
            batch.add(_Unsettled(envelope if self._compare else archived, listed.uri, account, event_type, day))
        if self._compare is not None:
            own = collections.defaultdict(list)
            for record in itertools.chain.from_iterable(group.each for group in named):
                own[record.event_id, record.message_id].append(record)
            for envelope in settled:
                self._check(envelope, listed.uri, account, own[envelope.event_id, envelope.message_id])

    def _day(self, envelope: Envelope) -> date | None:
        """Return the day of an event's row by today's contracts; None if they reject it."""
        message = envelope.message()
        outcome = self._process(message, message.publish_time)
        return None if isinstance(outcome, DeadLetter) else date.fromisoformat(outcome.columns["event_date"])

    def _look_up(self, batch: _Batch) -> None:
        """Find the records of the batch's events wherever they are; an event that has none is missing."""
        read = functools.lru_cache(_OBJECTS_AT_ONCE)(self._messages)
        stored_records = self._find(batch, read)
        for event in batch.unsettled:
            self._conclude(event, self._records_of(event, stored_records, read), batch.days)
        of_objects = collections.Counter(
            (record.archive_uri, self._type(record.event_type))
            for record in itertools.chain.from_iterable(stored_records.values())
            if record.day in batch.days
        )
        for key, (account, count) in batch.surplus.items():
            account.extra += max(0, count - of_objects[key])

    def _find(self, batch: _Batch, read: _ReadMessages) -> dict[str, list[StoredRecord]]:
        """Return the records by event id."""
        records_by_id: dict[str, list[StoredRecord]] = collections.defaultdict(list)
        wanted: dict[str, tuple[set[str], set[date]]] = collections.defaultdict(lambda: (set(), set()))
        for event in batch.unsettled:
            if event.event_type in self._types:
                ids, days = wanted[event.event_type]
                ids.add(event.archived.event_id)
                days.update(batch.days if event.day is None else {event.day})
        events = {event_type: EventsOfDays(*event_ids_and_days) for event_type, event_ids_and_days in wanted.items()}
        event_ids = {event.archived.event_id for event in batch.unsettled}
        for record in self._records.of_events(events, event_ids, min(batch.days) - _DAY):
            records_by_id[record.event_id].append(record)
        # What today's contracts reject may have become a row by those of its time: its day is unknown.
        undated = collections.defaultdict(set)
        for event in batch.unsettled:
            is_open = (
                event.day is None and event.event_type in self._types and not is_smoke_test(event.archived.event_id)
            )
            if is_open and not self._records_of(event, records_by_id, read):
                undated[event.event_type].add(event.archived.event_id)
        events = {event_type: EventsOfDays(ids, None) for event_type, ids in undated.items()}
        for record in self._records.of_events(events):
            records_by_id[record.event_id].append(record)
        return records_by_id

    def _records_of(
        self, event: _Unsettled, records_by_id: Mapping[str, Sequence[StoredRecord]], read: _ReadMessages
    ) -> Sequence[StoredRecord]:
        """Return the records of an event: of its message, or else of one with the same content; several share an id."""
        records = records_by_id.get(event.archived.event_id, ())
        same = [record for record in records if record.message_id == event.archived.message_id]
        if same or not records:
            return same
        message = read(event.archive_uri).get((event.archived.event_id, event.archived.message_id))
        return self._with_content(message, records) if message else records

    def _conclude(self, event: _Unsettled, records: Sequence[StoredRecord], counted_days: Collection[date]) -> None:
        """Count an event by the records that were looked up."""
        account = event.account
        if not records:
            if is_smoke_test(event.archived.event_id):  # It deletes its rows itself.
                account.archived -= 1
                return
            account.missing += 1
            self._found.incomplete.add(event.archive_uri)
            _name(self._found.missing, event.archived, event.archive_uri)
            return
        own = [record for record in records if record.archive_uri == event.archive_uri]
        account.matched += bool(own)
        account.redelivered += not own
        # The record of another message of the object counts with that message.
        uncounted = [
            record
            for record in own
            if record.day not in counted_days and record.message_id == event.archived.message_id
        ]
        account.rows += sum(not record.is_dead_letter for record in uncounted)
        account.dead_letters += sum(record.is_dead_letter for record in uncounted)
        if conflicts := sum(record.is_conflicting for record in uncounted):
            account.conflicts += conflicts
            _name(self._found.conflicting, event.archived, event.archive_uri)
        self._check(event.archived, event.archive_uri, account, own or records)

    def _messages(self, uri: str) -> dict[tuple[str, str], Message]:
        """Return the messages of an object by event id and message id; none of one that is gone."""
        try:
            envelopes = object_at(uri, self._storage).envelopes()
        except ObjectNotFound:
            return {}
        return {(envelope.event_id, envelope.message_id): envelope.message() for envelope in envelopes}

    def _with_content(self, message: Message, records: Sequence[StoredRecord]) -> list[StoredRecord]:
        """Return the records that make a record of a message needless: they have the same content.

        So do rows that were published later: its own row was superseded, and may have been removed as a duplicate. Of
        records of older code, and of rows of another version of the contract, the content cannot be compared.
        """
        letters = [
            record
            for record in records
            if record.is_dead_letter and record.content_digest in {None, content_digest(message)}
        ]
        outcome = self._process(message, message.publish_time)
        if isinstance(outcome, DeadLetter):
            return letters
        return letters + [
            record
            for record in records
            if not record.is_dead_letter
            and record.event_type == outcome.event_type
            and (
                record.content_digest in {None, outcome.content_digest}
                or record.schema_version != outcome.schema_version
                or record.publish_time > message.publish_time
            )
        ]

    def _check(
        self, archived: ArchivedEvent | Envelope, uri: str, account: HourCounts, records: Sequence[StoredRecord]
    ) -> None:
        if self._compare is None or not isinstance(archived, Envelope):
            return
        if different := sum(not self._compare(archived, record) for record in records):
            account.different += different
            _name(self._found.different, archived, uri)


def _name(examples: list[EventRef], archived: ArchivedEvent | Envelope, uri: str) -> None:
    if len(examples) < MAX_EXAMPLES:
        examples.append(EventRef(archived.event_id, archived.event_type or UNKNOWN, archived.message_id, uri))


def _digest(envelopes: Iterable[Envelope]) -> int:
    return sum(delivery.digest(envelope.event_id, envelope.message_id) for envelope in envelopes)


def _hour_of(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _listed(objects: Iterable[Archived]) -> Iterator[_ListedObject]:
    for archived in objects:
        if arrived := archived.arrived:
            yield _ListedObject(address(archived), arrived, archived)


def _gone(uri: str, otherwise: datetime) -> _ListedObject:
    """Return an object that only records name; it arrived when its address says, or else at another time."""
    return _ListedObject(uri, arrival_time(uri) or otherwise)


def _days(start: datetime, end: datetime) -> frozenset[date]:
    """Return the UTC dates of a time that ends before `end`."""
    first, last = start.astimezone(UTC).date(), (end.astimezone(UTC) - datetime.resolution).date()
    return frozenset(first + timedelta(days=number) for number in range((last - first).days + 1))
