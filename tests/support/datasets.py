"""Datasets and an archive of a test's own, without functions."""

import asyncio
import contextlib
import dataclasses
import gzip
import pathlib
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import httpx
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope, read_envelopes
from functions.archive.writer import Archive
from functions.clients import bigquery_client, storage_client
from functions.core.contracts import Contracts
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.files.sources import find
from functions.ingest.flush import FlushServices
from functions.ingest.group_commit import GroupCommit
from functions.ingest.http_client import bigquery_api, storage_api
from functions.ingest.warehouse import Warehouse
from functions.settings import Settings
from sluice.backfill.events import EventReader
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import Backfill, BackfillReport
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from tests.support.dataset_fixtures import made


@dataclasses.dataclass(frozen=True)
class Datasets:
    """The live and the historical dataset, and the archive."""

    settings: Settings
    client: bigquery.Client
    storage: StorageClient

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables for a command; the emulators' own ones are in the test's environment."""
        return {
            "ARCHIVE_BUCKET": self.settings.archive_bucket,
            "DATASET": self.settings.dataset,
            "HISTORICAL_DATASET": self.settings.historical_dataset,
        }

    def archive(self) -> Archive:
        return Archive(storage_api(), self.settings.archive_bucket, Contracts.load().event_types)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of `live.TABLE` or `historical.TABLE`."""
        names = {"live": self.settings.dataset, "historical": self.settings.historical_dataset}
        dataset, _, name = table.partition(".")
        return [dict(row) for row in self.client.query_and_wait(f"SELECT * FROM `{names[dataset]}.{name}`")]

    def ids(self, table: str) -> list[str]:
        """Event ids of all rows, sorted."""
        return sorted(row["ingest"]["event_id"] for row in self.rows(table))

    def objects(self) -> dict[str, list[Envelope]]:
        """The archive: envelopes by address."""
        blobs = self.storage.list_blobs(self.settings.archive_bucket, prefix="raw/")
        return {
            f"gs://{self.settings.archive_bucket}/{blob.name}": read_envelopes(
                gzip.decompress(blob.download_as_bytes())
            )
            for blob in blobs
        }

    def backfill(
        self, *sources: str | pathlib.Path, now: datetime, dry_run: bool = False, version: int | None = None
    ) -> BackfillReport:
        """Run a backfill in this process."""
        read = EventReader.from_settings(self.settings, now, version)
        run = Backfill(read, LoadJobs.open(self.client, self.settings), None if dry_run else self.archive())
        return run(find([str(source) for source in sources], lambda: self.storage))

    def stream(self, messages: Sequence[Message], now: datetime) -> None:
        """Take messages as `ingest` does."""
        process = EventPipeline.from_settings(self.settings)
        warehouse = Warehouse(bigquery_api(), PROJECT, self.settings.dataset)
        services = FlushServices(lambda message, _: process(message, now), self.archive(), warehouse)
        commit = GroupCommit(services, self.settings)

        async def all_of_them() -> None:
            await asyncio.gather(*(commit(message) for message in messages))

        asyncio.run(all_of_them())


@contextlib.contextmanager
def fresh_datasets(on: Emulators, *, views: bool = False) -> Iterator[Datasets]:
    """Datasets of a test's own, while the context lasts."""
    name = f"d{uuid.uuid4().hex[:12]}"
    chosen = Settings(
        archive_bucket=f"archive-{name}",
        google_cloud_project=PROJECT,
        dataset=f"live_{name}",
        historical_dataset=f"historical_{name}",
        code_version="tests",
    )
    body = {"name": chosen.archive_bucket}
    httpx.post(f"{on.storage}/storage/v1/b?project={PROJECT}", json=body).raise_for_status()
    client = bigquery_client(chosen)
    with made(client, chosen, views=views):
        yield Datasets(chosen, client, storage_client(chosen))
