"""The contracts, and what they need of each other."""

import json
import pathlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from functions.core.contracts import FOLDER, Contracts
from functions.core.dead_letters import EventRejected
from functions.core.rows import RowConverter
from functions.events import event_types
from functions.source_files import InvalidFile

FILES = sorted(FOLDER.glob("*.json"))


def test_a_type_is_three_files_and_nothing_lists_them() -> None:
    sql = FOLDER.parent / "sql" / "schema"
    assert {file.name.partition(".")[0] for file in FILES} == event_types().keys()
    for event_type in event_types().values():
        assert (sql / f"{event_type.table}.sql").exists()


def write(folder: pathlib.Path, *names: str) -> None:
    for file in FILES:
        (folder / file.name).write_text(file.read_text())
    for name in names:
        (folder / name).write_text(FILES[0].read_text())


def pin(file: pathlib.Path, *, value: bool = True) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "x-default-version": value}))


def test_newest_version_is_the_default_and_others_stay_available(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "inventory.v2.json", "inventory.v10.json")
    contracts = Contracts.load(tmp_path)
    event = {"event_type": "inventory"}
    assert contracts.choose(event, {}).version == 10
    assert contracts.choose(event, {"schema_version": "2"}).version == 2


def test_pinned_version_is_the_default(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "inventory.v2.json", "inventory.v10.json")
    pin(tmp_path / "inventory.v2.json")
    contracts = Contracts.load(tmp_path)
    assert contracts.choose({"event_type": "inventory"}, {}).version == 2
    assert contracts.choose({"event_type": "inventory"}, {"schema_version": "10"}).version == 10


@pytest.mark.parametrize(("values", "why"), [((True, True), "versions 2, 10 have"), ((False,), "is true, or")])
def test_default_that_is_not_clear_is_rejected_at_start(
    tmp_path: pathlib.Path, values: Sequence[bool], why: str
) -> None:
    names = ["inventory.v2.json", "inventory.v10.json"]
    write(tmp_path, *names)
    for name, value in zip(names, values, strict=False):
        pin(tmp_path / name, value=value)
    with pytest.raises(ValueError, match=rf"jsonschemas/inventory\.v\*\.json: .*{why}"):
        Contracts.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1,}', "line 1 column 8 is not JSON"),
        ("[]", r"\$ is not JSON Schema"),
        ('{"properties": {"a": {"type": "strng"}}}', r"\$\.properties\.a\.type is not JSON Schema: .*array"),
        ('{"type": "object"}', 'a contract has "properties"'),
        ("\udcff", "codec can't decode"),
    ],
)
def test_a_broken_contract_is_named_with_place_and_rule(tmp_path: pathlib.Path, text: str, why: str) -> None:
    write(tmp_path)
    (tmp_path / "order.v1.json").write_text(text, errors="surrogateescape")
    with pytest.raises(InvalidFile, match=rf"^jsonschemas/order\.v1\.json: .*{why}"):
        Contracts.load(tmp_path)


@pytest.mark.parametrize("name", ["inventory.json", "inventory.v0.json", "rocket.v1.json"])
def test_contract_of_no_type_is_rejected_at_start(tmp_path: pathlib.Path, name: str) -> None:
    write(tmp_path, name)
    with pytest.raises(ValueError, match=name):
        Contracts.load(tmp_path)


