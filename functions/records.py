"""Records: the rows and dead letters of the warehouse, by the objects of the archive that they name, or by event."""

import heapq
import operator
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from functions import dead_letter
from functions.definitions import LATEST_FIRST
from functions.events import event_types
from functions.settings import Settings

_ROWS_OF_OBJECTS = """
SELECT * FROM (
  SELECT
    {columns}ingest.event_id AS _event_id, ingest.message_id AS _message_id, ingest.archive_uri AS _archive_uri,
    ROW_NUMBER() OVER (PARTITION BY event_date, ingest.event_id ORDER BY {latest_first}) > 1 AS _is_duplicate,
    {conflicting} AS _is_conflicting
  FROM `{table}`
  WHERE event_date BETWEEN DATE_SUB(DATE(@arrival), INTERVAL 1 DAY) AND DATE_ADD(DATE(@arrival), INTERVAL 1 DAY)
)
WHERE _archive_uri BETWEEN @first AND @last
ORDER BY _archive_uri
"""
_DEAD_LETTERS_OF_OBJECTS = """
SELECT
  {columns}event_id AS _event_id, message_id AS _message_id, archive_uri AS _archive_uri, event_type AS _event_type
FROM `{table}`
WHERE DATE(failed_at) >= DATE_SUB(DATE(@arrival), INTERVAL 1 DAY) AND archive_uri BETWEEN @first AND @last
ORDER BY _archive_uri
"""
_ROWS_OF_EVENTS = """
SELECT
  {columns}ingest.event_id AS _event_id, ingest.message_id AS _message_id, ingest.archive_uri AS _archive_uri,
  FALSE AS _is_duplicate, {conflicting} AS _is_conflicting,
  ingest.publish_time AS _publish_time, ingest.content_digest AS _content_digest,
  ingest.schema_version AS _schema_version
FROM `{table}`
WHERE ingest.event_id IN UNNEST(@ids)
"""
_DEAD_LETTERS_OF_EVENTS = """
SELECT
  {columns}event_id AS _event_id, message_id AS _message_id, archive_uri AS _archive_uri, event_type AS _event_type,
  publish_time AS _publish_time, content_digest AS _content_digest
FROM `{table}`
WHERE event_id IN UNNEST(@ids)
"""
_CONFLICTING = "COUNT(DISTINCT ingest.content_digest) OVER (PARTITION BY ingest.event_id, ingest.schema_version) > 1"
"""Whether rows of an event id differ in content; digests of two versions of a contract cannot be compared."""

_ROWS_OF_A_PAGE = 5_000
"""A page of every table is in memory at once; BigQuery's own are as large as an answer may be."""


class Record(NamedTuple):
    """A row or a dead letter.

    Attributes:
        event_id: Its event.
        event_type: The type of its table; of a dead letter what that says, if anything.
        message_id: Pub/Sub's id of the message that brought it.
        archive_uri: The object that it names.
        is_dead_letter: What it is.
        is_duplicate: Whether another row of its event and day counts; known of the records of objects only.
        is_conflicting: Whether another row has its event id and another content; of the records of objects, another row
            of the same days.
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
    def publish_time(self) -> datetime:
        """When Pub/Sub accepted the message; known of the records of events only."""
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


class Records:
    """All event tables, live and historical, and the dead letters.

    Args:
        client: Client of their project.
        settings: Datasets.
        with_columns: Read the whole records, too.
    """

    def __init__(self, client: bigquery.Client, settings: Settings, *, with_columns: bool = False) -> None:
        self._client = client
        self._columns = "*, " if with_columns else ""
        datasets = (settings.dataset, settings.historical_dataset)
        self._tables = {
            f"{dataset}.{event_type.table}": name for name, event_type in event_types().items() for dataset in datasets
        }
        self._dead_letters = f"{settings.dataset}.{dead_letter.TABLE}"

    def of_objects(self, arrival: datetime, first: str, last: str) -> Iterator[Record]:
        """The records that name an object, in the order of the objects' addresses.

        Rows dated more than a day before or after `arrival` are left out: all partitions would have to be read.

        Args:
            arrival: When the objects arrived, with a time zone.
            first: Address that sorts before all of them.
            last: Address that sorts after all of them.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery refused or did not answer.
        """
        parameters = [
            ScalarQueryParameter("arrival", "TIMESTAMP", arrival),
            ScalarQueryParameter("first", "STRING", first),
            ScalarQueryParameter("last", "STRING", last),
        ]
        results = self._ask(_ROWS_OF_OBJECTS, _DEAD_LETTERS_OF_OBJECTS, parameters)
        return heapq.merge(*results, key=operator.attrgetter("archive_uri"))

    def of_events(self, event_ids: Sequence[str]) -> Iterator[Record]:
        """All records of some events, whatever their dates; reads a column of every table.

        Args:
            event_ids: As many as a request can have, which is 10 MB at most
                (https://cloud.google.com/bigquery/quotas#query_jobs).

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery refused or did not answer.
        """
        parameters = [ArrayQueryParameter("ids", "STRING", event_ids)]
        for result in self._ask(_ROWS_OF_EVENTS, _DEAD_LETTERS_OF_EVENTS, parameters):
            yield from result

    def _ask(
        self, rows: str, dead_letters: str, parameters: Sequence[ArrayQueryParameter | ScalarQueryParameter]
    ) -> list[Iterator[Record]]:
        """Ask all tables at once."""
        config = bigquery.QueryJobConfig(query_parameters=parameters)
        names = {"columns": self._columns, "latest_first": LATEST_FIRST, "conflicting": _CONFLICTING}
        texts = [rows.format(table=table, **names) for table in self._tables]
        texts.append(dead_letters.format(table=self._dead_letters, columns=self._columns))
        jobs = [self._client.query(text, job_config=config) for text in texts]
        results = [job.result(page_size=_ROWS_OF_A_PAGE) for job in jobs]
        found = [_rows(result, name) for result, name in zip(results, self._tables.values(), strict=False)]
        return [*found, _letters(results[-1])]


def _rows(result: Iterable[bigquery.Row], event_type: str) -> Iterator[Record]:
    for row in result:
        duplicate, conflicting = row["_is_duplicate"], row["_is_conflicting"]
        names = row["_event_id"], event_type, row["_message_id"], row["_archive_uri"]
        yield Record(*names, False, duplicate, conflicting, row)


def _letters(result: Iterable[bigquery.Row]) -> Iterator[Record]:
    for row in result:
        names = row["_event_id"], row["_event_type"], row["_message_id"], row["_archive_uri"]
        yield Record(*names, True, False, False, row)
