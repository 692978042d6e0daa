"""Definitions: which objects there are, in which order, and when a view is made again."""

import pathlib
import shutil

from functions.ddl import declared_table
from functions.definitions import FOLDER, Definition, Kind, definitions
from functions.events import event_types
from functions.evolution import evolution
from tests.unit.conftest import settings

TABLES = {event_type.table for event_type in event_types().values()}


def defined(folder: pathlib.Path = FOLDER) -> dict[str, Definition]:
    return {one.name: one for one in definitions("project", settings(), folder)}


def test_event_tables_are_in_both_datasets_and_each_has_its_views() -> None:
    found = defined()
    tables = {name for name, one in found.items() if one.kind is Kind.TABLE}
    live = {f"dev_events_dataset.{table}" for table in TABLES}
    assert tables == live | {f"historical_dataset.{table}" for table in TABLES} | {"dev_events_dataset.dead_letters"}
    for table in live:
        assert {found[f"{table}_deduplicated"].kind, found[f"{table}_all"].kind} == {Kind.VIEW}


def test_partitions_expire_in_the_live_dataset_only() -> None:
    found = defined()
    assert "partition_expiration_days = 90," in found["dev_events_dataset.orders"].ddl
    assert "partition_expiration_days = NULL," in found["historical_dataset.orders"].ddl


def test_all_parameters_are_filled_in_and_all_come_after_what_they_read() -> None:
    found = list(defined().values())
    assert [one.kind for one in found[:2]] == [Kind.DATASET] * 2
    for position, one in enumerate(found):
        assert "${" not in one.ddl
        assert f"`project.{one.name}`" in one.ddl
        assert not any(f"`project.{later.name}`" in one.ddl for later in found[position + 1 :])


def test_a_changed_table_changes_the_views_that_read_it_and_no_others(tmp_path: pathlib.Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "sql")
    orders = tmp_path / "sql" / "schema" / "orders.sql"
    orders.write_text(orders.read_text().replace("item_count INT64", "gift BOOL,\n  item_count INT64"))
    before, after = defined(), defined(tmp_path / "sql")
    assert {name for name, one in after.items() if one.digest != before[name].digest} == {
        "dev_events_dataset.orders",
        "historical_dataset.orders",
        "dev_events_dataset.orders_deduplicated",
        "dev_events_dataset.orders_all",
        "dev_events_dataset.orders_current",
    }
    assert all(one.digest in one.ddl for one in after.values() if one.kind is Kind.VIEW)


def test_each_protected_column_is_a_column_of_its_table() -> None:
    protected = definitions("project", settings(policy_tag_personal="personal", policy_tag_raw="raw"))
    columns = 0
    for one in protected:
        if one.policy_tags:
            table = declared_table(one.ddl)
            tagged = evolution(table, one.ddl, one.policy_tags)
            assert len(tagged.differences) == len(one.policy_tags)
            columns += len(one.policy_tags)
    assert columns == 2 * (2 + 3) + 3
    assert not any(one.policy_tags for one in defined().values())
