"""Definitions: which objects there are, in which order, and when a view is made again."""

import pathlib
import shutil
from collections.abc import Iterator, Sequence

from google.cloud import bigquery

from functions.events import event_types
from functions.schema.ddl import declared_table
from functions.schema.definitions import FOLDER, Definition, Kind, definitions
from functions.schema.table_diff import table_diff
from tests.support.settings import settings

TABLES = {event_type.table for event_type in event_types().values()}


def defined(folder: pathlib.Path = FOLDER) -> dict[str, Definition]:
    return {definition.name: definition for definition in definitions("project", settings(), folder)}


def test_event_tables_are_in_both_datasets_and_each_has_its_views() -> None:
    by_name = defined()
    tables = {name for name, definition in by_name.items() if definition.kind is Kind.TABLE}
    live = {f"dev_events_dataset.{table}" for table in TABLES}
    others = {"dev_events_dataset.dead_letters", "dev_events_dataset.replays"}
    assert tables == live | {f"historical_dataset.{table}" for table in TABLES} | others
    for table in live:
        assert {by_name[f"{table}_deduplicated"].kind, by_name[f"{table}_all"].kind} == {Kind.VIEW}


def test_partitions_expire_in_the_live_dataset_only() -> None:
    by_name = defined()
    assert "partition_expiration_days = 90," in by_name["dev_events_dataset.orders"].ddl
    assert "partition_expiration_days = NULL," in by_name["historical_dataset.orders"].ddl


def test_definitions_are_rendered_and_ordered_by_dependency() -> None:
    in_order = list(defined().values())
    assert [definition.kind for definition in in_order[:2]] == [Kind.DATASET] * 2
    for position, definition in enumerate(in_order):
        assert "{{" not in definition.ddl
        assert f"`project.{definition.name}`" in definition.ddl
        assert not any(f"`project.{later.name}`" in definition.ddl for later in in_order[position + 1 :])


def test_a_changed_table_changes_the_views_that_read_it_and_no_others(tmp_path: pathlib.Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "sql")
    orders = tmp_path / "sql" / "schema" / "orders.sql"
    orders.write_text(orders.read_text().replace("item_count INT64", "gift BOOL,\n  item_count INT64"))
    before, after = defined(), defined(tmp_path / "sql")
    assert {name for name, definition in after.items() if definition.digest != before[name].digest} == {
        "dev_events_dataset.orders",
        "historical_dataset.orders",
        "dev_events_dataset.orders_deduplicated",
        "dev_events_dataset.orders_all",
        "dev_events_dataset.orders_current",
    }
    assert all(definition.digest in definition.ddl for definition in after.values() if definition.kind is Kind.VIEW)


def protected() -> dict[str, Definition]:
    tags = settings(policy_tag_personal="personal", policy_tag_raw="raw")
    return {definition.name: definition for definition in definitions("project", tags) if definition.kind is Kind.TABLE}


def columns(fields: Sequence[bigquery.SchemaField], path: str = "") -> Iterator[tuple[str, str]]:
    """Path and type of each column, nested ones too."""
    for field in fields:
        yield path + field.name, field.field_type
        yield from columns(field.fields, f"{path}{field.name}.")


def test_each_protected_column_is_a_column_of_its_table() -> None:
    tagged = {name: definition for name, definition in protected().items() if definition.policy_tags}
    assert tagged.keys() == protected().keys() - {"dev_events_dataset.replays"}
    for definition in tagged.values():
        differences = table_diff(declared_table(definition.ddl), definition.ddl, definition.policy_tags).differences
        assert len(differences) == len(definition.policy_tags)
    assert not any(definition.policy_tags for definition in defined().values())


def test_free_form_columns_are_masked_in_every_table() -> None:
    """JSON and bytes, live and historical: docs/access.md says that readers see them empty."""
    for name, definition in protected().items():
        anything = {path for path, kind in columns(declared_table(definition.ddl).schema) if kind in {"JSON", "BYTES"}}
        raw = {column for column, tag in definition.policy_tags.items() if tag == "raw"}
        assert anything - raw == set(), name
        assert ("extras" in raw) == (name.partition(".")[2] in TABLES), name


def test_views_are_logical_and_keep_the_masks_of_their_tables() -> None:
    """A logical view is a query of its reader's own; a materialized one would be rows of its own, without a mask."""
    views = [definition.ddl for definition in defined().values() if definition.kind is Kind.VIEW]
    assert views
    assert [ddl for ddl in views if not ddl.startswith("CREATE OR REPLACE VIEW ")] == []
