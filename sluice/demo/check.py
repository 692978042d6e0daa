"""Compare the archive with the tables and the dead letters, by event id."""

import collections
import dataclasses
from collections.abc import Iterator
from datetime import datetime

from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope
from functions.archive.reader import ArchiveReader
from functions.core import dead_letters
from functions.sql import query_config, render
from functions.tables import event_tables


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
                yield from archived.envelopes()
                self._read.add(archived.uri)


@dataclasses.dataclass(frozen=True, slots=True)
class WarehouseContents:
    """Contents of the warehouse.

    Attributes:
        rows: Number of rows by event id, by table.
        dead_letters: Event ids by cause: stage and the rule of the first error.
    """

    rows: dict[str, dict[str, int]]
    dead_letters: dict[tuple[str, str], collections.Counter[str]]

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


_ROWS = """
SELECT '{{ table }}' AS name, ingest.event_id AS event_id, COUNT(*) AS n, CAST(NULL AS STRING) AS stage,
  CAST(NULL AS STRING) AS rule
FROM `{{ dataset }}.{{ table }}` {{ "WHERE processed_timestamp >= @since" if since }} GROUP BY event_id
"""
_DEAD_LETTERS = """
SELECT '{{ table }}' AS name, event_id, COUNT(*) AS n, stage, errors[OFFSET(0)].rule AS rule
FROM `{{ dataset }}.{{ table }}` {{ "WHERE failed_at >= @since" if since }} GROUP BY event_id, stage, rule
"""


def read_warehouse(client: bigquery.Client, dataset: str, since: datetime | None = None) -> WarehouseContents:
    """Read the event ids of all tables of a dataset, in one query: it shows all of them at the same moment.

    Args:
        client: Client of the dataset's project.
        dataset: The dataset.
        since: Time since which the records were written; None for all.
    """
    rows: dict[str, dict[str, int]] = {table: {} for table in event_tables()}
    causes: dict[tuple[str, str], collections.Counter[str]] = {}
    parts = [render(_ROWS, dataset=dataset, table=table, since=since) for table in rows]
    parts.append(render(_DEAD_LETTERS, dataset=dataset, table=dead_letters.TABLE, since=since))
    for row in client.query_and_wait("UNION ALL".join(parts), job_config=query_config(since=("TIMESTAMP", since))):
        if row.name == dead_letters.TABLE:
            causes.setdefault((row.stage, row.rule), collections.Counter())[row.event_id] += row.n
        else:
            rows[row.name][row.event_id] = row.n
    return WarehouseContents(rows, causes)
