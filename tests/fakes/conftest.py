"""Fixtures that the unit tests share."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fake_google import scripted
from fake_google.scripted import Cloud
from functions.archive.writer import Archive
from functions.ingest.flush import FlushServices
from functions.ingest.group_commit import GroupCommit
from functions.ingest.http_client import bigquery_api, storage_api
from functions.ingest.warehouse import Warehouse
from functions.system import System
from tests.support.samples import NOW, process
from tests.support.settings import settings


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """BigQuery and Cloud Storage, as the clients find them."""
    with scripted.running() as running:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", running.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def group_commit(cloud: Cloud) -> Callable[..., GroupCommit]:
    """Makes a group commit with the given settings, and a clock."""

    def make(clock: Callable[[], float] = time.monotonic, **changes: Any) -> GroupCommit:
        chosen = settings(**changes)
        archive = Archive(storage_api(), chosen.archive_bucket, {"order", "inventory", "user_activity"})
        warehouse = Warehouse(bigquery_api(), "project", chosen.dataset)
        system = System(monotonic=clock)
        services = FlushServices(lambda message, _: process(message, NOW), archive, warehouse, system=system)
        return GroupCommit(services, chosen)

    return make
