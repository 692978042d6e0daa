"""Records: the rows and dead letters of the warehouse, by the objects of the archive that they name, or by event.

What BigQuery bills are the columns that a query names, of all the partitions that its filter on the partition leaves:
each query here has one, but `of_events` for events of any day.
"""

import heapq
import itertools
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

import msgspec
from google.cloud import bigquery

from functions.archive import delivery
from functions.events import event_types
from functions.schema.definitions import LATEST_FIRST
from functions.settings import Settings
from functions.sql import Parameter, query_config, render
from functions.system import SYSTEM, System
from functions.tables import Tables

_CONFLICTING = "COUNT(DISTINCT ingest.content_digest) OVER (PARTITION BY ingest.event_id, ingest.schema_version) > 1"
"""True where rows of an event id differ in content; digests of two versions of a contract cannot be compared."""

MAX_NAMED_CONFLICTS = 20
"""Maximum number of events with a conflict that are named for an object and a table; all are counted."""

_ROWS_OF_DAYS = """
  SELECT
    {{ columns }}ingest.event_id AS _event_id, ingest.message_id AS _message_id, ingest.archive_uri AS _archive_uri,
    event_date AS _day, {{ row_digest }} AS _digest,
    ROW_NUMBER() OVER (PARTITION BY event_date, ingest.event_id ORDER BY {{ latest_first }}) > 1 AS _is_duplicate,
    {{ conflicting }} AS _is_conflicting
  FROM `{{ table }}`
  WHERE event_date IN UNNEST(@days)
"""
_DEAD_LETTERS_OF_DAYS = """
  SELECT
    {{ columns }}event_id AS _event_id, message_id AS _message_id, archive_uri AS _archive_uri,
    event_type AS _event_type, DATE(failed_at) AS _day, {{ letter_digest }} AS _digest
  FROM `{{ table }}`
  WHERE DATE(failed_at) IN UNNEST(@days)
"""
_EACH = """
SELECT * FROM ({{ records }})
WHERE _archive_uri BETWEEN @first AND @last
ORDER BY _archive_uri
"""
_ROWS_SUMMED_UP = """
SELECT
  _archive_uri, COUNT(*) AS _count, SUM(DISTINCT _digest) AS _digest,
  COUNTIF(_is_duplicate) AS _duplicates, COUNTIF(_is_conflicting) AS _conflicts,
  STRING_AGG(
    IF(_is_conflicting, TO_JSON_STRING([_event_id, _message_id]), NULL), ',' LIMIT {{ max_named_conflicts }}
  ) AS _conflicting
FROM ({{ records }})
WHERE _archive_uri BETWEEN @first AND @last
GROUP BY _archive_uri
ORDER BY _archive_uri
"""
_DEAD_LETTERS_SUMMED_UP = """
SELECT _archive_uri, _event_type, COUNT(*) AS _count, SUM(DISTINCT _digest) AS _digest
FROM ({{ records }})
WHERE _archive_uri BETWEEN @first AND @last
GROUP BY _archive_uri, _event_type
ORDER BY _archive_uri
"""
_ROWS_OF_EVENTS = """
SELECT
  {{ columns }}ingest.event_id AS _event_id, ingest.message_id AS _message_id, ingest.archive_uri AS _archive_uri,
  event_date AS _day, FALSE AS _is_duplicate, {{ conflicting }} AS _is_conflicting,
  ingest.publish_time AS _publish_time, ingest.content_digest AS _content_digest,
  ingest.schema_version AS _schema_version
FROM `{{ table }}`
WHERE {{ of_days }} AND ingest.event_id IN UNNEST(@ids)
"""
_DEAD_LETTERS_OF_EVENTS = """
SELECT
  {{ columns }}event_id AS _event_id, message_id AS _message_id, archive_uri AS _archive_uri, event_type AS _event_type,
  DATE(failed_at) AS _day, publish_time AS _publish_time, content_digest AS _content_digest
FROM `{{ table }}`
WHERE DATE(failed_at) >= @since AND event_id IN UNNEST(@ids)
"""
_decode_names = msgspec.json.Decoder(list[tuple[str, str]]).decode

_NAMES = {
    "row_digest": delivery.digest_sql("ingest.event_id", "ingest.message_id"),
    "letter_digest": delivery.digest_sql("event_id", "message_id"),
    "latest_first": LATEST_FIRST,
    "conflicting": _CONFLICTING,
    "max_named_conflicts": MAX_NAMED_CONFLICTS,
}

_ROWS_OF_A_PAGE = 5_000
"""A page of every table is in memory at once; BigQuery's own are as large as an answer may be."""


