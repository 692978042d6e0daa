"""Builds the backfill of a deployment, for each command that loads, repairs or replays events."""

import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Self

from google.cloud import bigquery

from functions.archive.writer import Archive
from functions.clients import bigquery_client
from functions.ingest.http_client import storage_api
from functions.settings import Settings
from sluice.backfill.events import EventReader
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import FAILURES, Backfill, Listener, call_in_order
from sluice.checkout import with_commit


@dataclasses.dataclass(frozen=True, slots=True)
class BackfillBuilder:
    """Builds the backfill of a deployment.

    Attributes:
        settings: The settings of the deployment.
        now: Time of the run, in UTC.
        client: Client of the datasets' project.
        read: Converts the lines into events.
        jobs: Loads what is not there; None in a dry run without BigQuery.
        archive: Archives the events; None in a dry run, which writes nothing.
    """

    settings: Settings
    now: datetime
    client: bigquery.Client
    read: EventReader
    jobs: LoadJobs | None
    archive: Archive | None

    @classmethod
    def connect(
        cls,
        settings: Settings,
        now: datetime,
        *,
        dry_run: bool,
        read: EventReader | None = None,
        on_failure: Callable[[Exception], object] | None = None,
    ) -> Self:
        """Connect to a deployment.

        Args:
            settings: The settings of the deployment.
            now: Time of the run, in UTC.
            dry_run: Whether nothing is written.
            read: Reads the lines; None to read them as the settings say.
            on_failure: Called if BigQuery does not answer in a dry run, which then takes no event for being there. None
                to raise the error, as outside a dry run.

        Raises:
            One of `FAILURES`: BigQuery rejected a request or did not answer.
        """
        settings = with_commit(settings)
        read = read or EventReader.from_settings(settings, now)
        client = bigquery_client(settings)
        jobs = None
        try:
            jobs = LoadJobs.open(client, settings)
        except FAILURES as error:
            if on_failure is None or not dry_run:
                raise
            on_failure(error)
        types = read.process.contracts.event_types
        archive = None if dry_run else Archive(storage_api(), settings.archive_bucket, types)
        return cls(settings, now, client, read, jobs, archive)

    def build(self, *listeners: Listener, rate: float | None = None) -> Backfill:
        """Return a run.

        Args:
            listeners: Called in their order with events that are durable; an error of one ends the call.
            rate: Maximum lines per second; None for as fast as they can be read.
        """
        return Backfill(self.read, self.jobs, self.archive, call_in_order(listeners) if listeners else None, rate)
