"""Each file of `sql/` that is a query, on the emulator: what it runs, and what it cannot."""

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from functions.clients import bigquery_client
from functions.settings import Settings
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from sluice.queries import Query, queries
from tests.support.dataset_fixtures import made
from tests.support.emulator_gaps import CANNOT_RUN

CHOSEN: Mapping[str, Mapping[str, str]] = {
    "export_partition": {"partition": "20261123"},
    "replace_table": {"restored": "copy", "table": "orders"},
    "restore_as_of": {"table": "orders", "to": "as_of"},
    "restore_snapshot": {"snapshot": "kept", "to": "restored"},
    "snapshot": {"table": "orders", "snapshot": "taken"},
}
"""Parameters that have no default; `at` is the time when all tables were there."""


@dataclasses.dataclass(frozen=True)
class Bench:
    """Empty tables, a copy of one of them, and a snapshot."""

    client: bigquery.Client
    settings: Settings
    now: datetime

    def run(self, query: Query) -> None:
        at = {"at": self.now.isoformat()} if "at" in query.parameters else {}
        bound = query.bind(self.client.project, self.settings, {**CHOSEN.get(query.name, {}), **at})
        self.client.query_and_wait(bound.sql, job_config=bound.config())


@pytest.fixture(scope="module")
def bench(running_emulators: Emulators) -> Iterator[Bench]:
    del running_emulators
    settings = Settings(
        archive_bucket="maintenance",
        google_cloud_project=PROJECT,
        dataset="bench",
        historical_dataset="bench_historical",
    )
    client = bigquery_client(settings)
    with made(client, settings):
        client.query_and_wait(f"CREATE TABLE `{PROJECT}.bench.copy` CLONE `{PROJECT}.bench.orders`")
        client.query_and_wait(f"CREATE SNAPSHOT TABLE `{PROJECT}.bench_historical.kept` CLONE `{PROJECT}.bench.orders`")
        yield Bench(client, settings, datetime.now(UTC))


@pytest.mark.parametrize("query", queries().values(), ids=lambda query: query.name)
def test_emulator_runs_all_but_the_listed_queries(bench: Bench, query: Query) -> None:
    if lack := CANNOT_RUN.get(query.name):
        with pytest.raises(GoogleAPICallError, match=lack.match):
            bench.run(query)
    else:
        bench.run(query)


def test_listed_queries_exist() -> None:
    assert queries().keys() >= CANNOT_RUN.keys() | CHOSEN.keys()
