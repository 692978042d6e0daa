"""The functions deployed on the emulators, and what they have written."""

import collections
import contextlib
from collections.abc import Callable

from google.cloud import bigquery

from functions.clients import bigquery_client, storage_client
from sluice.demo.check import ArchiveFollower, WarehouseContents, read_warehouse
from sluice.local.stack import Stack
from tests.support.waiting import wait_until

type Deploy = Callable[..., contextlib.AbstractContextManager[Stack]]


class Warehouse:
    """Looks into the dataset and the archive of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.settings = stack.settings
        self.dataset = stack.settings.dataset
        self.client: bigquery.Client = bigquery_client(stack.settings)
        self._reader = ArchiveFollower(storage_client(stack.settings), stack.settings.archive_bucket)
        self._archived: dict[str, list[bytes]] = collections.defaultdict(list)

    def query(self, sql: str) -> list[bigquery.Row]:
        """Rows of a query; `{dataset}` is the stack's."""
        return list(self.client.query_and_wait(sql.format(dataset=self.dataset)))

    def accounts(self) -> WarehouseContents:
        """All event ids."""
        return read_warehouse(self.client, self.dataset)

    def archived(self) -> dict[str, list[bytes]]:
        """Payloads in the archive by event id."""
        for envelope in self._reader.new_envelopes():
            self._archived[envelope.event_id].append(envelope.message().data)
        return self._archived

    def stored(self) -> int:
        """Return the number of rows and dead letters, with duplicates; costs the emulator much less than `accounts`."""
        tables = self.client.list_tables(self.dataset)
        return sum(self.client.get_table(table).num_rows or 0 for table in tables if table.table_type == "TABLE")

    def wait_for(self, events: int) -> WarehouseContents:
        """Wait until so many events are rows or dead letters."""
        accounts = WarehouseContents({}, {})

        def complete() -> bool:
            nonlocal accounts
            if self.stored() < events:
                return False
            accounts = self.accounts()
            return len(accounts.accepted | accounts.dead) >= events

        wait_until(complete, f"{events} events are stored", self.stored, pause=0.3)
        return accounts
