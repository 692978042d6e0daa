"""The bootstrap, over HTTP, on a dataset of its own."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator

import httpx
import pytest
from google.cloud import bigquery

from functions.clients import bigquery_client
from functions.schema.definitions import definitions
from functions.settings import Settings
from sluice.local.functions import Function, serving
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from tests.support.dataset_fixtures import dropped
from tests.support.waiting import PATIENCE

type Serve = Callable[..., Function]


@pytest.fixture
def bootstrap(running_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Serves the bootstrap function for a dataset."""

    def make(dataset: str, **changes: str) -> Function:
        names = {"ARCHIVE_BUCKET": "bucket", "DATASET": dataset, "HISTORICAL_DATASET": f"{dataset}_historical"}
        environment = {**running_emulators.environment, **names, **changes}
        if "GOOGLE_CLOUD_PROJECT" not in changes:
            chosen = Settings.from_environment(environment)
            contexts.enter_context(dropped(bigquery_client(chosen), chosen))
        return contexts.enter_context(serving("bootstrap", tmp_path_factory.mktemp(dataset), environment, "bootstrap"))

    with contextlib.ExitStack() as contexts:
        yield make


@pytest.fixture
def client(running_emulators: Emulators) -> bigquery.Client:
    """Looks at what the bootstrap made."""
    return bigquery_client(Settings.from_environment({**running_emulators.environment, "ARCHIVE_BUCKET": "bucket"}))


def objects(dataset: str) -> list[str]:
    """Names of all objects of a dataset and its historical one."""
    settings = Settings(archive_bucket="bucket", dataset=dataset, historical_dataset=f"{dataset}_historical")
    return [definition.name for definition in definitions(PROJECT, settings)]


def changes(answer: httpx.Response) -> dict[str, str]:
    return {step["name"]: step["change"] for step in answer.json()["objects"]}


def test_bootstrap_plans_applies_and_then_changes_nothing(bootstrap: Serve) -> None:
    url = bootstrap("twice").url
    names = objects("twice")
    assert changes(httpx.get(url, timeout=PATIENCE)) == dict.fromkeys(names, "create")
    first = httpx.post(url, timeout=PATIENCE)
    assert (first.status_code, changes(first)) == (200, dict.fromkeys(names, "created"))
    second = httpx.post(url, timeout=PATIENCE)
    assert (second.status_code, changes(second)) == (200, dict.fromkeys(names, "unchanged"))
    assert changes(httpx.get(url, timeout=PATIENCE)) == dict.fromkeys(names, "unchanged")


@pytest.mark.check
def test_several_at_once_fail_nothing_and_create_each_object_once(bootstrap: Serve) -> None:
    url = bootstrap("at_once").url
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: httpx.post(url, timeout=PATIENCE), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
    made = [name for answer in answers for name, change in changes(answer).items() if change == "created"]
    assert sorted(made) == sorted(objects("at_once"))


def test_only_missing_objects_are_created(bootstrap: Serve, client: bigquery.Client) -> None:
    url = bootstrap("missing").url
    assert httpx.post(url, timeout=PATIENCE).status_code == 200
    client.delete_table("missing.orders_all")
    expected = {name: "create" if name == "missing.orders_all" else "unchanged" for name in objects("missing")}
    assert changes(httpx.get(url, timeout=PATIENCE)) == expected
    client.delete_table("missing.dead_letters")
    made = changes(httpx.post(url, timeout=PATIENCE))
    assert {name for name, change in made.items() if change == "created"} == {
        "missing.orders_all",
        "missing.dead_letters",
    }
    assert set(changes(httpx.get(url, timeout=PATIENCE)).values()) == {"unchanged"}


def test_error_of_bigquery_is_reported_for_each_object(bootstrap: Serve, running_emulators: Emulators) -> None:
    del running_emulators
    answer = httpx.post(bootstrap("wrong", GOOGLE_CLOUD_PROJECT="Not-A-Project").url, timeout=PATIENCE)
    assert answer.status_code == 500
    steps = answer.json()["objects"]
    assert {step["change"] for step in steps} == {"error"}
    assert all("Invalid project" in step["error"] for step in steps)


def test_other_http_methods_are_rejected(bootstrap: Serve) -> None:
    answer = httpx.put(bootstrap("method").url, timeout=PATIENCE)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


def test_the_tables_are_those_of_the_data_model(bootstrap: Serve, client: bigquery.Client) -> None:
    clustering = {
        "orders": ["customer_id", "status"],
        "inventory": ["product_id", "warehouse_id"],
        "user_activity": ["user_id", "activity_type"],
        "dead_letters": ["stage", "fingerprint"],
    }
    assert httpx.post(bootstrap("model", ENVIRONMENT="test").url, timeout=PATIENCE).status_code == 200
    historical = {f"model_historical.{name}" for name in clustering if name != "dead_letters"}
    for full_name in {f"model.{name}" for name in clustering} | historical:
        name = full_name.partition(".")[2]
        columns = clustering[name]
        table: bigquery.Table = client.get_table(full_name)
        assert table.clustering_fields == columns
        assert table.time_partitioning is not None
        days = None if full_name in historical else 90 * 86_400_000
        assert table.time_partitioning.expiration_ms == days
        assert table.time_partitioning.type_ == "DAY"
        assert table.time_partitioning.field == ("failed_at" if name == "dead_letters" else "event_date")
        assert table.labels == {
            "environment": "test",
            "managed_by": "cloud_function",
            "table_type": name,
            "assessment": "data_engineering",
        }
        assert table.description
        assert all(field.description for field in table.schema)
