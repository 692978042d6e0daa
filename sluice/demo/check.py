"""Compare the archive with the tables and the dead letters, by event id."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope
from functions.archive.reader import ArchiveReader
from functions.core import dead_letters
from functions.sql import query_config, render
from functions.tables import event_tables

END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


class ArchiveFollower:
    """Reads the objects of an archive, each once.

    Args:
        client: Client of the bucket's project.
        bucket: Name of the bucket.
        since: First time of arrival; None for the first of all.
    """

    def __init__(self, client: StorageClient, bucket: str, since: datetime | None = None) -> None:
        self._archive = ArchiveReader(client, bucket)
        self._since = since
        self._read: set[str] = set()

    @property
    def objects(self) -> int:
        """Number of objects that have been read."""
        return len(self._read)

    def new_envelopes(self) -> Iterator[Envelope]:
        """Return the envelopes of the objects that came since the last call."""
        for archived in self._archive.objects(self._since):
            if archived.uri not in self._read:
                for original in archived.originals():
                    if original.uri not in self._read:
                        yield from original.envelopes()
                        self._read.add(original.uri)
                self._read.add(archived.uri)


@dataclasses.dataclass(frozen=True, slots=True)
class WarehouseContents:
    """Contents of the warehouse.

    Attributes:
        rows: Number of rows by event id, by table.
        dead_letters: Event ids by cause: stage and the rule of the first error.
    """

    rows: Mapping[str, Mapping[str, int]]
    dead_letters: Mapping[tuple[str, str], collections.Counter[str]]

    def __add__(self, other: "WarehouseContents") -> "WarehouseContents":
        """Add the contents of another time."""
        return WarehouseContents(_sum(self.rows, other.rows), _sum(self.dead_letters, other.dead_letters))

    @property
    def accepted(self) -> set[str]:
        """Ids of the events that became rows."""
        return {event_id for ids in self.rows.values() for event_id in ids}

    @property
    def repeated(self) -> int:
        """Number of rows and dead letters beyond the first of their event."""
        causes = self.dead_letters.values()
        rows = sum(sum(ids.values()) - len(ids) for ids in self.rows.values())
        return rows + sum(ids.total() - len(ids) for ids in causes)

    @property
    def dead(self) -> set[str]:
        """Ids of the events that became dead letters."""
        return {event_id for ids in self.dead_letters.values() for event_id in ids}


def _sum[K](
    first: Mapping[K, Mapping[str, int]], second: Mapping[K, Mapping[str, int]]
) -> dict[K, collections.Counter[str]]:
    names = first.keys() | second.keys()
    return {
        name: collections.Counter(first.get(name, {})) + collections.Counter(second.get(name, {})) for name in names
    }


_ROWS = """
SELECT '{{ table }}' AS name, ingest.event_id AS event_id, COUNT(*) AS n, CAST(NULL AS STRING) AS stage,
  CAST(NULL AS STRING) AS rule
FROM `{{ dataset }}.{{ table }}`
{{ "WHERE processed_timestamp >= @since AND processed_timestamp < @until" if since }}
GROUP BY event_id
"""
_DEAD_LETTERS = """
SELECT '{{ table }}' AS name, event_id, COUNT(*) AS n, stage, errors[OFFSET(0)].rule AS rule
FROM `{{ dataset }}.{{ table }}`
{{ "WHERE failed_at >= @since AND failed_at < @until" if since }}
GROUP BY event_id, stage, rule
"""


def read_warehouse(
    client: bigquery.Client, dataset: str, since: datetime | None = None, until: datetime = END_OF_TIME
) -> WarehouseContents:
    """Read the event ids of all tables of a dataset, in one query: it shows all of them at the same moment.

    Args:
        client: Client of the dataset's project.
        dataset: The dataset.
        since: First time of processing of the records; None for all records.
        until: End of these times, exclusive.
    """
    rows: dict[str, dict[str, int]] = {table: {} for table in event_tables()}
    causes: dict[tuple[str, str], collections.Counter[str]] = {}
    parts = [render(_ROWS, dataset=dataset, table=table, since=since) for table in rows]
    parts.append(render(_DEAD_LETTERS, dataset=dataset, table=dead_letters.TABLE, since=since))
    for row in client.query_and_wait(
        "UNION ALL".join(parts), job_config=query_config(since=("TIMESTAMP", since), until=("TIMESTAMP", until))
    ):
        if row.name == dead_letters.TABLE:
            causes.setdefault((row.stage, row.rule), collections.Counter())[row.event_id] += row.n
        else:
            rows[row.name][row.event_id] = row.n
    return WarehouseContents(rows, causes)
