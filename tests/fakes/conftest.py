"""Fixtures that the unit tests share."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.archive.writer import Archive
from functions.ingest.group_commit import GroupCommit
from functions.ingest.http_client import bigquery_api, storage_api
from functions.ingest.warehouse import Warehouse
from tests.support import fake_google as stand_in
from tests.support.fake_google import Cloud
from tests.support.samples import NOW, process
from tests.support.settings import settings


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """BigQuery and Cloud Storage, as the clients find them."""
    with stand_in.running() as running:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", running.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


@pytest.fixture
def group_commit(cloud: Cloud) -> Callable[..., GroupCommit]:
    """Makes a group commit with the given settings, and a clock."""

    def make(clock: Callable[[], float] = time.monotonic, **changes: Any) -> GroupCommit:
        chosen = settings(**changes)
        archive = Archive(storage_api(), chosen.archive_bucket, {"order", "inventory", "user_activity"})
        return GroupCommit(
            lambda message, _: process(message, NOW),
            archive,
            Warehouse(bigquery_api(), "project", chosen.dataset),
            chosen,
            clock,
        )

    return make
