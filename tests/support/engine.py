"""The BigQuery emulator's engine in the process of a test, without its server."""

import contextlib
import pathlib
from collections.abc import Iterator

import pytest
from local_bigquery.engine import database
from local_bigquery.settings import settings

from sluice.local.bigquery_server import install_extensions


@contextlib.contextmanager
def engine(home: pathlib.Path, project: str) -> Iterator[pytest.MonkeyPatch]:
    """Set up the engine with an empty project while the context lasts; what the given patch replaces comes back."""
    install_extensions(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setattr(settings, "data_dir", home / "data")
        patch.setattr(settings, "default_project_id", project)
        yield patch
        database.reset()
