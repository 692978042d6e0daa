"""Erase a person from the undeliverable messages, the dead letters, the archive and the tables, in this order.

The archive shows whose the dead letters are that are too long for their table; and a reconciliation would restore rows
that are still in the archive. Each step finds by itself what it has to erase, so that the next run completes an
interrupted one.
"""

import collections
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope, decode_line
from functions.archive.pending import load_files
from functions.archive.reader import (
    Archived,
    ArchivedObject,
    ArchiveReader,
    ObjectNotFound,
    UnreadableObject,
    object_at,
)
from functions.archive.rewriter import KeepsChanging, rewrite
from functions.core.message import Message
from functions.events import event_types
from functions.files.sources import Unreadable
from functions.settings import Settings
from functions.sql import Parameter, query_config, render
from functions.tables import Tables
from sluice.erase.ownership import Ownership, Person, Verdict
from sluice.replay.undeliverable import Lease, Undeliverable

_WORKERS = 8
"""Number of threads; below the ten connections that a client keeps."""

_OBJECTS_AT_ONCE = 32

_EVENTS_OF_A_STATEMENT = 5_000
"""Maximum events of a statement: with ids of 128 characters, each escaped to six, below the 10 MB of a request."""

_MAX_LISTED = 1_000

_STREAMING_BUFFER = "streaming buffer"
"""Part of BigQuery's error for a statement that affects a row of the last 90 minutes or less: "UPDATE or DELETE
statement over table ... would affect rows in the streaming buffer, which is not supported". All others can be deleted
(https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations), so those are asked for alone."""

_SETTLED = timedelta(minutes=90)

_DEAD_LETTERS = """
SELECT event_id, message_id, publish_time, archive_uri, payload, payload_bytes, TO_JSON_STRING(attributes) AS attributes
FROM (SELECT *, SAFE_CONVERT_BYTES_TO_STRING(payload) AS text FROM `{{ table }}`)
WHERE text IS NULL
  OR BYTE_LENGTH(payload) != payload_bytes
  OR event_type IS NULL
  OR event_type NOT IN UNNEST(@types)
  OR (event_type IN UNNEST(@types_of_persons) AND NOT REGEXP_CONTAINS(text, @fields))
  OR event_id IN UNNEST(@events)
  OR REGEXP_CONTAINS(CONCAT(text, ' ', event_id, ' ', COALESCE(TO_JSON_STRING(attributes), '')), @traces)
"""
"""Query of all dead letters, except those that belong to others by type and field and do not contain the id."""

_NOTHING = r"[^\s\S]"
"""A regular expression that matches no text."""

_COLUMNS_OF_LETTERS = {"event_id", "message_id", "archive_uri", "payload", "payload_bytes", "attributes"}
_THESE_EVENTS = "event_id IN UNNEST(@ids) AND message_id IN UNNEST(@messages)"
_COUNT = "SELECT COUNT(*) AS found FROM `{{ table }}` WHERE {{ condition }}"
_DELETE = "DELETE FROM `{{ table }}` WHERE {{ condition }}"
_OLD = " AND COALESCE({{ age }} < @before, TRUE)"
_MENTIONS_IN_ROWS = """
SELECT DISTINCT ingest.event_id AS event_id
FROM `{{ table }}`
WHERE NOT COALESCE({{ own }}, FALSE)
  AND (
    {{ others }}
    OR REGEXP_CONTAINS(CONCAT(COALESCE(ingest.event_id, ''), ' ', COALESCE(TO_JSON_STRING(extras), '')), @mentions)
  )
ORDER BY event_id
LIMIT {{ limit }}
"""
_MENTIONS_IN_LEDGER = """
SELECT DISTINCT event_id, message_id
FROM `{{ table }}`
WHERE event_id IN UNNEST(@ids) OR REGEXP_CONTAINS(event_id, @mentions)
ORDER BY event_id, message_id
"""


class _EventRef(NamedTuple):
    """Reference to the event of a dead letter, an envelope or an entry of the ledger."""

    event_id: str
    message_id: str


