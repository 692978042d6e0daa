"""Erasing a person: from the dead letters, the archive, and the tables, live and historical.

In this order, for the archive tells whose the dead letters are that are too long for their table. Each step finds by
itself what it has to erase, so that a run that was interrupted is completed by the next.
"""

import collections
import dataclasses
import functools
import gzip
import itertools
import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
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
from functions.settings import Settings

_WORKERS = 8
"""Below the ten connections that a client keeps."""

_OBJECTS_AT_ONCE = 32
_TRIES = 5

_LETTERS_OF_A_STATEMENT = 5_000
"""Ids of 128 characters, each escaped to six: still below the 10 MB of a request."""

_MIN_UNQUOTED = 8
"""Characters of an id that is looked for in what is no JSON even where it stands in no quotes."""

_STREAMING_BUFFER = "streaming buffer"
"""What BigQuery's refusal says of rows that came less than about 90 minutes ago
(https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations)."""

_DEAD_LETTERS = """
SELECT event_id, message_id, archive_uri, payload
FROM `{table}`
WHERE SAFE_CONVERT_BYTES_TO_STRING(payload) IS NULL OR REGEXP_CONTAINS(SAFE_CONVERT_BYTES_TO_STRING(payload), @traces)
"""
_DELETE_DEAD_LETTERS = "DELETE FROM `{table}` WHERE event_id IN UNNEST(@ids) AND message_id IN UNNEST(@messages)"
_COUNT = "SELECT COUNT(*) AS found FROM `{table}` WHERE `{field}` = @id"
_DELETE = "DELETE FROM `{table}` WHERE `{field}` = @id"


_ESCAPED = re.compile(r'["\\/\x00-\x1f]')


class NotErased(Exception):
    """Something of the person is left; says where, and why."""


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
        self._search = re.compile(b"|".join([*quoted, *words])).search
        self._may_be_in = re.compile(b"|".join([self.traces.encode(), rb'"payload_base64"'])).search

    def may_be_in(self, ndjson: bytes) -> bool:
        """Whether it is worth while to parse lines of the archive."""
        return self._may_be_in(ndjson) is not None

    def owns(self, payload: bytes) -> bool:
        """Whether a payload is an event of the person, or may be one.

        An event of a type that names its person is judged by that field; in all others an id that stands anywhere as a
        value is enough; in what is no JSON, one that stands anywhere in quotes, or a long one.
        """
        try:
            event = decode(payload)
        except Refused:
            return self._search(payload) is not None
        name = event.get("event_type")
        event_type = self._types.get(name) if isinstance(name, str) else None
        if event_type and event_type.person_field in event:
            return self.ids.get(event_type.person_field) == str(event[event_type.person_field])
        return _holds(event, frozenset(self.ids.values()))


def _holds(value: Any, ids: frozenset[str]) -> bool:  # noqa: ANN401 - any value of JSON
    match value:
        case dict():
            return any(_holds(one, ids) for one in value.values())
        case list():
            return any(_holds(one, ids) for one in value)
        case str():
            return value in ids
        case bool() | None:
            return False
        case _:
            return str(value) in ids


