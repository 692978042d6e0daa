"""The bootstrap where BigQuery is away, slow, or changed by somebody else at the same time."""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.bigquery.retry import DEFAULT_RETRY
from starlette.requests import Request

from fake_google.answers import Answer, error
from fake_google.scripted import Cloud
from functions.clients import bigquery_client
from functions.schema import bootstrap
from functions.schema.bootstrap import Bootstrap, SchemaChange, Step
from functions.schema.ddl import declared_table
from functions.schema.definitions import FOLDER, Kind, definitions
from functions.schema.http import BootstrapApp
from tests.support.settings import settings
from tests.support.waiting import PATIENCE

ONE_ATTEMPT = bootstrap._Attempts(DEFAULT_RETRY.with_timeout(0.001), PATIENCE)
"""No error is retried, and an answer may take its time."""

OBJECTS = definitions("project", settings())
NAMES = [definition.name for definition in OBJECTS]


@pytest.fixture
def made(cloud: Cloud) -> Bootstrap:
    del cloud
    chosen = settings()
    return Bootstrap(bigquery_client(chosen), chosen)


@pytest.fixture
def live(cloud: Cloud) -> dict[str, dict[str, Any]]:
    """A warehouse that is as defined; answers the bootstrap's questions, and may be changed."""
    resources: dict[str, dict[str, Any]] = {}
    for definition in OBJECTS:
        dataset, _, table = definition.name.partition(".")
        reference = {"projectId": "project", "datasetId": dataset}
        match definition.kind:
            case Kind.DATASET:
                resources[f"/datasets/{dataset}"] = {"datasetReference": reference, "location": "us-central1"}
            case Kind.TABLE:
                resource = declared_table(definition.ddl).to_api_repr() | {"type": "TABLE", "etag": "1"}
                resources[f"/datasets/{dataset}/tables/{table}"] = resource
            case Kind.VIEW | Kind.EXTERNAL:
                reference |= {"tableId": table}
                labels = {"definition": definition.digest}
                table_type = "VIEW" if definition.kind is Kind.VIEW else "EXTERNAL"
                view = {"tableReference": reference, "type": table_type, "labels": labels}
                resources[f"/datasets/{dataset}/tables/{table}"] = view

    def answer(path: str) -> Answer:
        name = path.partition("?")[0].partition("/projects/project")[2]
        return (200, resources[name]) if name in resources else error(404, "notFound")

    cloud.on_get = answer
    return resources


ORDERS = "/datasets/dev_events_dataset/tables/orders"


def differing(steps: list[Step]) -> dict[str, Step]:
    return {step.name: step for step in steps if step.change is not SchemaChange.UNCHANGED}


def test_matching_warehouse_is_not_changed(made: Bootstrap, live: dict[str, dict[str, Any]]) -> None:
    assert len(live) == len(NAMES)
    assert differing(made.plan()) == {}
    assert differing(made.run()) == {}


def test_view_with_the_name_of_a_table_is_rejected(made: Bootstrap, live: dict[str, dict[str, Any]]) -> None:
    live[ORDERS] = {**live[ORDERS], "type": "VIEW"}
    assert differing(made.run()) == {
        "dev_events_dataset.orders": Step(
            "dev_events_dataset.orders", SchemaChange.REJECTED, error="a VIEW has this name"
        )
    }


