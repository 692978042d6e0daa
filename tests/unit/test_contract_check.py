"""`sluice contract check`: what it reads, compares and answers."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from functions.core.json_path import member
from functions.events import EventType, event_types
from sluice.contract.check import check
from sluice.contract.finding import Breaks, ContractFinding
from sluice.contract.project import ROOT, ContractFiles, NoBase

NOW = ContractFiles.on_disk()
ORDER, ORDERS = "order.v1.json", "orders.sql"


def findings_of(project: ContractFiles, base: ContractFiles | None = None) -> list[ContractFinding]:
    return check(project, base, event_types())


def with_contract(file: str, text: str | None) -> ContractFiles:
    others = {name: other for name, other in NOW.contracts.items() if name != file}
    return dataclasses.replace(NOW, contracts=others if text is None else {**others, file: text})


def with_table(file: str, text: str | None) -> ContractFiles:
    others = {name: other for name, other in NOW.tables.items() if name != file}
    return dataclasses.replace(NOW, tables=others if text is None else {**others, file: text})


def order(change: Callable[[dict[str, Any]], object]) -> str:
    """The contract of orders, changed."""
    schema = json.loads(NOW.contracts[ORDER])
    change(schema["properties"])
    return json.dumps(schema)


ORDERS_DDL = NOW.tables[ORDERS]


def test_the_project_has_no_findings() -> None:
    assert findings_of(NOW, NOW) == []


def test_a_field_without_a_description_is_a_finding() -> None:
    text = order(lambda fields: fields["items"]["items"]["properties"]["price"].pop("description"))
    [finding] = findings_of(with_contract(ORDER, text))
    assert (finding.path, finding.breaks) == ("$.items[*].price", Breaks.READERS)
    assert "description" in finding.problem


@pytest.mark.parametrize(
    ("project", "file", "problem"),
    [
        (with_contract(ORDER, None), "functions/events/order.py", "jsonschemas/order.v1.json is missing"),
        (with_contract("rocket.v1.json", "{}"), "jsonschemas/rocket.v1.json", "functions/events/rocket.py is missing"),
        (with_contract("order.json", "{}"), "jsonschemas/order.json", "TYPE.vN.json"),
        (with_contract(ORDER, "{"), "jsonschemas/order.v1.json", "line 1 column 2"),
        (with_contract(ORDER, "[]"), "jsonschemas/order.v1.json", "must be a JSON object"),
        (with_contract(ORDER, '{"type": "x"}'), "jsonschemas/order.v1.json", "no JSON Schema"),
        (with_contract(ORDER, '{"a": 1, "a": 2}'), "jsonschemas/order.v1.json", '"a" is a duplicate key'),
        (with_table(ORDERS, None), "functions/events/order.py", "sql/schema/orders.sql is missing"),
        (with_table(ORDERS, "DROP TABLE x"), "sql/schema/orders.sql", "a CREATE TABLE with columns is expected"),
        (with_table(ORDERS, "CREATE TABLE `{{ nothing }}.d.orders` (a INT64)"), "sql/schema/orders.sql", "nothing"),
        (with_table(ORDERS, NOW.tables["inventory.sql"]), "sql/schema/orders.sql", "declares the table inventory"),
        (with_table(ORDERS, ORDERS_DDL.replace("extras JSON", "extras STRING")), "sql/schema/orders.sql", "JSON"),
        (with_table(ORDERS, ORDERS_DDL.replace("quantity INT64", "quantity BOOL")), "jsonschemas/order.v1.json",
         "becomes INT64"),
    ],
)  # fmt: skip
def test_files_that_do_not_belong_together_are_findings(project: ContractFiles, file: str, problem: str) -> None:
    assert any(finding.file == file and problem in finding.problem for finding in findings_of(project)), findings_of(
        project
    )


def with_type(name: str, table: str, project: ContractFiles = NOW) -> tuple[ContractFiles, dict[str, EventType]]:
    """The project with another event type, which is like orders."""
    contract = NOW.contracts[ORDER].replace('"const": "order"', f'"const": "{name}"')
    ddl = ORDERS_DDL.replace("dataset }}.orders", "dataset }}." + table)
    more = {"contracts": {**project.contracts, f"{name}.v1.json": contract}}
    more["tables"] = {**project.tables, f"{table}.sql": ddl}
    types = event_types()
    return dataclasses.replace(project, **more), {**types, name: dataclasses.replace(types["order"], table=table)}


@pytest.mark.parametrize(
    ("name", "table", "problem"),
    [
        ("refund", "orders_all", "the view of the table orders by sql/views/each/all.sql"),
        ("refund", "stock_levels", "the view of sql/views/stock_levels.sql"),
        ("refund", "orders", "the table of the event type order and of the table of the event type refund"),
        ("refund", "information_schema", "is reserved by BigQuery"),
        ("refund", "Refunds", "snake_case"),
        ("smoke_test", "refunds", "is reserved"),
        ("unknown", "refunds", "is reserved"),
        ("Refund", "refunds", "snake_case"),
        ("event_types", "refunds", "is a name of the package functions.events"),
    ],
)
def test_a_name_that_is_taken_or_not_allowed_is_a_finding(name: str, table: str, problem: str) -> None:
    project, types = with_type(name, table)
    [finding] = check(project, None, types)
    assert (finding.is_notice, problem in finding.problem) == (False, True), finding


def test_a_view_that_is_named_as_a_table_is_a_finding() -> None:
    twice = dataclasses.replace(NOW, views={**NOW.views, "orders.sql": "", "inventory_all.sql": ""})
    assert {finding.path for finding in findings_of(twice)} == {"orders", "inventory_all"}


def test_a_column_that_bigquery_rejects_is_a_finding() -> None:
    text = ORDERS_DDL.replace("  item_count INT64", "  _PARTITIONKEY STRING,\n  item_count INT64")
    [finding] = findings_of(with_table(ORDERS, text))
    assert (finding.file, finding.path) == ("sql/schema/orders.sql", "_PARTITIONKEY")


def test_every_version_of_a_contract_fills_the_not_null_columns() -> None:
    second = with_contract("order.v2.json", order(lambda properties: properties.pop("status")))
    findings = [(finding.file, finding.path, finding.problem) for finding in findings_of(second)]
    assert ("jsonschemas/order.v2.json", "$.status", "the column is NOT NULL, but no property fills it") in findings
    assert {file for file, _, _ in findings} == {"jsonschemas/order.v2.json"}


def test_a_changed_contract_is_compared_with_its_base() -> None:
    narrower = with_contract(ORDER, order(lambda properties: properties["customer_id"].update(maxLength=64)))
    [finding] = findings_of(narrower, NOW)
    assert (finding.file, finding.path, finding.breaks) == (
        "jsonschemas/order.v1.json",
        "$.customer_id",
        Breaks.PRODUCERS,
    )
    assert findings_of(NOW, narrower) == []


def test_a_contract_that_is_gone_breaks_the_producers_that_ask_for_it() -> None:
    second = with_contract("order.v2.json", NOW.contracts[ORDER])
    [finding] = findings_of(NOW, second)
    assert (finding.file, finding.breaks, finding.is_notice) == ("jsonschemas/order.v2.json", Breaks.PRODUCERS, False)
    assert "`schema_version` to 2" in finding.problem


def test_break_in_a_new_version_is_a_finding_with_the_attribute() -> None:
    second = with_contract("order.v2.json", order(lambda properties: properties["customer_id"].update(maxLength=64)))
    [finding] = findings_of(second, NOW)
    assert (finding.file, finding.path, finding.is_notice) == ("jsonschemas/order.v2.json", "$.customer_id", False)
    assert "without the attribute `schema_version`, until now of version 1" in finding.problem
    assert '`"x-default-version": true` in jsonschemas/order.v1.json keeps that' in finding.problem


def pinned(files: ContractFiles, name: str, value: object = True) -> ContractFiles:
    text = json.dumps({**json.loads(files.contracts[name]), "x-default-version": value})
    return dataclasses.replace(files, contracts={**files.contracts, name: text})


def test_pinned_version_stays_the_default_until_it_is_unpinned() -> None:
    second = with_contract("order.v2.json", order(lambda properties: properties["customer_id"].update(maxLength=64)))
    kept = pinned(second, ORDER)
    assert findings_of(kept, NOW) == []
    assert findings_of(kept, second) == [], "version 1 accepts more than version 2"
    [finding] = findings_of(second, kept)
    assert (finding.path, finding.breaks, finding.is_notice) == ("$.customer_id", Breaks.PRODUCERS, False)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (False, "`x-default-version` is true, or the contract does not have it"),
        (True, "versions 1, 2 have `x-default-version`; one version of a type may have it"),
    ],
)
def test_default_version_that_is_not_clear_is_a_finding(*, value: bool, problem: str) -> None:
    second = pinned(pinned(with_contract("order.v2.json", NOW.contracts[ORDER]), ORDER), "order.v2.json", value)
    [finding] = findings_of(second, None)
    assert (finding.file, finding.problem, finding.is_notice) == ("jsonschemas/order.v2.json", problem, False)


def test_default_keyword_inside_a_property_is_a_finding() -> None:
    inner = with_contract(ORDER, order(lambda properties: properties["status"].update({"x-default-version": True})))
    assert [finding.path for finding in findings_of(inner, None)] == ["$.status"]


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("items_total NUMERIC ", "", "items_total"),
        ("item_count INT64", "item_count STRING", "item_count"),
        ("item_count INT64 OPTIONS", "item_count INT64 NOT NULL OPTIONS", "item_count"),
        ("PARTITION BY event_date", "PARTITION BY DATE(order_date)", "partitioning"),
    ],
)
def test_a_table_that_could_not_follow_its_ddl_is_a_finding(before: str, after: str, path: str) -> None:
    lines = ORDERS_DDL.splitlines(keepends=True)
    text = "".join(line.replace(before, after) for line in lines if after or before not in line)
    findings = [finding for finding in findings_of(with_table(ORDERS, text), NOW) if finding.breaks is Breaks.BOOTSTRAP]
    assert [(finding.file, finding.path) for finding in findings] == [("sql/schema/orders.sql", path)]


def test_a_new_column_is_no_finding() -> None:
    text = ORDERS_DDL.replace("  item_count INT64", "  coupon STRING,\n  item_count INT64")
    assert findings_of(with_table(ORDERS, text), NOW) == []


def test_a_table_that_is_gone_is_a_notice_for_readers() -> None:
    [notice] = findings_of(
        NOW, with_table("refunds.sql", ORDERS_DDL.replace("dataset }}.orders", "dataset }}.refunds"))
    )
    assert (notice.path, notice.breaks, notice.is_notice) == ("refunds", Breaks.READERS, True)


# Git, and the command


def git(folder: pathlib.Path, *arguments: str) -> None:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def copy(folder: pathlib.Path) -> pathlib.Path:
    """The parts of the project that the command needs, in a folder of their own."""
    for part in ("functions", "jsonschemas", "sluice", "sql"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> pathlib.Path:
    """The project in a folder of a repository, with one commit that is tagged `first`."""
    project = copy(tmp_path / "shop" / "sluice")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message=first")
    git(tmp_path, "tag", "first")
    return project


def run(folder: pathlib.Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sluice.cli", "contract", "check", *arguments]
    wide = os.environ | {"COLUMNS": "200"} | environment
    return subprocess.run(command, cwd=folder, env=wide, capture_output=True, text=True, check=False)


def narrow(project: pathlib.Path) -> None:
    (project / "jsonschemas" / ORDER).write_text(
        order(lambda properties: properties["customer_id"].update(maxLength=64))
    )


def test_files_of_a_commit_are_read_from_any_folder(checkout: pathlib.Path) -> None:
    narrow(checkout)
    assert ContractFiles.at("first", checkout) == NOW
    assert ContractFiles.at("HEAD", checkout) != ContractFiles.on_disk(checkout)


@pytest.mark.parametrize("commit", ["nothing", "--all", ""])
def test_unknown_commit_is_reported(checkout: pathlib.Path, commit: str) -> None:
    with pytest.raises(NoBase):
        ContractFiles.at(commit, checkout)


@pytest.mark.check
def test_the_command_compares_with_head_or_the_base_that_is_asked_for(checkout: pathlib.Path) -> None:
    assert run(checkout).returncode == 0
    narrow(checkout)
    changed = run(checkout)
    assert (changed.returncode, "$.customer_id" in changed.stdout, "producers" in changed.stdout) == (1, True, True)
    git(checkout, "commit", "--quiet", "--all", "--message=second")
    assert run(checkout).returncode == 0
    [finding] = json.loads(run(checkout, "--base", "first", "--json").stdout)
    assert (finding["file"], finding["path"], finding["breaks"]) == (
        "jsonschemas/order.v1.json",
        "$.customer_id",
        "producers",
    )
    assert run(checkout, SLUICE_CONTRACT_BASE="first").returncode == 1


@pytest.mark.check
def test_missing_base_commit_fails_only_if_it_was_requested(
    tmp_path: pathlib.Path,
) -> None:
    project = copy(tmp_path / "project")
    alone = run(project)
    assert (alone.returncode, "Not compared with a commit" in alone.stderr) == (0, True), alone.stderr
    asked = run(project, "--base", "HEAD")
    assert (asked.returncode, "Base HEAD does not exist" in asked.stderr) == (2, True), asked.stderr


def test_handler_that_cannot_be_imported_fails_the_check(tmp_path: pathlib.Path) -> None:
    project = copy(tmp_path / "project")
    (project / "functions" / "events" / "rocket.py").write_text('"""Nothing."""\n')
    answer = run(project)
    assert (
        answer.returncode,
        "functions/events/rocket.py: an event type's module has an EVENT_TYPE" in answer.stderr,
    ) == (2, True), answer.stderr


def persons(contract: str, table: str = ORDERS_DDL, **changes: object) -> list[tuple[str, bool]]:
    """Return the findings about an order's person: the field, and whether it is a notice."""
    project = dataclasses.replace(with_contract(ORDER, contract), tables={**NOW.tables, ORDERS: table})
    types = event_types() | {"order": dataclasses.replace(event_types()["order"], **changes)}  # type: ignore[arg-type]
    findings = [finding for finding in check(project, None, types) if finding.breaks is Breaks.PERSONS]
    assert all(finding.file == "functions/events/order.py" for finding in findings)
    return [(finding.path, finding.is_notice) for finding in findings]