@dataclasses.dataclass(slots=True)
class Erased:
    """What was erased, or would be.

    Attributes:
        rows: By `DATASET.TABLE`; the dead letters among them.
        objects_read: Of the archive.
        bytes_read: As they are stored.
        objects_rewritten: Those that had events of the person and others.
        objects_deleted: Those that had no other events.
        envelopes: Events that were in these objects.
        unreadable: Objects that cannot be read, and why.
    """

    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    objects_read: int = 0
    bytes_read: int = 0
    objects_rewritten: int = 0
    objects_deleted: int = 0
    envelopes: int = 0
    unreadable: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for rows that BigQuery does not delete yet.

    Attributes:
        seconds: In all, for each table.
        pause: Seconds between two attempts.
    """

    seconds: float = 100 * 60
    pause: float = 60.0


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

    def __call__(
        self,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        advance: Callable[[str], object] = lambda _: None,
    ) -> Erased:
        """Erase the person.

        Args:
            start: Read the archive from this time of arrival on; None: from the beginning.
            end: And to this one; None: to the end.
            advance: Called with what is being done, after each some objects and before each wait.

        Raises:
            NotErased: BigQuery did not delete rows in time.
            google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage refused or did not answer.
        """
        self._dead_letters(advance)
        self._archive(start, end, advance)
        for event_type in event_types().values():
            for dataset in (self.settings.dataset, self.settings.historical_dataset):
                self.rows(f"{dataset}.{event_type.table}", event_type.person_field, advance)
        return self.erased

    def rows(self, table: str, field: str | None, advance: Callable[[str], object]) -> None:
        """Erase the rows of a table whose column `field` has the person's id; waits for those that came just now."""
        if field is None or field not in self.person.ids:
            return
        parameters = [ScalarQueryParameter("id", "STRING", self.person.ids[field])]
        if self.dry_run:
            [row] = self._ask(_COUNT.format(table=table, field=field), parameters)
            self.erased.rows[table] += row.found
        else:
            self._delete(table, _DELETE.format(table=table, field=field), parameters, advance)

    def _dead_letters(self, advance: Callable[[str], object]) -> None:
        table = f"{self.settings.dataset}.{dead_letter.TABLE}"
        traces = [ScalarQueryParameter("traces", "STRING", self.person.traces)]
        found = [row for row in self._ask(_DEAD_LETTERS.format(table=table), traces) if self._owns_letter(row)]
        if self.dry_run:
            self.erased.rows[table] += len(found)
            return
        for some in itertools.batched(found, _LETTERS_OF_A_STATEMENT, strict=False):
            parameters = [
                ArrayQueryParameter("ids", "STRING", [row.event_id for row in some]),
                ArrayQueryParameter("messages", "STRING", [row.message_id for row in some]),
            ]
            self._delete(table, _DELETE_DEAD_LETTERS.format(table=table), parameters, advance)

    def _owns_letter(self, row: bigquery.Row) -> bool:
        """Whose a dead letter is; the bytes of a long one are in the archive only."""
        if row.payload is not None:
            return self.person.owns(row.payload)
        try:
            ndjson = gzip.decompress(Blob.from_uri(row.archive_uri, client=self.storage).download_as_bytes())
        except NotFound:
            return False
        return any(
            envelope.message_id == row.message_id and self.person.owns(envelope.message().data)
            for envelope in archive.read(ndjson)
        )

    def _ask(self, query: str, parameters: Sequence[Any]) -> Iterable[bigquery.Row]:
        return self.client.query_and_wait(query, job_config=bigquery.QueryJobConfig(query_parameters=parameters))

    def _delete(self, table: str, query: str, parameters: Sequence[Any], advance: Callable[[str], object]) -> None:
        deadline = time.monotonic() + self.patience.seconds
        while True:
            try:
                job = self.client.query(query, job_config=bigquery.QueryJobConfig(query_parameters=parameters))
                job.result()
            except BadRequest as error:
                if _STREAMING_BUFFER not in str(error):
                    raise
                if time.monotonic() + self.patience.pause > deadline:
                    raise NotErased(f"{table}: rows came a short while ago; start it again in 90 minutes") from error
                advance(f"{table}: rows came a short while ago; BigQuery deletes them after 90 minutes at most")
                time.sleep(self.patience.pause)
            else:
                self.erased.rows[table] += job.num_dml_affected_rows or 0
                return

    def _archive(self, start: datetime | None, end: datetime | None, advance: Callable[[str], object]) -> None:
        bounds = {
            name: archive.earliest(bound) for name, bound in (("start_offset", start), ("end_offset", end)) if bound
        }
        blobs = self.storage.list_blobs(self.settings.archive_bucket, prefix="raw/", **bounds)
        with ThreadPoolExecutor(_WORKERS) as threads:
            for some in itertools.batched(blobs, _OBJECTS_AT_ONCE, strict=False):
                for change in threads.map(self.rewrite, some):
                    self._count(change)
                advance(f"archive: {self.erased.objects_read} objects, up to {some[-1].name}")

    def _count(self, change: "Change") -> None:
        erased = self.erased
        erased.objects_read += 1
        erased.bytes_read += change.size
        erased.envelopes += change.removed
        erased.objects_rewritten += bool(change.removed and change.left)
        erased.objects_deleted += bool(change.removed and not change.left)
        if change.problem:
            erased.unreadable.append(change.problem)

    def rewrite(self, blob: Blob) -> "Change":
        """Take the person's envelopes out of an object; of whoever changes it meanwhile, too."""
        for _ in range(_TRIES):
            try:
                return self._rewrite_once(blob)
            except PreconditionFailed:
                blob.reload()
            except NotFound:
                return Change(0)
        return Change(blob.size or 0, problem=f"gs://{blob.bucket.name}/{blob.name}: it keeps changing")

    def _rewrite_once(self, blob: Blob) -> "Change":
        stored = blob.download_as_bytes(if_generation_match=blob.generation)
        try:
            ndjson = gzip.decompress(stored)
            if not self.person.may_be_in(ndjson):
                return Change(len(stored))
            lines = [(line, _decode(line)) for line in ndjson.splitlines(keepends=True)]
        except (OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
            return Change(len(stored), problem=f"gs://{blob.bucket.name}/{blob.name}: {error}")
        left = [(line, envelope) for line, envelope in lines if not self.person.owns(envelope.message().data)]
        change = Change(len(stored), removed=len(lines) - len(left), left=len(left))
        if change.removed and not self.dry_run:
            self._put(blob, left)
        return change

    def _put(self, blob: Blob, left: Sequence[tuple[bytes, Envelope]]) -> None:
        if not left:
            blob.delete(if_generation_match=blob.generation)
            return
        rewritten = blob.bucket.blob(blob.name)
        rewritten.metadata = archive.counts((envelope.event_type for _, envelope in left), event_types())
        rewritten.storage_class = blob.storage_class
        rewritten.upload_from_string(
            gzip.compress(b"".join(line for line, _ in left), compresslevel=1),
            content_type=blob.content_type,
            if_generation_match=blob.generation,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What became of an object: its stored bytes, envelopes removed and left, or why it cannot be read."""

    size: int
    removed: int = 0
    left: int = 0
    problem: str | None = None


_decode = functools.partial(msgspec.json.decode, type=Envelope)
