"""What the unit tests share."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.archive import Archive
from functions.commit import GroupCommit
from functions.google_api import bigquery_api, storage_api
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
        archive = Archive(storage_api(), chosen.archive_bucket, {"order", "inventory", "user_activity"})
        return GroupCommit(archive, Warehouse(bigquery_api(), "project", chosen.dataset), chosen)

    return make