def test_a_broken_file_prevents_every_creation(made: Bootstrap, cloud: Cloud, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "sql"
    shutil.copytree(made.folder, folder)
    (folder / "schema" / "orders.sql").write_text("CREATE {{ table")
    [step] = dataclasses.replace(made, folder=folder).run()
    assert (step.change, cloud.posted) == (SchemaChange.REJECTED, [])
    assert str(step.error).startswith("sql/schema/orders.sql: line 1: ")


def test_duplicate_name_prevents_every_creation(made: Bootstrap, cloud: Cloud, tmp_path: pathlib.Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "sql")
    (tmp_path / "sql" / "views" / "orders_all.sql").write_text("CREATE VIEW ...")
    clashing = dataclasses.replace(made, folder=tmp_path / "sql")
    for steps in (clashing.plan(), clashing.run()):
        [step] = steps
        assert (step.name, step.change) == ("dev_events_dataset.orders_all", SchemaChange.REJECTED)
        assert "sql/views/orders_all.sql and of the view of the table orders" in str(step.error)
    assert cloud.calls == []


def test_an_object_that_somebody_else_has_just_made_is_unchanged(made: Bootstrap, cloud: Cloud) -> None:
    def already_exists(job: dict[str, Any]) -> Answer:
        reason = {"reason": "duplicate", "message": "Already Exists: Table"}
        return 200, {"jobReference": job["jobReference"], "status": {"state": "DONE", "errorResult": reason}}

    cloud.on_job = already_exists
    assert {step.change for step in made.plan()} == {SchemaChange.CREATE}
    assert {step.change for step in made.run()} == {SchemaChange.UNCHANGED}


ARCHIVE = "/datasets/dev_events_dataset/tables/archive_events"
NO_FILES = "Cannot query hive partitioned data for table archive_events without any associated files."


def done(job: dict[str, Any], **status: Any) -> Answer:
    """Return a finished job that has created what its statement names, unless its status has an error."""
    query = {"statementType": "CREATE_EXTERNAL_TABLE", "ddlOperationPerformed": "CREATE"}
    return 200, job | {"status": {"state": "DONE", **status}, "jobComplete": True, "statistics": {"query": query}}


@pytest.mark.parametrize("of_job", [False, True])
def test_external_table_waits_for_the_first_archived_object(
    made: Bootstrap, cloud: Cloud, live: dict[str, dict[str, Any]], of_job: bool
) -> None:
    del live[ARCHIVE]
    answers: Iterator[Callable[[dict[str, Any]], Answer]] = iter(
        [
            lambda job: (
                done(job, errorResult={"reason": "invalid", "message": NO_FILES})
                if of_job
                else error(400, "invalid", NO_FILES)
            ),
            done,
        ]
    )
    jobs: list[dict[str, Any]] = []
    looks = cloud.on_get

    def create(job: dict[str, Any]) -> Answer:
        answer = next(answers)(job)
        jobs.append(answer[1])
        return answer

    cloud.on_job = create
    cloud.on_get = lambda path: (200, jobs[-1]) if "/queries/" in path or "/jobs/" in path else looks(path)
    for change in ("pending", "created"):
        answered = BootstrapApp(made)(Request({"type": "http", "method": "POST"}))
        [step] = [step for step in json.loads(bytes(answered.body))["objects"] if step["change"] != "unchanged"]
        assert (answered.status_code, step["name"], step["change"]) == (
            200,
            "dev_events_dataset.archive_events",
            change,
        )
        assert (step["error"], bool(step["pending"])) == (None, change == "pending")
    assert next(answers, None) is None


@pytest.mark.parametrize(
    ("status", "message"), [(400, "Cannot query hive partitioned data for table t: bad layout"), (403, NO_FILES)]
)
def test_other_errors_of_the_external_table_are_errors(
    made: Bootstrap, cloud: Cloud, live: dict[str, dict[str, Any]], status: int, message: str
) -> None:
    del live[ARCHIVE]
    cloud.on_job = lambda _: error(status, "accessDenied" if status == 403 else "invalid", message)
    [step] = differing(made.run()).values()
    assert step.change is SchemaChange.ERROR


def test_another_bucket_replaces_the_external_table(cloud: Cloud, live: dict[str, dict[str, Any]]) -> None:
    del cloud
    other = settings(archive_bucket="other")
    [step] = differing(Bootstrap(bigquery_client(other), other).plan()).values()
    assert (step.name, step.change) == ("dev_events_dataset.archive_events", SchemaChange.REPLACE)
    assert live[ARCHIVE]["labels"]["definition"] in step.diff[0]


def test_changes_of_a_table_are_one_conditional_request(
    made: Bootstrap, cloud: Cloud, live: dict[str, dict[str, Any]]
) -> None:
    patches: list[dict[str, Any]] = []

    def keep(_path: str, body: dict[str, Any]) -> Answer:
        patches.append(body)
        return 200, live[ORDERS]

    cloud.on_patch = keep
    wanted = json.loads(json.dumps(live[ORDERS]))
    del live[ORDERS]["schema"]["fields"][5]["fields"][3]
    live[ORDERS]["description"] = "before"
    assert differing(made.run()) == {
        "dev_events_dataset.orders": Step(
            "dev_events_dataset.orders",
            SchemaChange.REJECTED,
            [
                "+ items.price NUMERIC NOT NULL: a new column cannot be NOT NULL: existing rows have no value",
                f'~ description "before" -> "{wanted["description"]}"',
            ],
            "+ items.price NUMERIC NOT NULL: a new column cannot be NOT NULL: existing rows have no value",
        )
    }
    assert patches == []
    live[ORDERS]["schema"]["fields"][5]["fields"] = wanted["schema"]["fields"][5]["fields"]
    del live[ORDERS]["schema"]["fields"][8]
    [step] = differing(made.run()).values()
    assert (step.change, step.error) == (SchemaChange.ALTERED, None)
    [patch] = patches
    assert patch.keys() == {"etag", "schema", "description"}
    assert (patch["etag"], patch["description"]) == ("1", wanted["description"])
    assert [field["name"] for field in patch["schema"]["fields"]][-1] == "item_count"


def test_concurrently_changed_table_is_compared_again(
    made: Bootstrap, cloud: Cloud, live: dict[str, dict[str, Any]]
) -> None:
    live[ORDERS]["description"] = "before"
    answers: Iterator[Answer] = iter([error(412, "conditionNotMet"), (200, live[ORDERS])])
    cloud.on_patch = lambda _path, _body: next(answers)
    assert [step.change for step in differing(made.run()).values()] == [SchemaChange.ALTERED]
    assert next(answers, None) is None


def test_a_table_that_somebody_else_keeps_changing_is_an_error(
    made: Bootstrap, cloud: Cloud, live: dict[str, dict[str, Any]]
) -> None:
    live[ORDERS]["description"] = "before"
    cloud.on_patch = lambda _path, _body: error(412, "conditionNotMet")
    [step] = differing(made.run()).values()
    assert (step.change, step.error) == (
        SchemaChange.ERROR,
        "others changed the table during each attempt; run the bootstrap later",
    )


def test_wrong_location_or_kind_is_rejected_before_any_change(
    made: Bootstrap, cloud: Cloud, live: dict[str, dict[str, Any]]
) -> None:
    jobs: list[dict[str, Any]] = []

    def reject(job: dict[str, Any]) -> Answer:
        jobs.append(job)
        return error(400, "invalid")

    cloud.on_job = reject
    live["/datasets/historical_dataset"]["location"] = "EU"
    live["/datasets/dev_events_dataset/tables/stock_levels"]["type"] = "TABLE"
    del live["/datasets/dev_events_dataset/tables/inventory"]
    steps = differing(made.run())
    assert {name: step.error for name, step in steps.items()} == {
        "historical_dataset": "it is in EU, and LOCATION is us-central1; a dataset cannot be moved",
        "dev_events_dataset.inventory": None,
        "dev_events_dataset.stock_levels": "a TABLE has this name",
    }
    assert steps["dev_events_dataset.inventory"].change is SchemaChange.CREATE
    assert jobs == []


def test_change_by_hand_is_reported_with_its_statement(made: Bootstrap, live: dict[str, dict[str, Any]]) -> None:
    live[ORDERS]["schema"]["fields"][1]["maxLength"] = "8"
    [step] = differing(made.run()).values()
    assert step.change is SchemaChange.REJECTED
    assert step.error == (
        "~ order_id STRING(8) NOT NULL -> STRING NOT NULL: BigQuery converts it only by ALTER COLUMN SET DATA TYPE; "
        "by hand: ALTER TABLE `project.dev_events_dataset.orders` ALTER COLUMN order_id SET DATA TYPE STRING"
    )


@pytest.mark.parametrize("status", [403, 500])
def test_unreadable_object_prevents_every_change(
    made: Bootstrap, cloud: Cloud, live: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(bootstrap, "_ATTEMPTS", ONE_ATTEMPT)
    touched: list[str] = []

    def reject(what: object, *_: object) -> Answer:
        touched.append(str(what))
        return error(400, "invalid")

    cloud.on_job = reject
    cloud.on_patch = reject
    del live["/datasets/dev_events_dataset/tables/inventory"]
    live[ORDERS]["description"] = "before"
    answer = cloud.on_get
    hidden = "/datasets/dev_events_dataset/tables/stock_levels"
    reason = "accessDenied" if status == 403 else "internalError"
    cloud.on_get = lambda path: error(status, reason) if hidden in path else answer(path)
    steps = differing(made.run())
    assert {name.partition(".")[2]: step.change for name, step in steps.items()} == {
        "inventory": SchemaChange.CREATE,
        "orders": SchemaChange.ALTER,
        "stock_levels": SchemaChange.ERROR,
    }
    assert touched == []


@pytest.mark.parametrize("status", [403, 500])
def test_error_of_bigquery_is_reported_for_each_object(
    made: Bootstrap, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(bootstrap, "_ATTEMPTS", ONE_ATTEMPT)
    answer = error(status, "accessDenied" if status == 403 else "internalError")
    cloud.on_job = lambda _: answer
    for steps in (made.run(), Bootstrap(made.client, made.settings).plan()):
        assert [step.name for step in steps] == NAMES
        assert {step.change for step in steps} <= {SchemaChange.ERROR, SchemaChange.CREATE}
    assert {step.change for step in made.run()} == {SchemaChange.ERROR}
    cloud.on_get = lambda _: answer
    steps = made.plan()
    assert {step.change for step in steps} == {SchemaChange.ERROR}
    assert all(step.error for step in steps)


def test_where_nothing_listens_each_object_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    monkeypatch.setattr(bootstrap, "_ATTEMPTS", ONE_ATTEMPT)
    chosen = settings()
    absent = Bootstrap(bigquery_client(chosen), chosen)
    for steps in (absent.run(), absent.plan()):
        assert {step.change for step in steps} == {SchemaChange.ERROR}


TAG = "projects/p/locations/us-central1/taxonomies/1/policyTags/2"
ACTIVITY = "/datasets/dev_events_dataset/tables/user_activity"


def protecting(cloud: Cloud) -> Bootstrap:
    del cloud
    chosen = settings(policy_tag_personal=TAG)
    return Bootstrap(bigquery_client(chosen), chosen)


def tagged(fields: list[dict[str, Any]]) -> set[str]:
    here = {field["name"] for field in fields if field.get("policyTags") == {"names": [TAG]}}
    return here.union(*(tagged(field["fields"]) for field in fields if "fields" in field))


def test_protected_columns_of_live_tables_get_their_policy_tag(cloud: Cloud, live: dict[str, dict[str, Any]]) -> None:
    patched: dict[str, set[str]] = {}

    def keep(path: str, body: dict[str, Any]) -> Answer:
        table = path.partition("?")[0].partition("/projects/project")[2]
        patched[table] = tagged(body["schema"]["fields"])
        return 200, live[table]

    cloud.on_patch = keep
    steps = differing(protecting(cloud).run())
    assert {step.change for step in steps.values()} == {SchemaChange.ALTERED}
    columns = {"user_activity": {"ip_address", "user_agent"}, "orders": {"street"}}
    assert patched == {
        f"/datasets/{dataset}/tables/{table}": names
        for dataset in ("dev_events_dataset", "historical_dataset")
        for table, names in columns.items()
    }


@pytest.mark.parametrize(("patch_status", "outcome"), [(200, SchemaChange.CREATED), (403, SchemaChange.ERROR)])
def test_a_new_table_is_protected_before_it_has_rows(
    cloud: Cloud, live: dict[str, dict[str, Any]], patch_status: int, outcome: SchemaChange
) -> None:
    wanted = live.pop(ACTIVITY)
    patches: list[set[str]] = []

    job = {"configuration": {"query": {"query": "CREATE"}}, "status": {"state": "DONE"}, "jobComplete": True}
    job["statistics"] = {"query": {"statementType": "CREATE_TABLE", "ddlOperationPerformed": "CREATE"}}
    looks = cloud.on_get

    def create(request: dict[str, Any]) -> Answer:
        live[ACTIVITY] = wanted
        job["jobReference"] = request["jobReference"]
        return 200, job

    def look(path: str) -> Answer:
        return (200, job) if "/queries/" in path or "/jobs/" in path else looks(path)

    cloud.on_get = look

    def keep(path: str, body: dict[str, Any]) -> Answer:
        if ACTIVITY in path:
            patches.append(tagged(body["schema"]["fields"]))
            return (200, wanted) if patch_status == 200 else error(patch_status, "accessDenied")
        return 200, wanted

    cloud.on_job = create
    cloud.on_patch = keep
    step = differing(protecting(cloud).run())["dev_events_dataset.user_activity"]
    assert (step.change, bool(step.error)) == (outcome, outcome is SchemaChange.ERROR)
    assert patches == [{"ip_address", "user_agent"}]
