"""Erasing a person: from the dead letters, the archive, and the tables, live and historical.

In this order, for the archive tells whose the dead letters are that are too long for their table, and what is in the
archive alone a reconciliation would put back. Each step finds by itself what it has to erase, so that a run that was
interrupted is completed by the next.
"""

import collections
import dataclasses
import enum
import functools
import gzip
import itertools
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from google.api_core.exceptions import BadRequest, NotFound, PreconditionFailed
from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter
from google.cloud.storage import Blob
from google.cloud.storage import Client as StorageClient

from functions import archive, dead_letter
from functions.archive import Envelope
from functions.dead_letter import Refused
from functions.decode import decode
from functions.events import EventType, event_types
from functions.reconciliation import UNREADABLE
from functions.settings import Settings

_WORKERS = 8
"""Below the ten connections that a client keeps."""

_OBJECTS_AT_ONCE = 32
_TRIES = 5

_LETTERS_OF_A_STATEMENT = 5_000
"""Ids of 128 characters, each escaped to six: still below the 10 MB of a request."""

_MIN_UNQUOTED = 8
"""Characters of an id that is looked for in what is no JSON even where it stands in no quotes."""

_MAX_DOUBTS = 1_000

_STREAMING_BUFFER = "streaming buffer"
"""In BigQuery's refusal of a statement that would affect a row of the last 90 minutes or less: "UPDATE or DELETE
statement over table ... would affect rows in the streaming buffer, which is not supported". All others can be deleted
(https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations), so those are asked for alone."""

_SETTLED = timedelta(minutes=90)

_DEAD_LETTERS = """
SELECT event_id, message_id, archive_uri, payload
FROM `{table}`
WHERE SAFE_CONVERT_BYTES_TO_STRING(payload) IS NULL OR REGEXP_CONTAINS(SAFE_CONVERT_BYTES_TO_STRING(payload), @traces)
"""
_THESE_LETTERS = "event_id IN UNNEST(@ids) AND message_id IN UNNEST(@messages)"
_OF_THE_PERSON = "`{field}` = @id"
_COUNT = "SELECT COUNT(*) AS found FROM `{table}` WHERE {condition}"
_DELETE = "DELETE FROM `{table}` WHERE {condition}"
_OLD = " AND COALESCE({age} < @before, TRUE)"

_ESCAPED = re.compile(r'["\\/\x00-\x1f]')


class Claim(enum.Enum):
    """Whether a payload is a person's."""

    NO = enum.auto()
    YES = enum.auto()
    UNPARSED = enum.auto()
    """It is no JSON, but has the id in quotes, after its field, or unmistakably long."""
    DOUBTFUL = enum.auto()
    """It may be, and is left alone: it has a short id in no quotes, and `1` is in everybody's; or it is an event of a
    type that names no person, and has the id all the same, as its row does."""


class Person:
    """Whom to erase.

    Args:
        ids: The person's id by the field that event types have it in: `user_id`, `customer_id`.
    """

    def __init__(self, ids: Mapping[str, str]) -> None:
        self.ids = dict(ids)
        self._types: Mapping[Any, EventType] = event_types()
        # Any character of JSON may be written as an escape; some have to be.
        plain = [max(_ESCAPED.split(one), key=len) for one in set(self.ids.values())]
        self.traces = "|".join([*(re.escape(text) for text in plain), r"\\u"])
        texts = [one.encode() for one in set(self.ids.values())]
        quoted = [b'"' + re.escape(text) + b'"' for text in texts]
        words = [rb"(?<![\w-])" + re.escape(text) + rb"(?![\w-])" for text in texts if len(text) >= _MIN_UNQUOTED]
        fields = [
            rb'"' + re.escape(field.encode()) + rb'"\s*:\s*"?' + re.escape(one.encode()) + rb"(?![\w.-])"
            for field, one in self.ids.items()
        ]
        self._search = re.compile(b"|".join([*quoted, *words, *fields])).search
        anywhere = [rb"(?<![\w-])" + re.escape(text) + rb"(?![\w-])" for text in texts]
        self._doubt = re.compile(b"|".join(anywhere)).search
        self._signs = [*(text.encode() for text in set(plain)), b"\\u", b'"payload_base64"']

    def may_be_in(self, ndjson: bytes) -> bool:
        """Whether it is worth while to parse a line of the archive, or to look at the lines of an object."""
        return any(sign in ndjson for sign in self._signs)

    def owns(self, payload: bytes) -> bool:
        """Whether a payload is an event of the person, or has to be taken for one."""
        return self.claim(payload) in {Claim.YES, Claim.UNPARSED}

    def claim(self, payload: bytes) -> Claim:
        """Whose a payload is.

        An event of a type that names its person is judged by that field. One that should have it and has not, or of an
        unknown type, is theirs with the id as any text, or as the number of its field, or as a long one. In what is no
        JSON, the id has to stand in quotes or after its field, or to be long. Of a type that names no person, none is.
        """
        try:
            event = decode(payload)
        except Refused:
            if self._search(payload):
                return Claim.UNPARSED
            return Claim.DOUBTFUL if self._doubt(payload) else Claim.NO
        name = event.get("event_type")
        event_type = self._types.get(name) if isinstance(name, str) else None
        if event_type and event_type.person_field in event:
            theirs = self.ids.get(event_type.person_field) == str(event[event_type.person_field])
            return Claim.YES if theirs else Claim.NO
        ids = set(self.ids.values())
        found = [(field, value) for field, value in _values(event, "") if str(value) in ids]
        named = any(self.ids.get(field) == str(value) for field, value in found)
        long = any(len(str(value)) >= _MIN_UNQUOTED for _, value in found)
        if event_type and event_type.person_field is None:
            return Claim.DOUBTFUL if named or long else Claim.NO
        if named or long or any(isinstance(value, str) for _, value in found):
            return Claim.YES
        return Claim.DOUBTFUL if found else Claim.NO


