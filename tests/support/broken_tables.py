"""Tables that reject rows, or are missing, while a context lasts."""

import contextlib
from collections.abc import Iterator

from google.cloud import bigquery


@contextlib.contextmanager
def other_type(client: bigquery.Client, table: str) -> Iterator[None]:
    """Give the column for unknown fields another type, which rejects them."""
    client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
    client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN extras INT64")
    try:
        yield
    finally:
        client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
        client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN extras JSON")


@contextlib.contextmanager
def away(client: bigquery.Client, table: str) -> Iterator[None]:
    """Rename a table."""
    name = table.partition(".")[2]
    client.query_and_wait(f"ALTER TABLE `{table}` RENAME TO {name}_away")
    try:
        yield
    finally:
        client.query_and_wait(f"ALTER TABLE `{table}_away` RENAME TO {name}")
