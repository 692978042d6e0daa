"""One set of emulators for each worker. Each module deploys the functions on it in a dataset of its own."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import pytest

from functions.clients import bigquery_client
from functions.settings import Settings
from sluice.local.stack import PROJECT, Emulators, Stack, deployed, emulators
from tests.support.dataset_fixtures import dropped
from tests.support.deployed_stack import Deploy, Warehouse
from tests.support.shop import Shop, open_shop


@contextlib.contextmanager
def _found(running: Emulators) -> Iterator[None]:
    """Let the clients of this process find the emulators while the context lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def _emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    with emulators(tmp_path_factory.mktemp("emulators")) as running:
        yield running


@pytest.fixture(scope="module")
def running_emulators(_emulators: Emulators) -> Iterator[Emulators]:
    """All three emulators, which clients of this process find."""
    with _found(_emulators):
        yield _emulators


@pytest.fixture(scope="module")
def deploy(running_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Deploys the functions under a name, with settings. A name is used once for each set of emulators."""

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


@pytest.fixture(scope="module")
def stack(deploy: Deploy, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The functions with the default settings; they end with the module, and load the machine no longer."""
    with deploy(request.module.__name__.rpartition(".")[2]) as running:
        yield running


@pytest.fixture(scope="module")
def warehouse(stack: Stack) -> Warehouse:
    """The data that `stack` has written."""
    return Warehouse(stack)


@pytest.fixture(scope="module")
def logs(stack: Stack) -> Callable[[], str]:
    """Reads the log of `stack`'s ingest function."""
    log: pathlib.Path = stack.ingest.child.log
    return log.read_text


@pytest.fixture(scope="session")
def _shop(_emulators: Emulators) -> Iterator[Shop]:
    chosen = Settings(
        archive_bucket="shop", google_cloud_project=PROJECT, dataset="shop", historical_dataset="shop_historical"
    )
    with _found(_emulators):
        client = bigquery_client(chosen)
    with open_shop(client, chosen) as opened:
        yield opened


@pytest.fixture(scope="module")
def shop(_shop: Shop, running_emulators: Emulators) -> Shop:
    """Datasets full of a shop's events; for tests that change nothing in them."""
    del running_emulators
    return _shop
