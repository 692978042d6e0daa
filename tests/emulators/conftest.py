"""The emulators, started once; tests run the functions on them, each in a dataset of its own."""

import collections
import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator

import pytest
from google.cloud import bigquery

from functions.clients import bigquery_client, storage_client
from functions.settings import Settings
from ops.accounts import Accounts, ArchiveReader, read_accounts
from ops.stack.stack import PROJECT, Emulators, Stack, deployed, emulators
from tests.emulators.made import dropped
from tests.emulators.shop import Shop, open_shop

type Deploy = Callable[..., contextlib.AbstractContextManager[Stack]]


@pytest.fixture(scope="session")
def running_emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    """All three emulators, as the clients of this process find them."""
    with (
        pytest.MonkeyPatch.context() as patch,
        emulators(tmp_path_factory.mktemp("emulators")) as running,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture(scope="session")
def deploy(running_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Deploys the functions under a name, with settings."""

    @contextlib.contextmanager
    def make(name: str, **settings: str) -> Iterator[Stack]:
        folder = tmp_path_factory.mktemp(name)
        datasets = {"DATASET": name, "HISTORICAL_DATASET": f"{name}_historical"}
        environment = {**datasets, **settings}
        with (
            deployed(running_emulators, folder, environment, name.replace("_", "-")) as stack,
            dropped(bigquery_client(stack.settings), stack.settings),
        ):
            yield stack

    return make


@pytest.fixture(scope="session")
def stack(deploy: Deploy) -> Iterator[Stack]:
    """The functions with the default settings."""
    with deploy("whole_way") as running:
        yield running


class Warehouse:
    """Looks into the dataset and the archive of a stack."""

    def __init__(self, stack: Stack) -> None:
        self.dataset = stack.settings.dataset
        self.client: bigquery.Client = bigquery_client(stack.settings)
        self._reader = ArchiveReader(storage_client(stack.settings), stack.settings.archive_bucket)
        self._archived: dict[str, list[bytes]] = collections.defaultdict(list)

    def query(self, sql: str) -> list[bigquery.Row]:
        """Rows of a query; `{dataset}` is the stack's."""
        return list(self.client.query_and_wait(sql.format(dataset=self.dataset)))

    def accounts(self) -> Accounts:
        """All event ids."""
        return read_accounts(self.client, self.dataset)

    def archived(self) -> dict[str, list[bytes]]:
        """Payloads in the archive by event id."""
        for envelope in self._reader.new_envelopes():
            self._archived[envelope.event_id].append(envelope.message().data)
        return self._archived

    def stored(self) -> int:
        """How many rows and dead letters there are, with duplicates; costs the emulator much less than `accounts`."""
        tables = self.client.list_tables(self.dataset)
        return sum(self.client.get_table(table).num_rows or 0 for table in tables if table.table_type == "TABLE")

    def wait_for(self, events: int, seconds: float = 120) -> Accounts:
        """Wait until so many events are rows or dead letters."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.stored()
            if found >= events:
                accounts = self.accounts()
                found = len(accounts.accepted | accounts.dead)
                if found >= events:
                    return accounts
            assert time.monotonic() < deadline, f"{found} of {events} events after {seconds} s"
            time.sleep(0.3)


@pytest.fixture(scope="session")
def warehouse(stack: Stack) -> Warehouse:
    """What `stack` has written."""
    return Warehouse(stack)


@pytest.fixture(scope="session")
def logs(stack: Stack) -> Callable[[], str]:
    """Reads the log of `stack`'s ingest function."""
    log: pathlib.Path = stack.ingest.child.log
    return log.read_text


@pytest.fixture(scope="session")
def shop(running_emulators: Emulators) -> Iterator[Shop]:
    """Datasets full of a shop's events; for tests that change nothing in them."""
    del running_emulators
    chosen = Settings(
        archive_bucket="shop", google_cloud_project=PROJECT, dataset="shop", historical_dataset="shop_historical"
    )
    with open_shop(bigquery_client(chosen), chosen) as opened:
        yield opened