def test_type_without_an_erasable_person_is_a_finding() -> None:
    as_it_is = NOW.contracts[ORDER]
    renamed = as_it_is.replace("customer_id", "driver_id")
    driver = ORDERS_DDL.replace("customer_id", "driver_id")
    number = order(lambda properties: properties.update(customer_id={"type": "boolean"}))
    assert persons(as_it_is) == persons(renamed, driver, person_field="driver_id") == []
    assert persons(as_it_is, person_field="driver_id") == [("$.driver_id", False), ("driver_id", False)]
    assert persons(number) == [("$.customer_id", False)]
    assert persons(as_it_is.replace('"customer_id",', "")) == [("$.customer_id", True)]
    null = order(lambda properties: properties["customer_id"].update(type=["string", "null"]))
    assert persons(null) == [("$.customer_id", True)]
    street = ("shipping_address.street", False)
    assert persons(as_it_is, person_field=None) == [("$.customer_id", True), street]
    assert persons(as_it_is.replace("customer_id", "user_id"), person_field=None) == [("$.user_id", False), street]
    assert persons(as_it_is.replace("customer_id", "wish_id"), person_field=None) == [street]
    both = order(lambda properties: properties.update(user_id={"type": "string", "maxLength": 9}))
    assert persons(both) == [("$.user_id", True)]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("driverId", True), ("home_email", True), ("PATIENT_NO", True), ("product_id", False), ("user_agent", False)],
)
def test_a_name_that_looks_like_a_persons_is_a_notice(name: str, is_one: bool) -> None:
    contract = NOW.contracts[ORDER].replace("customer_id", name)
    assert ((member("$", name), True) in persons(contract, person_field=None)) is is_one
