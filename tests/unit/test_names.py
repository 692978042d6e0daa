"""Names: which an event type or a table may have, and which are taken."""

import pytest

from functions import events
from functions.events import event_types
from functions.names import Names, column_problem, table_problem, type_problem
from functions.schema.definitions import FOLDER, Kind, definitions
from tests.support.settings import settings

TABLES = {name: event_type.table for name, event_type in event_types().items()}
NAMES = Names.read(FOLDER, TABLES)


@pytest.mark.parametrize("name", ["Parcel", "2parcels", "par-cel", "a__b", "_a", "a_", "", "../a", "é", "x" * 41])
def test_a_name_is_in_snake_case(name: str) -> None:
    assert "snake_case" in str(type_problem(name))
    assert "snake_case" in str(table_problem(name))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("return", "keyword of Python"),
        ("event_types", "name of the package functions.events"),
        ("importlib", "name of the package functions.events"),
        ("unknown", "reserved are unknown, smoke_test"),
        ("smoke_test", "reserved are unknown, smoke_test"),
        ("match", None),
        ("order", None),
    ],
)
def test_a_type_has_no_name_that_something_else_relies_on(name: str, problem: str | None) -> None:
    found_problem = type_problem(name)
    assert found_problem is None if problem is None else problem in str(found_problem)


def test_the_names_of_the_package_of_types_are_no_modules_of_it() -> None:
    assert {"event_types", "EventType", "Columns", "pkgutil"} <= events.NAMES
    assert not events.NAMES & TABLES.keys()


def test_files_of_datasets_and_names_of_bigquery_are_no_tables() -> None:
    assert "creates a dataset" in str(table_problem("historical_dataset"))
    assert "reserved by BigQuery" in str(table_problem("information_schema"))
    assert table_problem("orders") is None


@pytest.mark.parametrize("name", ["_PARTITIONTIME", "_table_x", "__ROOT__a", "a-b", "1a", "x" * 301])
def test_a_column_has_no_name_of_bigquerys_own(name: str) -> None:
    assert column_problem(name)
    assert column_problem("_a1") is None


def test_names_are_unique_and_those_of_the_bootstrap() -> None:
    assert NAMES.clashes() == []
    live = {
        definition.name.partition(".")[2]
        for definition in definitions("project", settings())
        if definition.kind is not Kind.DATASET
    }
    assert set(NAMES.taken()) == live


@pytest.mark.parametrize(
    ("name", "table", "owners"),
    [
        ("refund", "orders_all", ["event type refund", "view of the table orders by sql/views/each/all.sql"]),
        ("refund", "Orders_All", ["event type refund", "view of the table orders by sql/views/each/all.sql"]),
        ("refund", "orders", ["event type order", "event type refund"]),
        ("refund", "stock_levels", ["event type refund", "sql/views/stock_levels.sql"]),
        ("refund", "dead_letters", ["event type refund", "table of Sluice's own"]),
        ("refund", "replays", ["event type refund", "table of Sluice's own"]),
    ],
)
def test_a_table_that_another_table_or_view_is_named_as_is_a_clash(name: str, table: str, owners: list[str]) -> None:
    [clash] = NAMES.with_type(name, table).clashes()
    assert len(clash.owners) == len(owners)
    assert all(owner in actual for owner, actual in zip(owners, clash.owners, strict=True)), clash


def test_table_whose_views_have_an_existing_name_is_a_clash() -> None:
    before = Names({"archive": "refunds_all"}, {"refunds_all"}, {"refunds_deduplicated"}, {"all", "deduplicated"})
    clashes = {clash.name: clash.owners for clash in before.with_type("refund", "refunds").clashes()}
    assert clashes == {
        "refunds_all": [
            "the table of the event type archive",
            "the view of the table refunds by sql/views/each/all.sql",
        ],
        "refunds_deduplicated": [
            "the view of sql/views/refunds_deduplicated.sql",
            "the view of the table refunds by sql/views/each/deduplicated.sql",
        ],
    }
