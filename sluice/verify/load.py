"""Publishes events for a while, and reads what the tables have of them: none may be missing."""

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.settings import Settings
from functions.sql import query_config, render
from functions.tables import Tables, event_tables
from sluice.publish import Publication, publish
from sluice.smoke import Probe, Remains, Smoke, oldest_day

CHANGED = 5
"""Number of events that are published a second time, with another content."""
_CHANGED_AFTER = 60.0
"""Seconds until they are published again. BigQuery itself drops none of them: the insertId depends on the content."""

_ROWS = """
SELECT ingest.event_id AS event_id, COUNT(*) AS n, COUNT(DISTINCT ingest.content_digest) AS contents
FROM `{{ table }}`
WHERE event_date = @day AND STARTS_WITH(ingest.event_id, @run) GROUP BY event_id
"""


class Arrived(NamedTuple):
    """The rows that the tables have of an event.

    Attributes:
        rows: Number of its rows.
        contents: Number of different contents in them.
    """

    rows: int
    contents: int


class Load:
    """Events of the smoke test, many of them.

    Args:
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: The settings of the deployment.
        clock: Returns seconds, as `time.monotonic`.

    Attributes:
        run: The run, with which their ids begin.
        published: Ids of those that were given to Pub/Sub.
        changed: Ids of those that were published a second time.
    """

    def __init__(
        self,
        client: bigquery.Client,
        storage: StorageClient,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._settings = settings
        self._smoke = Smoke(client, storage, settings)
        self._clock = clock
        self._day = oldest_day(self._smoke.started, settings.retention_days)
        self.run = self._smoke.run
        self.published: set[str] = set()
        self.changed: set[str] = set()

    def publish(self, topic: str, rate: float, seconds: float) -> None:
        """Publish good events of all types, until the time is over and Pub/Sub has accepted them.

        Args:
            topic: Full name of the topic.
            rate: Events per second.
            seconds: The duration.

        Raises:
            One of `sluice.publish.FAILURES`: Pub/Sub did not take them.
        """
        publish(self._publications(self._clock() + seconds, min(_CHANGED_AFTER, seconds / 2)), topic, rate=rate)

    def _publications(self, end: float, change_after: float) -> Iterator[Publication]:
        good = [probe for probe in self._smoke.probes if probe.table in event_tables()]
        first: list[Probe] = []
        change_at = self._clock() + change_after
        for number, template in enumerate(itertools.cycle(good)):
            if self._clock() >= end:
                break
            probe = dataclasses.replace(template, event_id=f"{self.run}-{number}")
            if len(first) < CHANGED:
                first.append(probe)
            if self._clock() >= change_at and not self.changed:
                yield from self._changed(first)
            self.published.add(probe.event_id)
            yield probe.publication(self.run)

    def _changed(self, probes: list[Probe]) -> Iterator[Publication]:
        """Yield events with an unknown field more: another content under the same id."""
        for probe in probes:
            self.changed.add(probe.event_id)
            yield dataclasses.replace(probe, data=probe.data[:-1] + b', "again": true}').publication(self.run)

    def arrived(self) -> Mapping[str, Arrived]:
        """Return what the tables have of each event that has any row.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
        """
        tables = Tables(self._settings)
        query = "UNION ALL".join(render(_ROWS, table=tables.live(table)) for table in event_tables())
        config = query_config(day=("DATE", self._day), run=("STRING", self.run))
        rows = self._client.query_and_wait(query, job_config=config)
        return {row.event_id: Arrived(row.n, row.contents) for row in rows}

    def delete(self) -> list[Remains]:
        """Delete the rows, and return which are left: BigQuery deletes none that it streamed in just now."""
        return self._smoke.delete()