class StoredRecord(NamedTuple):
    """A row or a dead letter.

    Attributes:
        event_id: Its event.
        event_type: The type of its table; of a dead letter what that says, if anything.
        message_id: Pub/Sub's id of the message that brought it.
        archive_uri: The object that it names.
        is_dead_letter: What it is.
        is_duplicate: Whether another row of its event and day counts; known of the records of objects only.
        is_conflicting: Whether another row of the days that were read has its event id and another content.
        columns: All of it where that was asked for, besides.
    """

    event_id: str
    event_type: str | None
    message_id: str
    archive_uri: str
    is_dead_letter: bool
    is_duplicate: bool
    is_conflicting: bool
    columns: bigquery.Row

    @property
    def day(self) -> date:
        """Its partition: the date of a row's event, or on which the dead letter was rejected."""
        day: date = self.columns["_day"]
        return day

    @property
    def publish_time(self) -> datetime:
        """The time at which Pub/Sub accepted the message; only records of events have it."""
        time: datetime = self.columns["_publish_time"]
        return time

    @property
    def content_digest(self) -> str | None:
        """Digest of the content; known of the records of events only, None of older code."""
        digest: str | None = self.columns["_content_digest"]
        return digest

    @property
    def schema_version(self) -> int:
        """The version of a row's contract; known of the records of events only."""
        version: int = self.columns["_schema_version"]
        return version


class ObjectRecords(NamedTuple):
    """The rows of a table, or the dead letters of a type, that name one object of the archive.

    Attributes:
        archive_uri: The object.
        event_type: The type of the table; of dead letters what they say, if anything.
        are_dead_letters: What they are.
        records: How many they are.
        digest: Sum of the digests of their deliveries, each once.
        duplicates: Those that do not count, because another row of their event and day does.
        conflicts: Those whose event id also has rows with another content on the days that were read.
        conflicting: Event id and message id of the first of these.
        each: Every one of them where the columns were asked for, else none.
    """

    archive_uri: str
    event_type: str | None
    are_dead_letters: bool
    records: int
    digest: int
    duplicates: int = 0
    conflicts: int = 0
    conflicting: Sequence[tuple[str, str]] = ()
    each: Sequence[StoredRecord] = ()


class EventsOfDays(NamedTuple):
    """Events of a type, and where their rows may be.

    Attributes:
        event_ids: Their ids.
        days: The days whose rows are read; None for all days, which costs most.
    """

    event_ids: Collection[str]
    days: Collection[date] | None


type _Parameters = Mapping[str, Parameter]