def _values(value: Any, field: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any value of JSON
    """The texts and numbers of a value, with the innermost field that each is in."""
    match value:
        case dict():
            for name, one in value.items():
                yield from _values(one, name)
        case list():
            for one in value:
                yield from _values(one, field)
        case bool() | None:
            pass
        case _:
            yield field, value


@dataclasses.dataclass(slots=True)
class Erased:
    """What was erased, or would be.

    Attributes:
        rows: By `DATASET.TABLE`; the dead letters among them.
        objects_read: Of the archive.
        bytes_read: As they are stored.
        objects_rewritten: Those that had events of the person and others.
        objects_deleted: Those that had no other events.
        objects: How many events were taken out of each of these, by address.
        envelopes: Events that were in these objects.
        unparsed: Dead letters and events of the archive, among those erased, that are no JSON.
        doubtful: Where there are others that may be the person's, and were left: `event EVENT_ID in ADDRESS`; the
            first of them.
        left: What was not erased that has to be, and why.
    """

    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    objects_read: int = 0
    bytes_read: int = 0
    objects_rewritten: int = 0
    objects_deleted: int = 0
    objects: dict[str, int] = dataclasses.field(default_factory=dict)
    envelopes: int = 0
    unparsed: int = 0
    doubtful: list[str] = dataclasses.field(default_factory=list)
    left: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for rows that BigQuery does not delete yet.

    Attributes:
        seconds: In all.
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
    parameters: Sequence[Any]


@dataclasses.dataclass(slots=True)
class Erasure:
    """One run.

    Attributes:
        person: Whom to erase.
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Datasets and archive.
        dry_run: Find all of it, and leave it.
        patience: With the rows of the last 90 minutes.
        erased: What was erased so far.
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
    """Objects that alone have the bytes of dead letters that are still there."""

    def __call__(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        advance: Callable[[str], object] = lambda _: None,
    ) -> Erased:
        """Erase the person; `erased.left` says whether all that can be is gone.

        Args:
            start: Read the archive from this time of arrival on; None: from the beginning.
            end: And to this one; None: to the end.
            advance: Called with what is being done, after each some objects and before each wait.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage refused or did not answer.
        """
        self._dead_letters()
        self._archive(start, end, advance)
        for event_type in event_types().values():
            for dataset in (self.settings.dataset, self.settings.historical_dataset):
                self.rows(f"{dataset}.{event_type.table}", event_type.person_field)
        self.wait(advance)
        return self.erased

    def rows(self, table: str, field: str | None) -> None:
        """Erase the rows of a table whose column `field` has the person's id, but for those that came just now."""
        if field is None or field not in self.person.ids:
            return
        parameters = [ScalarQueryParameter("id", "STRING", self.person.ids[field])]
        self._delete(_Deletion(table, _OF_THE_PERSON.format(field=field), "processed_timestamp", parameters))

    def wait(self, advance: Callable[[str], object] = lambda _: None) -> None:
        """Erase what BigQuery has not deleted yet and came before this run began, as soon as it does."""
        deadline = time.monotonic() + self.patience.seconds
        while self._waiting:
            tables = ", ".join(sorted({one.table for one in self._waiting}))
            remaining = deadline - time.monotonic()
            if remaining < self.patience.pause:
                self.erased.left.append(f"{tables}: rows came a short while ago; start it again in 90 minutes")
                break
            advance(
                f"{tables}: rows came a short while ago; BigQuery deletes them after 90 minutes at most"
                f" ({remaining / 60:.0f} minutes of patience)"
            )
            time.sleep(self.patience.pause)
            for one in self._waiting[:]:
                if self._deleted(one, self._began):
                    self._waiting.remove(one)
                    if later := self._count_of(one):
                        self.erased.left.append(f"{one.table}: {later} rows that came meanwhile; start it again")
        letters = f"{self.settings.dataset}.{dead_letter.TABLE}"
        still = any(one.table == letters for one in self._waiting)
        for uri in sorted(self._needed):
            if still:
                self.erased.left.append(f"{uri}: has the bytes of a dead letter that is not deleted yet")
            else:
                self._count(self.rewrite(Blob.from_uri(uri, client=self.storage)))
        self._needed.clear()

    def _dead_letters(self) -> None:
        table = f"{self.settings.dataset}.{dead_letter.TABLE}"
        traces = [ScalarQueryParameter("traces", "STRING", self.person.traces)]
        found = [row for row in self._ask(_DEAD_LETTERS.format(table=table), traces) if self._owns_letter(row, table)]
        for some in itertools.batched(found, _LETTERS_OF_A_STATEMENT, strict=False):
            parameters = [
                ArrayQueryParameter("ids", "STRING", [row.event_id for row in some]),
                ArrayQueryParameter("messages", "STRING", [row.message_id for row in some]),
            ]
            if not self._delete(_Deletion(table, _THESE_LETTERS, "failed_at", parameters)):
                self._needed.update(row.archive_uri for row in some if row.payload is None)

    def _owns_letter(self, row: bigquery.Row, table: str) -> bool:
        """Whose a dead letter is; the bytes of a long one are in the archive only."""
        if row.payload is not None:
            return self._weigh(row.payload, row.event_id, table)
        try:
            ndjson = gzip.decompress(Blob.from_uri(row.archive_uri, client=self.storage).download_as_bytes())
            envelopes = archive.read(ndjson)
        except NotFound:
            return False
        except UNREADABLE as error:
            self.erased.left.append(
                f"{table}, event {row.event_id}: its bytes cannot be read: {row.archive_uri}: {error}"
            )
            return False
        return any(
            envelope.message_id == row.message_id and self._weigh(envelope.message().data, row.event_id, table)
            for envelope in envelopes
        )

    def _weigh(self, payload: bytes, event_id: str, place: str) -> bool:
        claim = self.person.claim(payload)
        self.erased.unparsed += claim is Claim.UNPARSED
        if claim is Claim.DOUBTFUL:
            self._doubt(f"event {event_id} in {place}")
        return claim in {Claim.YES, Claim.UNPARSED}

    def _doubt(self, *found: str) -> None:
        self.erased.doubtful.extend(found[: _MAX_DOUBTS - len(self.erased.doubtful)])

    def _ask(self, query: str, parameters: Sequence[Any]) -> Iterable[bigquery.Row]:
        return self.client.query_and_wait(query, job_config=bigquery.QueryJobConfig(query_parameters=parameters))

    def _count_of(self, deletion: _Deletion) -> int:
        query = _COUNT.format(table=deletion.table, condition=deletion.condition)
        [row] = self._ask(query, deletion.parameters)
        return int(row.found)

    def _delete(self, deletion: _Deletion) -> bool:
        """Delete all rows; where BigQuery does not yet, those that it does, and say so."""
        if self.dry_run:
            self.erased.rows[deletion.table] += self._count_of(deletion)
            return True
        if self._deleted(deletion):
            return True
        self._deleted(deletion, datetime.now(UTC) - _SETTLED)
        self._waiting.append(deletion)
        return False

    def _deleted(self, deletion: _Deletion, before: datetime | None = None) -> bool:
        """Whether BigQuery deletes the rows, all of them or those that came before a time."""
        query = _DELETE.format(table=deletion.table, condition=deletion.condition)
        parameters = list(deletion.parameters)
        if before:
            query += _OLD.format(age=deletion.age)
            parameters.append(ScalarQueryParameter("before", "TIMESTAMP", before))
        try:
            job = self.client.query(query, job_config=bigquery.QueryJobConfig(query_parameters=parameters))
            job.result()
        except BadRequest as error:
            if _STREAMING_BUFFER not in str(error):
                raise
            return False
        self.erased.rows[deletion.table] += job.num_dml_affected_rows or 0
        return True

    def _archive(self, start: datetime | None, end: datetime | None, advance: Callable[[str], object]) -> None:
        bounds = {
            name: archive.earliest(bound) for name, bound in (("start_offset", start), ("end_offset", end)) if bound
        }
        blobs = self.storage.list_blobs(self.settings.archive_bucket, prefix="raw/", **bounds)
        with ThreadPoolExecutor(_WORKERS) as threads:
            for some in itertools.batched(blobs, _OBJECTS_AT_ONCE, strict=False):
                free = [blob for blob in some if _uri(blob) not in self._needed]
                for change in threads.map(self.rewrite, free):
                    self._count(change)
                advance(
                    f"archive: {self.erased.objects_read} objects, {self.erased.bytes_read / 1e6:.0f} MB,"
                    f" up to {some[-1].name}"
                )

    def _count(self, change: "Change") -> None:
        erased = self.erased
        erased.objects_read += 1
        erased.bytes_read += change.size
        erased.envelopes += change.removed
        erased.unparsed += change.unparsed
        erased.objects_rewritten += bool(change.removed and change.left)
        erased.objects_deleted += bool(change.removed and not change.left)
        self._doubt(*(f"event {event_id} in {change.uri}" for event_id in change.doubtful))
        if change.removed:
            erased.objects[change.uri] = change.removed
        if change.problem:
            erased.left.append(f"{change.uri}: {change.problem}")

    def rewrite(self, blob: Blob) -> "Change":
        """Take the person's envelopes out of an object; of whoever changes it meanwhile, too."""
        for _ in range(_TRIES):
            try:
                if blob.generation is None:
                    blob.reload()
                return self._rewrite_once(blob)
            except PreconditionFailed:
                blob.reload()
            except NotFound:
                return Change(_uri(blob))
        return Change(_uri(blob), blob.size or 0, problem="it keeps changing")

    def _rewrite_once(self, blob: Blob) -> "Change":
        stored = blob.download_as_bytes(if_generation_match=blob.generation)
        change = Change(_uri(blob), len(stored))
        try:
            ndjson = gzip.decompress(stored)
            if not self.person.may_be_in(ndjson):
                return change
            left: list[bytes] = []
            for line in ndjson.splitlines(keepends=True):
                if self._takes_out(line, change):
                    change.removed += 1
                else:
                    left.append(line)
            types = [_decode(line).event_type for line in left] if change.removed else []
        except UNREADABLE as error:
            return Change(change.uri, len(stored), problem=str(error))
        change.left = len(left)
        if change.removed and not self.dry_run:
            self._put(blob, b"".join(left), archive.counts(types, event_types()))
        return change

    def _takes_out(self, line: bytes, change: "Change") -> bool:
        """Whether a line of an object is the person's."""
        if not self.person.may_be_in(line):
            return False
        envelope = _decode(line)
        claim = self.person.claim(envelope.message().data)
        change.unparsed += claim is Claim.UNPARSED
        if claim is Claim.DOUBTFUL:
            change.doubtful.append(envelope.event_id)
        return claim in {Claim.YES, Claim.UNPARSED}

    def _put(self, blob: Blob, left: bytes, counts: dict[str, str]) -> None:
        if not left:
            blob.delete(if_generation_match=blob.generation)
            return
        rewritten = blob.bucket.blob(blob.name)
        rewritten.metadata = counts
        rewritten.storage_class = blob.storage_class
        rewritten.upload_from_string(
            gzip.compress(left, compresslevel=1),
            content_type=blob.content_type,
            if_generation_match=blob.generation,
        )


def _uri(blob: Blob) -> str:
    return f"gs://{blob.bucket.name}/{blob.name}"


@dataclasses.dataclass(slots=True)
class Change:
    """What became of an object.

    Attributes:
        uri: Its address.
        size: Its stored bytes.
        removed: Envelopes that were taken out.
        left: Those that were not.
        unparsed: Those of `removed` that are no JSON.
        doubtful: Event ids of those that may be the person's and were not taken out.
        problem: Why it cannot be read.
    """

    uri: str
    size: int = 0
    removed: int = 0
    left: int = 0
    unparsed: int = 0
    doubtful: list[str] = dataclasses.field(default_factory=list)
    problem: str | None = None


_decode = functools.partial(msgspec.json.decode, type=Envelope)
