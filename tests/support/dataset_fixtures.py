"""Datasets that are there while a test needs them."""

import contextlib
from collections.abc import Iterator

from google.cloud import bigquery

from functions.schema.definitions import Kind, definitions
from functions.settings import Settings


@contextlib.contextmanager
def made(client: bigquery.Client, settings: Settings, *, views: bool = True) -> Iterator[None]:
    """Both datasets as `sql/` defines them, while the context lasts; the views take longer than all else."""
    with dropped(client, settings):
        for definition in definitions(client.project, settings):
            if views or definition.kind is not Kind.VIEW:
                client.query_and_wait(definition.ddl)
        yield


@contextlib.contextmanager
def dropped(client: bigquery.Client, settings: Settings) -> Iterator[None]:
    """Drop both datasets in the end: with each table that the emulator has, all that it does takes longer."""
    try:
        yield
    finally:
        for dataset in (settings.dataset, settings.historical_dataset):
            client.delete_dataset(dataset, delete_contents=True, not_found_ok=True)