@dataclasses.dataclass(slots=True)
class Listed:
    """Places of events that were kept and need a manual check.

    Attributes:
        count: Number of the places.
        places: The first of them: `event EVENT_ID in TABLE`, or in an object of the archive.
    """

    count: int = 0
    places: list[str] = dataclasses.field(default_factory=list)

    def add(self, place: str) -> None:
        """Add a place."""
        self.count += 1
        if len(self.places) < _MAX_LISTED:
            self.places.append(place)


@dataclasses.dataclass(slots=True)
class Erased:
    """Counts of the data that was erased, or would be.

    Attributes:
        rows: Number of rows by `DATASET.TABLE`, including dead letters.
        messages: Number of undeliverable messages; None where none were searched.
        objects_read: Number of archive objects that were read.
        bytes_read: Size of these objects in bytes, as they are stored.
        objects_rewritten: Number of objects that had events of the person and others.
        objects_deleted: Number of objects that had no other events.
        objects: Number of events that were removed from each object, by address.
        envelopes: Number of events that were in these objects.
        unparsed: Number of erased dead letters and events of the archive that are not JSON.
        doubtful: Places of others that may be the person's and were kept.
        unreadable: Places of others that could not be inspected, each with the reason.
        remaining: Data that was not erased and has to be, each with the reason.
    """

    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    messages: int | None = None
    objects_read: int = 0
    bytes_read: int = 0
    objects_rewritten: int = 0
    objects_deleted: int = 0
    objects: dict[str, int] = dataclasses.field(default_factory=dict)
    envelopes: int = 0
    unparsed: int = 0
    doubtful: Listed = dataclasses.field(default_factory=Listed)
    unreadable: Listed = dataclasses.field(default_factory=Listed)
    remaining: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether no data of the person remains in what was searched."""
        return not (self.remaining or self.doubtful.count or self.unreadable.count)


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """Limits of the wait for rows that BigQuery does not delete yet.

    Attributes:
        seconds: Maximum seconds in all.
        pause: Seconds between two attempts.
    """

    seconds: float = 100 * 60
    pause: float = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Deletion:
    """Rows to delete: those of a table that meet a condition. `age` is the column with the time at which they came."""

    table: str
    condition: str
    age: str
    parameters: Mapping[str, Parameter]


@dataclasses.dataclass(slots=True)
class Erasure:
    """A run of the backfill.

    Attributes:
        person: Person to erase.
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Datasets and archive.
        dry_run: Report what would be erased; change nothing.
        patience: Limits of the wait for rows of the last 90 minutes.
        erased: Counts of the data that was erased so far.
    """

    person: Person
    client: bigquery.Client
    storage: StorageClient
    settings: Settings
    dry_run: bool = False
    patience: Patience = Patience()
    erased: Erased = dataclasses.field(default_factory=Erased)
    _began: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    _waiting: list[_Deletion] = dataclasses.field(default_factory=list)
    _needed: set[str] = dataclasses.field(default_factory=set)
    """Objects with the only copy of the bytes, or the ordering key, of dead letters that are not deleted yet."""
    _touched: set[str] = dataclasses.field(default_factory=set)
    """Originals that were changed or gone; compacted objects may have their lines."""
    _events: set[_EventRef] = dataclasses.field(default_factory=set)
    """Dead letters and events of the archive that were erased."""
    _uncertain: list[tuple[_EventRef, Verdict]] = dataclasses.field(default_factory=list)
    """Dead letters that remain, unless the archive shows that they belong to the person."""

    def __call__(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        undeliverable: Undeliverable | None = None,
        advance: Callable[[str], object] = lambda _: None,
    ) -> Erased:
        """Erase the person; `erased.is_complete` is whether no data remains.

        Args:
            start: Start of the arrival times to read from the archive; None for the beginning.
            end: End of the arrival times; None for the end.
            undeliverable: Messages of the dead-letter subscription; None to skip them.
            advance: Called with a description of the progress.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage rejected a request or did not answer.
        """
        self._wait_for_loads(advance)
        if undeliverable is not None:
            self._undeliverable(undeliverable)
        self._dead_letters()
        self._archive(start, end, advance)
        for event_type in event_types().values():
            for table in self._tables.both(event_type.table):
                columns = _columns(self.client.get_table(table))
                self.rows(table, event_type.person_field, columns)
                self._mentions_in_rows(table, event_type.person_field, columns)
        self._ledger()
        self._copies()
        self.wait(advance)
        self._list_all(self._uncertain, self._tables.dead_letters)
        return self.erased

    def _wait_for_loads(self, advance: Callable[[str], object]) -> None:
        """Wait until the load files of batch mode are loaded: their rows would come after those that are erased."""
        bucket = self.storage.bucket(self.settings.archive_bucket)
        waiting = {file.name for file in load_files(bucket)}
        deadline = time.monotonic() + self.patience.seconds
        while waiting and not self.dry_run:
            if time.monotonic() + self.patience.pause > deadline:
                self.erased.remaining.append(
                    f"{len(waiting)} load files: their rows are in no table yet;"
                    " run `sluice drain --loads-only`, and then the command again"
                )
                return
            advance(f"{len(waiting)} load files of batch mode are not loaded yet")
            time.sleep(self.patience.pause)
            waiting &= {file.name for file in load_files(bucket)}

    def rows(self, table: str, field: str | None, columns: Mapping[str, str]) -> None:
        """Erase the rows of a table whose column `field` has the person's id; recent rows have to wait.

        Args:
            table: Table of an event type, as `DATASET.TABLE`.
            field: The type's person field.
            columns: Type by name.
        """
        if condition := self._of_the_person(columns, {field}):
            self._delete(_Deletion(table, condition, "processed_timestamp", self._parameters()))

    def _of_the_person(self, columns: Mapping[str, str], fields: Collection[str | None]) -> str | None:
        """Return the condition for rows with the person's id in one of the fields; None if no field applies."""
        conditions = [
            f"`{field}` = @id_{field}" if columns[field] == "STRING" else f"CAST(`{field}` AS STRING) = @id_{field}"
            for field in self.person.ids
            if field in fields and field in columns
        ]
        if self.person.event_ids and "ingest" in columns:
            conditions.append("ingest.event_id IN UNNEST(@events)")
        return f"({' OR '.join(conditions)})" if conditions else None

    def _parameters(self) -> dict[str, Parameter]:
        ids: dict[str, Parameter] = {f"id_{field}": ("STRING", value) for field, value in self.person.ids.items()}
        return {**ids, "events": ("ARRAY<STRING>", sorted(self.person.event_ids))}

    def wait(self, advance: Callable[[str], object] = lambda _: None) -> None:
        """Wait until BigQuery deletes the recent rows that arrived before this run."""
        deadline = time.monotonic() + self.patience.seconds
        while self._waiting:
            tables = ", ".join(sorted({deletion.table for deletion in self._waiting}))
            remaining = deadline - time.monotonic()
            if remaining < self.patience.pause:
                self.erased.remaining.append(
                    f"{tables}: recent rows cannot be deleted yet; run the command again in 90 minutes"
                )
                break
            advance(
                f"{tables}: recent rows cannot be deleted yet; BigQuery allows it after at most 90 minutes"
                f" ({remaining / 60:.0f} minutes of waiting remain)"
            )
            time.sleep(self.patience.pause)
            for deletion in self._waiting[:]:
                if self._deleted(deletion, self._began):
                    self._waiting.remove(deletion)
                    if later := self._count_of(deletion):
                        self.erased.remaining.append(
                            f"{deletion.table}: {later} rows arrived during the run; run the command again"
                        )
        still = any(deletion.table == self._tables.dead_letters for deletion in self._waiting)
        for uri in sorted(self._needed):
            if still:
                self.erased.remaining.append(
                    f"{uri}: contains the only data that identifies the person of a dead letter that is not deleted yet"
                )
            else:
                self._count(self.rewrite(object_at(uri, self.storage), letters_deleted=True))
        self._erase_from_compacted(letters_deleted=True)
        self._needed.clear()

    @property
    def _tables(self) -> Tables:
        return Tables(self.settings)

    def _undeliverable(self, messages: Undeliverable) -> None:
        """Acknowledge the person's messages, which deletes them. All others are returned."""
        self.erased.messages = 0
        try:
            for line in messages.lines():
                envelope = decode_line(line.data)
                verdict = self.person.judge(envelope.message())
                if not verdict.belongs_to_person:
                    self._list(verdict, f"event {envelope.event_id} in {line.source}")
                elif isinstance(line.origin, Lease):
                    self.erased.messages += 1
                    if not self.dry_run:
                        messages.acknowledge([line.origin.ack_id])
        except Unreadable as error:
            self.erased.remaining.append(f"undeliverable messages: {error}")

    def _dead_letters(self) -> None:
        letters = self._letters(self._tables.dead_letters, self._uncertain)
        for batch in itertools.batched(letters, _EVENTS_OF_A_STATEMENT, strict=False):
            if not self._delete_letters([_EventRef(row.event_id, row.message_id) for row in batch]):
                self._needed.update(row.archive_uri for row in batch if row.payload is None)

    def _delete_letters(self, letters: Sequence[_EventRef]) -> bool:
        """Delete dead letters, except recent ones. Return whether all are deleted."""
        deletion = _Deletion(self._tables.dead_letters, _THESE_EVENTS, "failed_at", _parameters_of_events(letters))
        if is_done := self._delete(deletion):
            self._events.update(letters)
        return is_done

    def _list_all(self, uncertain: Iterable[tuple[_EventRef, Verdict]], table: str) -> None:
        for event, verdict in uncertain:
            if event not in self._events:
                self._list(verdict, f"event {event.event_id} in {table}")

    def _letters(self, table: str, uncertain: list[tuple[_EventRef, Verdict]]) -> list[bigquery.Row]:
        """Return the person's dead letters of a table; add uncertain ones to `uncertain`."""
        types = event_types()
        of_persons = {name: event_type.person_field for name, event_type in types.items() if event_type.person_field}
        parameters: dict[str, Parameter] = {
            "traces": ("STRING", self.person.traces),
            "types": ("ARRAY<STRING>", sorted(types)),
            "types_of_persons": ("ARRAY<STRING>", sorted(of_persons)),
            "fields": ("STRING", f'"({"|".join(sorted(set(of_persons.values())))})"'),
            "events": ("ARRAY<STRING>", sorted(self.person.event_ids)),
        }
        own = []
        for row in self._query(render(_DEAD_LETTERS, table=table), parameters):
            verdicts = [self.person.judge(message) for message in self._messages(row, table)]
            if theirs := next((verdict for verdict in verdicts if verdict.belongs_to_person), None):
                self.erased.unparsed += theirs.ownership is Ownership.UNPARSED
                own.append(row)
            else:
                uncertain += [(_EventRef(row.event_id, row.message_id), verdict) for verdict in verdicts]
        return own

    def _messages(self, row: bigquery.Row, table: str) -> list[Message]:
        """Return the message of a dead letter, whose bytes are only in the archive if they are long."""
        envelope = Envelope(
            event_id=row.event_id,
            message_id=row.message_id,
            publish_time=row.publish_time,
            attributes=msgspec.json.decode(row.attributes or "{}", type=dict[str, str] | None) or {},
            payload_base64=row.payload,
        )
        message = envelope.message()
        if row.payload is not None:
            if len(row.payload) != row.payload_bytes:
                self._add_remaining(
                    f"{table}: you may not read payloads; the policy tag of the raw columns defines who may"
                )
            return [message]
        try:
            envelopes = object_at(row.archive_uri, self.storage).envelopes()
            return [archived.message() for archived in envelopes if archived.message_id == row.message_id] or [message]
        except ObjectNotFound:
            return [message]
        except UnreadableObject as error:
            self._add_remaining(f"{table}, event {row.event_id}: its bytes are unreadable: {row.archive_uri}: {error}")
            return [message]

    def _add_remaining(self, problem: str) -> None:
        """Add a remaining problem, once."""
        if problem not in self.erased.remaining:
            self.erased.remaining.append(problem)

    def _list(self, verdict: Verdict, place: str) -> None:
        if verdict.ownership is Ownership.DOUBTFUL:
            self.erased.doubtful.add(place)
        if verdict.opaque is not None:
            self.erased.unreadable.add(f"{place}: {verdict.opaque}")

    def _query(self, query: str, parameters: Mapping[str, Parameter]) -> Iterable[bigquery.Row]:
        return self.client.query_and_wait(query, job_config=query_config(**parameters))

    def _count_of(self, deletion: _Deletion) -> int:
        query = render(_COUNT, table=deletion.table, condition=deletion.condition)
        [row] = self._query(query, deletion.parameters)
        return int(row.found)

    def _delete(self, deletion: _Deletion) -> bool:
        """Delete rows, except recent ones. Return whether all are deleted."""
        if self.dry_run:
            self.erased.rows[deletion.table] += self._count_of(deletion)
            return True
        if self._deleted(deletion):
            return True
        self._deleted(deletion, datetime.now(UTC) - _SETTLED)
        self._waiting.append(deletion)
        return False

    def _deleted(self, deletion: _Deletion, before: datetime | None = None) -> bool:
        """Return whether BigQuery deleted the rows: all, or those that arrived before a time."""
        query = render(_DELETE, table=deletion.table, condition=deletion.condition)
        parameters = dict(deletion.parameters)
        if before:
            query += render(_OLD, age=deletion.age)
            parameters["before"] = ("TIMESTAMP", before)
        try:
            job = self.client.query(query, job_config=query_config(**parameters))
            job.result()
        except BadRequest as error:
            if _STREAMING_BUFFER not in str(error):
                raise
            return False
        self.erased.rows[deletion.table] += job.num_dml_affected_rows or 0
        return True

    def _mentions_in_rows(self, table: str, field: str | None, columns: Mapping[str, str]) -> None:
        """List rows of others that name the person in another person field, an unknown field or the event id."""
        others = self._of_the_person(columns, self.person.ids.keys() - {field})
        if others is None and self.person.mentions is None:
            return
        query = render(
            _MENTIONS_IN_ROWS,
            table=table,
            own=self._of_the_person(columns, {field}) or "FALSE",
            others=others or "FALSE",
            limit=_MAX_LISTED,
        )
        mentions = ("STRING", self.person.mentions or _NOTHING)
        for row in self._query(query, {**self._parameters(), "mentions": mentions}):
            self.erased.doubtful.add(f"event {row.event_id} in {table}")

    def _ledger(self) -> None:
        """Delete entries of the ledger for erased events whose ids name the person."""
        table = self._tables.replays
        ids = [*self.person.ids.values(), *self.person.event_ids]
        parameters = {"ids": ("ARRAY<STRING>", ids), "mentions": ("STRING", self.person.mentions or _NOTHING)}
        entries = {_EventRef(*row) for row in self._query(render(_MENTIONS_IN_LEDGER, table=table), parameters)}
        erased = {event for event in entries if event in self._events or event.event_id in self.person.event_ids}
        for batch in itertools.batched(sorted(erased), _EVENTS_OF_A_STATEMENT, strict=False):
            self._delete(_Deletion(table, _THESE_EVENTS, "replayed_at", _parameters_of_events(batch)))
        for event in sorted(entries - erased):
            self.erased.doubtful.add(f"event {event.event_id} in {table}")

    def _copies(self) -> None:
        """Search the tables that Sluice does not write: snapshots, restored tables, and others."""
        own = {*self._tables.events(), self._tables.dead_letters, self._tables.replays}
        for dataset in (self.settings.dataset, self.settings.historical_dataset):
            for listed in self.client.list_tables(dataset):
                name = f"{dataset}.{listed.table_id}"
                if name not in own and listed.table_type in {"TABLE", "SNAPSHOT"}:
                    try:
                        self._copy(name)
                    except NotFound:  # It has expired meanwhile.
                        continue

    def _copy(self, name: str) -> None:
        table = self.client.get_table(name)
        columns = _columns(table)
        condition = self._of_the_person(columns, self.person.ids)
        rows = self._count_of(_Deletion(name, condition, "", self._parameters())) if condition else 0
        if columns.keys() >= _COLUMNS_OF_LETTERS:
            uncertain: list[tuple[_EventRef, Verdict]] = []
            rows += len(self._letters(name, uncertain))
            self._list_all(uncertain, name)
        if rows:
            expires = f"on {table.expires:%Y-%m-%d}" if table.expires else "never"
            self.erased.remaining.append(
                f"{name}: has rows of the person ({rows}); it is not the table of an event type, and this command"
                f" deletes nothing from it; drop it, or wait until it expires: {expires}"
            )

    def _archive(self, start: datetime | None, end: datetime | None, advance: Callable[[str], object]) -> None:
        for batch in itertools.batched(self._reader.stored(start, end), _OBJECTS_AT_ONCE, strict=False):
            self._erase_from([archived for archived in batch if archived.uri not in self._needed])
            advance(
                f"archive: {self.erased.objects_read} objects, {self.erased.bytes_read / 1e6:.0f} MB,"
                f" up to {batch[-1].uri}"
            )
        self._erase_from_compacted()

    def _erase_from(self, objects: Sequence[Archived], only: Collection[str] | None = None) -> None:
        """Rewrite objects; originals that alone show whose a dead letter is have to wait until it is deleted."""
        with ThreadPoolExecutor(_WORKERS) as threads:
            changes = threads.map(functools.partial(self.rewrite, only=only), objects)
            for archived, change in zip(objects, changes, strict=True):
                letters = [letter for letter in change.letters if letter not in self._events]
                if letters and not self._delete_letters(letters):
                    self._needed.update(change.waiting)
                elif change.waiting:
                    waiting, change.waiting = change.waiting, []
                    change.add(self.rewrite(archived, only=waiting, letters_deleted=True))
                if change.uri not in self._needed:
                    self._count(change)

    def _erase_from_compacted(self, *, letters_deleted: bool = False) -> None:
        """Erase the person from compacted objects of the originals that were changed, or gone when they were reached.

        A compaction may have read an original before it was changed, and deletes those that it has compacted.
        """
        touched, self._touched = self._touched, set()
        compacted = {archived.uri: archived for uri in touched for archived in self._reader.compacted_of(uri)}
        if letters_deleted:
            for archived in compacted.values():
                self._count(self.rewrite(archived, only=touched, letters_deleted=True))
        else:
            self._erase_from(list(compacted.values()), touched)

    @property
    def _reader(self) -> ArchiveReader:
        return ArchiveReader(self.storage, self.settings.archive_bucket)

    def _count(self, change: "ObjectChange") -> None:
        erased = self.erased
        erased.objects_read += 1
        erased.bytes_read += change.size
        erased.envelopes += len(change.removed)
        erased.unparsed += change.unparsed
        remains = bool(change.remaining or change.waiting)
        erased.objects_rewritten += bool(change.removed and remains)
        erased.objects_deleted += bool(change.removed and not remains)
        for verdict, place in change.listed:
            self._list(verdict, place)
        erased.objects.update(change.originals)
        self._events.update(change.removed)
        if change.problem:
            erased.remaining.append(f"{change.uri}: {change.problem}")

    def rewrite(
        self, archived: Archived, *, only: Collection[str] | None = None, letters_deleted: bool = False
    ) -> "ObjectChange":
        """Remove the person's envelopes from an object, also from a version that was written meanwhile.

        Args:
            archived: The object.
            only: The only originals that are changed; None for all but those that are needed for dead letters.
            letters_deleted: Whether the dead letters are deleted that only this object shows to be the person's.
                Without it, such an original stays as it is, and `ObjectChange.letters` names them.
        """
        changes: dict[str, ObjectChange] = {}

        def edit(uri: str, ndjson: bytes, size: int) -> Sequence[bytes] | None:
            changes[uri] = change = ObjectChange(uri, size)
            if (only is not None and uri not in only) or (uri in self._needed and not letters_deleted):
                change.remaining = 1
                return None
            return self._edit(ndjson, change, letters_deleted=letters_deleted)

        try:
            rewrite(archived, edit, event_types())
        except ObjectNotFound:
            if isinstance(archived, ArchivedObject):
                self._touched.add(archived.uri)
            return ObjectChange(archived.uri)
        except UnreadableObject as error:
            return ObjectChange(archived.uri, archived.size, problem=str(error))
        except KeepsChanging:
            return ObjectChange(archived.uri, archived.size, problem="it changes constantly")
        total = ObjectChange(archived.uri, max((change.size for change in changes.values()), default=archived.size))
        for change in changes.values():
            total.add(change)
        if isinstance(archived, ArchivedObject):
            self._touched.update(total.originals)
        return total

    def _edit(self, ndjson: bytes, change: "ObjectChange", *, letters_deleted: bool) -> Sequence[bytes] | None:
        """Return the lines of an object that are not the person's; None if it stays as it is."""
        if not self.person.may_be_in(ndjson):
            change.remaining = 1
            return None
        kept = [line for line in ndjson.splitlines(keepends=True) if not self._belongs_to_person(line, change)]
        change.remaining = len(kept)
        if letters_deleted:
            change.letters.clear()
        if change.letters:
            change.waiting.append(change.uri)
        elif change.removed:
            change.originals[change.uri] = len(change.removed)
        if not change.removed:
            return None
        if change.letters or self.dry_run:
            collections.deque(map(decode_line, kept), maxlen=0)  # A line that is no envelope is reported before.
            return None
        return kept

    def _belongs_to_person(self, line: bytes, change: "ObjectChange") -> bool:
        """Return whether a line of an object is the person's."""
        if not self.person.may_be_in(line):
            return False
        envelope = decode_line(line)
        message = envelope.message()
        verdict = self.person.judge(message)
        change.unparsed += verdict.ownership is Ownership.UNPARSED
        if not verdict.belongs_to_person:
            change.listed.append((verdict, f"event {envelope.event_id} in {change.uri}"))
            return False
        event = _EventRef(envelope.event_id, envelope.message_id)
        change.removed.append(event)
        if message.ordering_key:  # A dead letter has none: it has to be found without it, or by this envelope.
            without_key = msgspec.structs.replace(message, ordering_key="")
            if not self.person.judge(without_key).belongs_to_person:
                change.letters.append(event)
        return True