class Records:
    """All event tables, live and historical, and the dead letters.

    Args:
        client: Client of their project.
        settings: Datasets.
        with_columns: Whether to read all columns of the records.
        system: The machine.
    """

    def __init__(
        self, client: bigquery.Client, settings: Settings, *, with_columns: bool = False, system: System = SYSTEM
    ) -> None:
        self._now = system.now
        self._client = client
        self._settings = settings
        self._with_columns = with_columns
        self._columns = "*, " if with_columns else ""
        self._tables = {name: event_type.table for name, event_type in event_types().items()}
        self._names = Tables(settings)

    def of_objects(self, days: Collection[date], first: str, last: str) -> Iterator[ObjectRecords]:
        """Return the records that name an object, in the order of the objects' addresses.

        Args:
            days: The only days whose rows and dead letters are read.
            first: Address that sorts before all of them.
            last: Address that sorts after all of them.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected a request or did not answer.
        """
        parameters = {"days": ("ARRAY<DATE>", sorted(days)), "first": ("STRING", first), "last": ("STRING", last)}
        rows, letters = (_EACH, _EACH) if self._with_columns else (_ROWS_SUMMED_UP, _DEAD_LETTERS_SUMMED_UP)
        tables = [(name, table) for name in self._tables for table in self._tables_with(name, days)]
        texts = [self._text(rows, table, records=self._text(_ROWS_OF_DAYS, table)) for _, table in tables]
        letters_of_days = self._text(_DEAD_LETTERS_OF_DAYS, self._names.dead_letters)
        texts.append(self._text(letters, self._names.dead_letters, records=letters_of_days))
        *of_tables, of_letters = self._ask([(text, parameters) for text in texts])
        sum_up = self._group if self._with_columns else self._read_sums
        results = [sum_up(result, name) for result, (name, _) in zip(of_tables, tables, strict=True)]
        return heapq.merge(*results, sum_up(of_letters, None), key=operator.attrgetter("archive_uri"))

    def of_events(
        self, events: Mapping[str, EventsOfDays], dead_letters: Collection[str] = (), since: date = date.min
    ) -> Iterator[StoredRecord]:
        """Return the records of some events.

        All ids together must fit into a request, which has 10 MB at most
        (https://cloud.google.com/bigquery/quotas#query_jobs).

        Args:
            events: The events whose rows are returned, by their type.
            dead_letters: Ids of the events whose dead letters are returned.
            since: The first day whose dead letters are read.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected a request or did not answer.
        """
        queries: list[tuple[str, _Parameters]] = []
        event_type_of: list[str] = []
        for event_type, (event_ids, days) in events.items():
            parameters: dict[str, Parameter] = {"ids": ("ARRAY<STRING>", sorted(event_ids))}
            condition = "TRUE"
            if days is not None:
                parameters["days"] = ("ARRAY<DATE>", sorted(days))
                condition = "event_date IN UNNEST(@days)"
            for table in self._names.both(self._tables[event_type]):
                queries.append((self._text(_ROWS_OF_EVENTS, table, of_days=condition), parameters))
                event_type_of.append(event_type)
        if dead_letters:
            parameters = {"ids": ("ARRAY<STRING>", sorted(dead_letters)), "since": ("DATE", since)}
            queries.append((self._text(_DEAD_LETTERS_OF_EVENTS, self._names.dead_letters), parameters))
        results = self._ask(queries)
        for result, event_type in zip(results, event_type_of, strict=False):
            yield from (_row(row, event_type) for row in result)
        for result in results[len(event_type_of) :]:
            yield from map(_letter, result)

    def _tables_with(self, event_type: str, days: Collection[date]) -> Iterator[str]:
        """Yield the tables that have rows of some days.

        The live table has what has not expired; the historical one may have copies of it, and has what has expired.
        """
        expired = self._now().date() - timedelta(days=self._settings.retention_days)
        table = self._tables[event_type]
        if any(day >= expired for day in days):
            yield self._names.live(table)
        if any(day <= expired for day in days):
            yield self._names.historical(table)

    def _text(self, text: str, table: str, **names: str) -> str:
        return render(text, table=table, columns=self._columns, **_NAMES, **names)

    def _ask(self, queries: Sequence[tuple[str, _Parameters]]) -> list[Iterable[bigquery.Row]]:
        """Run queries concurrently."""
        jobs = [self._client.query(text, job_config=query_config(**parameters)) for text, parameters in queries]
        return [job.result(page_size=_ROWS_OF_A_PAGE) for job in jobs]

    @staticmethod
    def _read_sums(result: Iterable[bigquery.Row], table_type: str | None) -> Iterator[ObjectRecords]:
        """Yield the sums that a query returns.

        Args:
            result: Its rows.
            table_type: The event type of the table; None for dead letters.
        """
        for row in result:
            uri, count, digest = row["_archive_uri"], row["_count"], row["_digest"]
            if table_type is None:
                yield ObjectRecords(uri, row["_event_type"], True, count, digest)
            else:
                conflicting = _decode_names(f"[{row['_conflicting'] or ''}]")
                conflicts = row["_conflicts"], conflicting
                yield ObjectRecords(uri, table_type, False, count, digest, row["_duplicates"], *conflicts)

    @staticmethod
    def _group(result: Iterable[bigquery.Row], table_type: str | None) -> Iterator[ObjectRecords]:
        """Sum up records that come with their columns, as the queries do it without."""
        for uri, rows in itertools.groupby(result, key=operator.itemgetter("_archive_uri")):
            by_type: dict[str | None, list[StoredRecord]] = {}
            for row in rows:
                record = _letter(row) if table_type is None else _row(row, table_type)
                by_type.setdefault(record.event_type, []).append(record)
            for event_type, records in by_type.items():
                conflicting = [record for record in records if record.is_conflicting]
                yield ObjectRecords(
                    archive_uri=uri,
                    event_type=event_type,
                    are_dead_letters=table_type is None,
                    records=len(records),
                    digest=sum({record.columns["_digest"] for record in records}),
                    duplicates=sum(record.is_duplicate for record in records),
                    conflicts=len(conflicting),
                    conflicting=[(record.event_id, record.message_id) for record in conflicting[:MAX_NAMED_CONFLICTS]],
                    each=records,
                )


def _row(row: bigquery.Row, event_type: str) -> StoredRecord:
    names = row["_event_id"], event_type, row["_message_id"], row["_archive_uri"]
    return StoredRecord(*names, False, row["_is_duplicate"], row["_is_conflicting"], row)


def _letter(row: bigquery.Row) -> StoredRecord:
    names = row["_event_id"], row["_event_type"], row["_message_id"], row["_archive_uri"]
    return StoredRecord(*names, True, False, False, row)
