"""What the unit tests share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.archive import Archive
from functions.clients import bigquery_client, storage_client
from functions.commit import GroupCommit
from functions.settings import Settings
from functions.warehouse import Warehouse
from tests.unit import cloud as stand_in
from tests.unit.cloud import Cloud


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """BigQuery and Cloud Storage, as the clients find them."""
    with stand_in.running() as running:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", running.url)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
        yield running


def settings(**changes: Any) -> Settings:
    """Settings of the tests."""
    return Settings(archive_bucket="archive", google_cloud_project="project", **changes)


@pytest.fixture
def group_commit(cloud: Cloud) -> Callable[..., GroupCommit]:
    """Makes a group commit with the given settings."""

    def make(**changes: Any) -> GroupCommit:
        chosen = settings(**changes)
        archive = Archive(storage_client(chosen), chosen.archive_bucket, {"order", "inventory", "user_activity"})
        return GroupCommit(archive, Warehouse(bigquery_client(chosen), chosen.dataset), chosen)

    return make
