"""Reconciliation: what came in, which is the archive, against what came out: the rows and the dead letters."""

import collections
import dataclasses
import functools
import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from google.api_core.exceptions import NotFound
from google.cloud import bigquery
from google.cloud.storage import Blob
from google.cloud.storage import Client as StorageClient

from functions import archive
from functions.archive import Envelope
from functions.contracts import Contracts
from functions.dead_letter import DeadLetter, content_digest
from functions.events import event_types
from functions.message import Message, is_smoke_test
from functions.names import UNKNOWN
from functions.privacy import Privacy
from functions.process import Process
from functions.records import Record, Records
from functions.settings import Settings

UNREADABLE = (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError)
"""What is raised for an object that is not as the archive wrote it."""

MAX_EXAMPLES = 1_000
"""Events that are named; all are counted."""

_MAX_LOGGED = 20

_HOUR = timedelta(hours=1)

_READERS = 8
"""Below the ten connections that a client keeps."""

_OBJECTS_AT_ONCE = 16

_NO_RETENTION_DAYS = 10_000
"""No event is too old to be compared."""

_IDS_OF_A_LOOKUP = 10_000
"""Of 128 characters, each escaped to six: still below the 10 MB of a request."""


def recent_hours(now: datetime) -> tuple[datetime, datetime]:
    """What a run every hour compares: two hours, of which it sees one again, and which ended at least an hour ago.

    By then an outage of minutes is over: Pub/Sub has delivered again what had to wait for its end.
    """
    end = now.replace(minute=0, second=0, microsecond=0) - _HOUR
    return end - 2 * _HOUR, end


class Archived(msgspec.Struct):
    """Of an envelope, what tells which event it is; to read no more is what makes this fast."""

    event_id: str
    message_id: str
    event_type: str | None = None


_identities = msgspec.json.Decoder(Archived).decode_lines

type Compare = Callable[[Envelope, Record], bool]
"""Whether a record, with its columns, holds what its envelope does."""


class Found(NamedTuple):
    """An event of the archive with which something is wrong."""

    event_id: str
    event_type: str
    message_id: str
    archive_uri: str