def shaped(properties: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    columns, extras = RowConverter({"properties": properties}).columns(event)
    assert extras == {}
    return columns


def test_a_property_that_may_be_null_is_a_column_of_its_other_type() -> None:
    properties = {"note": {"type": ["string", "null"]}, "seen": {"type": ["null", "string"], "format": "date-time"}}
    assert shaped(properties, {"note": None, "seen": None}) == {}
    assert shaped(properties, {"note": "x", "seen": "2026-11-23T12:00:00Z"}) == {
        "note": "x",
        "seen": datetime(2026, 11, 23, 12, tzinfo=UTC),
    }


def test_an_object_without_properties_is_a_column_of_json() -> None:
    properties = {"tags": {"type": "object"}, "log": {"type": "array", "items": {"type": "object"}}}
    event = {"tags": {"a": [1, Decimal("0.5")]}, "log": [{"b": None}]}
    assert shaped(properties, event) == {"tags": '{"a":[1,0.5]}', "log": ['{"b":null}']}


def test_instant_out_of_range_in_an_array_is_rejected_with_its_path() -> None:
    seen = {"type": "array", "items": {"type": "string", "format": "date-time"}}
    stop = {"type": "object", "properties": {"seen": seen}}
    event = {"stops": [{"seen": ["2026-11-23T12:00:00Z", "2016-12-31T23:59:60Z"]}]}
    with pytest.raises(EventRejected) as rejected:
        shaped({"stops": {"type": "array", "items": stop}}, event)
    [violation] = rejected.value.violations
    assert (rejected.value.stage, violation.path, violation.rule) == ("contract", "$.stops[0].seen[1]", "format")


@pytest.mark.parametrize(
    "schema", [{}, {"type": ["string", "integer"]}, {"type": "array", "items": {"type": "array"}}, {"type": "null"}]
)
def test_property_without_a_column_type_is_rejected_at_start(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^odd: "):
        RowConverter({"properties": {"odd": schema}})


def test_type_without_a_contract_is_rejected_at_start(tmp_path: pathlib.Path) -> None:
    write(tmp_path)
    (tmp_path / "order.v1.json").unlink()
    with pytest.raises(ValueError, match=r"order\.v1\.json is missing"):
        Contracts.load(tmp_path)


SCHEMA = {
    "properties": {
        "event_type": {"type": "string"},
        "color": {"enum": [f"color-{number}" for number in range(21)], "type": "string"},
        "size": {"enum": ["S", "M"], "type": "string"},
        "count": {"type": "integer"},
        "contact": {"type": "string", "anyOf": [{"minLength": 200, "pattern": "@"}, {"format": "ipv4"}]},
    }
}


def messages(folder: pathlib.Path, payload_bytes: int = 100, **changes: Any) -> list[str]:
    """Return what a contract of `SCHEMA` says of an event."""
    write(folder)
    (folder / "inventory.v1.json").write_text(json.dumps(SCHEMA))
    contract = Contracts.load(folder).choose({"event_type": "inventory"}, {})
    with pytest.raises(EventRejected) as rejected:
        contract.validate({"event_type": "inventory", **changes}, payload_bytes)
    return [violation.message for violation in rejected.value.violations]


def test_a_message_lists_the_allowed_values_twenty_at_most(tmp_path: pathlib.Path) -> None:
    assert messages(tmp_path, size="L") == ['"L" is not one of "S", "M"']
    [message] = messages(tmp_path, color="é")
    assert message.startswith('"é" is not one of "color-0", "color-1", ')
    assert message.endswith('"color-19" or 1 others')


def test_a_message_says_what_each_branch_expects(tmp_path: pathlib.Path) -> None:
    [message] = messages(tmp_path, contact="x")
    first, second = message.split("; and ")
    assert first == '"x" is shorter than 200 characters and "x" does not match "@"'
    assert second == '"x" is not a "ipv4"'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"b": [1, Decimal("0.5")]}, '{"b":[1,0.5]}'),
        ("x" * 98, '"' + "x" * 98 + '"'),
        ("x" * 99, '"' + "x" * 98 + "…"),
        ("\0", '"\\u0000"'),
    ],
)
def test_a_message_shows_the_wrong_value_and_cuts_it(tmp_path: pathlib.Path, value: object, shown: str) -> None:
    [message] = messages(tmp_path, count=value)
    assert message == f'{shown} is not of type "integer"'


@pytest.mark.parametrize(("payload_bytes", "count"), [(16 * 2**10, 2), (16 * 2**10 + 1, 1)])
def test_of_a_long_event_one_violation_is_reported(tmp_path: pathlib.Path, payload_bytes: int, count: int) -> None:
    assert len(messages(tmp_path, payload_bytes, count="x", size="L")) == count


def test_the_message_of_an_unknown_version_lists_all_versions(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "inventory.v2.json", "inventory.v10.json")
    with pytest.raises(EventRejected) as rejected:
        Contracts.load(tmp_path).choose({"event_type": "inventory"}, {"schema_version": "3"})
    assert rejected.value.violations[0].message == '"3" is no version of inventory; there is 1, 2, 10'


def test_field_names_are_those_of_all_levels_and_branches(tmp_path: pathlib.Path) -> None:
    write(tmp_path)
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    schema = {"properties": {"a": {"type": "array", "items": inner}}, "allOf": [{"properties": {"c": {}}}]}
    (tmp_path / "inventory.v1.json").write_text(json.dumps(schema), encoding="utf-8")
    names = Contracts.load(tmp_path).names
    assert {"a", "b", "c"} <= set(names.fields)
    assert set(names.event_types) == event_types().keys()