def _columns(table: bigquery.Table) -> dict[str, str]:
    """Return the types of a table's columns by name."""
    return {column.name: column.field_type for column in table.schema}


def _parameters_of_events(events: Sequence[_EventRef]) -> dict[str, Parameter]:
    return {
        "ids": ("ARRAY<STRING>", [event.event_id for event in events]),
        "messages": ("ARRAY<STRING>", [event.message_id for event in events]),
    }


@dataclasses.dataclass(slots=True)
class ObjectChange:
    """Changes to an archive object.

    Attributes:
        uri: Address of the object.
        size: Stored size of the object in bytes.
        removed: Envelopes that were removed.
        remaining: Number of envelopes that were not removed, as far as they were read; 0 for none.
        unparsed: Number of `removed` that are not JSON.
        listed: Verdicts on envelopes that were not removed and have to be reported, each with its place.
        letters: Those of `removed` whose dead letters do not show that they are the person's. While there are some, the
            object is as it was.
        originals: Number of `removed` by the address of the original object, without those that wait.
        waiting: Addresses of the originals that have `letters`; nothing else is known of them.
        problem: Reason why the object cannot be read.
    """

    uri: str
    size: int = 0
    removed: list[_EventRef] = dataclasses.field(default_factory=list)
    remaining: int = 0
    unparsed: int = 0
    listed: list[tuple[Verdict, str]] = dataclasses.field(default_factory=list)
    letters: list[_EventRef] = dataclasses.field(default_factory=list)
    originals: dict[str, int] = dataclasses.field(default_factory=dict)
    waiting: list[str] = dataclasses.field(default_factory=list)
    problem: str | None = None

    def add(self, other: "ObjectChange") -> None:
        """Add the changes to an original of a compacted object, or to what waited in this one."""
        self.letters += other.letters
        self.waiting += other.waiting
        if other.waiting:
            return
        self.removed += other.removed
        self.remaining += other.remaining
        self.unparsed += other.unparsed
        self.listed += other.listed
        self.originals.update(other.originals)
        self.problem = self.problem or other.problem