@dataclasses.dataclass(slots=True)
class Account:
    """The events of a type that arrived in an hour.

    Attributes:
        archived: Envelopes in the archive: the sum of the next three. Without those of the smoke test whose rows are
            gone.
        settled: Those of them whose event has a row or a dead letter that names this very object.
        redelivered: Those whose event has its row or dead letter by another delivery.
        missing: Those whose event is nowhere.
        rows: Rows that name an object of this hour.
        dead_letters: Dead letters that do.
        duplicates: Those of the rows that do not count, because another row of their event was processed later.
        conflicts: Those of the rows whose event id also has rows with another content: two events of a producer that
            gives both one id, of which the views show one.
        extra: Rows and dead letters whose event is not in the object that they name.
        different: Rows and dead letters that do not hold what the envelope does; counted where contents are compared.
    """

    archived: int = 0
    settled: int = 0
    redelivered: int = 0
    missing: int = 0
    rows: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    conflicts: int = 0
    extra: int = 0
    different: int = 0

    def add(self, other: "Account") -> None:
        """Add the counts of another account."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclasses.dataclass(slots=True)
class Reconciliation:
    """What was found.

    Attributes:
        accounts: By hour of arrival, in UTC, and type.
        missing: The first `MAX_EXAMPLES` of the missing events.
        different: The first `MAX_EXAMPLES` of the events with a record that differs.
        conflicting: The first `MAX_EXAMPLES` of the events whose id also has another content.
        incomplete: Addresses of all objects with missing events.
        unreadable: Objects that cannot be read, and why.
    """

    accounts: collections.defaultdict[tuple[datetime, str], Account] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(Account)
    )
    missing: list[Found] = dataclasses.field(default_factory=list)
    different: list[Found] = dataclasses.field(default_factory=list)
    conflicting: list[Found] = dataclasses.field(default_factory=list)
    incomplete: set[str] = dataclasses.field(default_factory=set)
    unreadable: list[str] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> Account:
        """The sum of all accounts."""
        total = Account()
        for account in self.accounts.values():
            total.add(account)
        return total

    def summary(self) -> dict[str, Any]:
        """What a log line says: the counts, and the first of what is wrong."""
        return {
            **dataclasses.asdict(self.total),
            "incomplete_objects": len(self.incomplete),
            "unreadable_objects": len(self.unreadable),
            "missing_events": [one.event_id for one in self.missing[:_MAX_LOGGED]],
            "conflicting_events": [one.event_id for one in self.conflicting[:_MAX_LOGGED]],
            "errors": self.unreadable[:_MAX_LOGGED],
        }

    @property
    def is_complete(self) -> bool:
        """Whether all that came in is there, and as it came in."""
        return not (self.incomplete or self.different or self.unreadable)


class _Object(NamedTuple):
    """An object of the archive: its address and its envelopes, or why it cannot be read."""

    uri: str
    envelopes: Sequence[Archived | Envelope] = ()
    problem: str | None = None


class _Unsettled(NamedTuple):
    """An envelope whose event no record of its own object tells of."""

    archived: Archived | Envelope
    archive_uri: str
    account: Account


class Reconciler:
    """Compares the archive with the tables.

    Both are read in the order of the archive's objects, a few objects at a time: memory does not grow with the time
    that is compared. What no record of its own object tells of is looked up by its id in all tables: a row dated more
    than a day from its arrival, and the row that another delivery of the event brought.

    Args:
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Datasets and archive.
        compare: Compares the contents, too.
    """

    def __init__(
        self, client: bigquery.Client, storage: StorageClient, settings: Settings, compare: Compare | None = None
    ) -> None:
        self._bucket = storage.bucket(settings.archive_bucket)
        self._records = Records(client, settings, with_columns=compare is not None)
        self._compare = compare
        self._read_lines = _identities if compare is None else archive.read
        self._types = frozenset(event_types())
        # A content is compared with what the row shows of it, which no address policy changes.
        self._process = Process(Contracts.load(), Privacy(), _NO_RETENTION_DAYS, settings.code_version)
        self._found = Reconciliation()

    def __call__(
        self, start: datetime, end: datetime, advance: Callable[[datetime], object] = lambda _: None
    ) -> Reconciliation:
        """Compare all that arrived in a time.

        Args:
            start: Its begin, with a time zone.
            end: Its end, exclusive. What is on its way into its table just then counts as missing.
            advance: Called with the time up to which all is compared.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage refused or did not answer.
        """
        self._found = Reconciliation()
        hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while hour < end:
            self._hour(hour, max(hour, start), min(hour + _HOUR, end))
            hour += _HOUR
            advance(min(hour, end))
        return self._found

    def _hour(self, hour: datetime, start: datetime, end: datetime) -> None:
        first, last = archive.earliest(start), archive.earliest(end)
        # The records first: what arrives meanwhile is an object without any, and is found by its ids.
        records = self._records.of_objects(hour, self._uri(first), self._uri(last))
        unsettled: list[_Unsettled] = []
        for one, named in _merge(self._objects(hour, first, last), records):
            unsettled += self._settle(hour, one, named)
            if len(unsettled) >= _IDS_OF_A_LOOKUP:
                self._look_up(unsettled)
                unsettled = []
        self._look_up(unsettled)

    def _uri(self, name: str) -> str:
        return f"gs://{self._bucket.name}/{name}"

    def _objects(self, hour: datetime, first: str, last: str) -> Iterator[_Object]:
        """The objects in the order of their names, some of them read ahead."""
        blobs = self._bucket.list_blobs(prefix=archive.folder(hour), start_offset=first, end_offset=last)
        with ThreadPoolExecutor(_READERS) as threads:
            for some in itertools.batched(blobs, _OBJECTS_AT_ONCE, strict=False):
                yield from threads.map(self._read, some)

    def _read(self, blob: Blob) -> _Object:
        uri = self._uri(blob.name)
        try:
            return _Object(uri, self._read_lines(gzip.decompress(blob.download_as_bytes())))
        except NotFound:
            return _Object(uri)  # Deleted since it was listed.
        except UNREADABLE as error:
            return _Object(uri, problem=f"{uri}: {error}")

    def _account(self, hour: datetime, event_type: str | None) -> Account:
        return self._found.accounts[hour, event_type if event_type in self._types else UNKNOWN]

    def _settle(self, hour: datetime, one: _Object, named: Sequence[Record]) -> Iterator[_Unsettled]:
        """Count an object's envelopes and the records that name it; gives the envelopes that these do not settle."""
        for record in named:
            account = self._account(hour, record.event_type)
            account.rows += not record.is_dead_letter
            account.dead_letters += record.is_dead_letter
            account.duplicates += record.is_duplicate
            account.conflicts += record.is_conflicting
        if one.problem:
            self._found.unreadable.append(one.problem)
            return
        records: dict[tuple[str, str], list[Record]] = {}
        for record in named:
            records.setdefault((record.event_id, record.message_id), []).append(record)
        seen: set[tuple[str, str]] = set()
        for envelope in one.envelopes:
            account = self._account(hour, envelope.event_type)
            account.archived += 1
            delivery = envelope.event_id, envelope.message_id
            own = records.get(delivery, ())
            self._check(envelope, one.uri, account, own)
            if any(record.is_conflicting for record in own):
                _name(self._found.conflicting, envelope, one.uri)
            if delivery in seen:
                account.redelivered += 1
            elif own:
                account.settled += 1
            else:
                yield _Unsettled(envelope, one.uri, account)
            seen.add(delivery)
        event_ids = {event_id for event_id, _ in seen}
        for record in named:
            self._account(hour, record.event_type).extra += record.event_id not in event_ids

    def _look_up(self, unsettled: Sequence[_Unsettled]) -> None:
        """Find the records of these events wherever they are; what has none is missing."""
        records: dict[str, list[Record]] = {}
        for ids in itertools.batched(
            sorted({one.archived.event_id for one in unsettled}), _IDS_OF_A_LOOKUP, strict=False
        ):
            for record in self._records.of_events(ids):
                records.setdefault(record.event_id, []).append(record)
        read = functools.lru_cache(_OBJECTS_AT_ONCE)(self._messages)
        for archived, uri, account in unsettled:
            found = records.get(archived.event_id, [])
            # Its own message, or else one with the same content: several events may have one id.
            same = [record for record in found if record.message_id == archived.message_id]
            if found and not same:
                message = read(uri).get((archived.event_id, archived.message_id))
                same = self._with_content(message, found) if message else found
            if not (found := same):
                if is_smoke_test(archived.event_id):
                    account.archived -= 1
                    continue
                account.missing += 1
                self._found.incomplete.add(uri)
                _name(self._found.missing, archived, uri)
                continue
            own = [record for record in found if record.archive_uri == uri]
            if conflicts := sum(record.is_conflicting for record in own):
                account.conflicts += conflicts
                _name(self._found.conflicting, archived, uri)
            account.settled += bool(own)
            account.rows += sum(not record.is_dead_letter for record in own)
            account.dead_letters += sum(record.is_dead_letter for record in own)
            account.redelivered += not own
            self._check(archived, uri, account, own or found)

    def _messages(self, uri: str) -> dict[tuple[str, str], Message]:
        """Return the messages of an object by event id and message id; none of one that is gone."""
        try:
            ndjson = gzip.decompress(Blob.from_uri(uri, client=self._bucket.client).download_as_bytes())
        except NotFound:
            return {}
        return {(envelope.event_id, envelope.message_id): envelope.message() for envelope in archive.read(ndjson)}

    def _with_content(self, message: Message, records: Sequence[Record]) -> list[Record]:
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

    def _check(self, archived: Archived | Envelope, uri: str, account: Account, records: Sequence[Record]) -> None:
        if self._compare is None or not isinstance(archived, Envelope):
            return
        if different := sum(not self._compare(archived, record) for record in records):
            account.different += different
            _name(self._found.different, archived, uri)


def _name(examples: list[Found], archived: Archived | Envelope, uri: str) -> None:
    if len(examples) < MAX_EXAMPLES:
        examples.append(Found(archived.event_id, archived.event_type or UNKNOWN, archived.message_id, uri))


def _merge(objects: Iterator[_Object], records: Iterator[Record]) -> Iterator[tuple[_Object, list[Record]]]:
    """Each object with the records that name it; records that name none that there is come with an empty one."""
    grouped = itertools.groupby(records, key=lambda record: record.archive_uri)
    uri, named = next(grouped, (None, iter(())))
    for one in objects:
        while uri is not None and uri < one.uri:
            yield _Object(uri), list(named)
            uri, named = next(grouped, (None, iter(())))
        if uri == one.uri:
            yield one, list(named)
            uri, named = next(grouped, (None, iter(())))
        else:
            yield one, []
    while uri is not None:
        yield _Object(uri), list(named)
        uri, named = next(grouped, (None, iter(())))
