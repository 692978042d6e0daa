"""Status of a running local stack: which processes live, and how much data there is."""

import os
from collections.abc import Mapping, Sequence

import msgspec

from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from sluice.local.data_folder import DataFolder, RunningStack
from sluice.local.faults import read_faults


class Status(msgspec.Struct, frozen=True):
    """Status of a stack.

    Attributes:
        stack: The stack, as it was started.
        ended: Names of the processes that have ended.
        broken: What is broken on purpose, by the console's page `Break it`.
        rows: Rows by table, each with its dataset.
        archive: The archive, as `gs://BUCKET`.
        objects: Number of its objects.
        archive_bytes: Their size.
    """

    stack: RunningStack
    ended: Sequence[str]
    broken: Sequence[str]
    rows: Mapping[str, int]
    archive: str
    objects: int
    archive_bytes: int


def status_of(stack: RunningStack, data: DataFolder) -> Status:
    """Return the status of a running stack.

    Args:
        stack: The stack.
        data: Its data folder.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: An emulator does not answer.
    """
    os.environ.update(stack.environment)
    settings = Settings.from_environment(stack.environment)
    client = bigquery_client(settings)
    rows = {
        f"{dataset}.{table.table_id}": client.get_table(table).num_rows or 0
        for dataset in (settings.dataset, settings.historical_dataset)
        for table in client.list_tables(dataset)
        if table.table_type == "TABLE"
    }
    sizes = [blob.size for blob in storage_client(settings).list_blobs(settings.archive_bucket)]
    broken = read_faults(data).active
    return Status(
        stack, ended_processes(stack), broken, rows, f"gs://{settings.archive_bucket}", len(sizes), sum(sizes)
    )


def ended_processes(stack: RunningStack) -> Sequence[str]:
    """Return the names of the processes of a stack that have ended."""
    return [process.name for process in stack.processes if not _lives(process.pid)]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
