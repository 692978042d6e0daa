"""Schemas become converters, and these turn events into columns and unknown fields."""

import copy
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from functions.core.contracts import Contracts
from functions.core.dead_letters import EventRejected, Stage
from functions.core.decode import decode
from functions.core.rows import RowConverter
from tests.support.samples import EVENTS, event

TIME = {"type": "string", "format": "date-time"}
SCHEMA = {
    "properties": {
        "note": {"type": ["string", "null"]},
        "seen": {"type": "array", "items": TIME},
        "address": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "since": TIME, "tags": {"type": "object"}},
        },
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"price": {"type": "number"}, "count": {"type": "integer"}}},
        },
    }
}


def test_nested_objects_and_arrays_of_objects_are_converted() -> None:
    columns, extras = RowConverter(SCHEMA).columns(
        {
            "note": "x",
            "seen": ["2026-11-23T12:00:00+01:00"],
            "address": {"city": "Reims", "since": "2026-11-23T12:00:00Z", "tags": {"b": 1, "a": Decimal("1.0")}},
            "lines": [{"price": Decimal("1.5"), "count": Decimal(2)}],
        }
    )
    assert columns == {
        "note": "x",
        "seen": [datetime(2026, 11, 23, 11, tzinfo=UTC)],
        "address": {"city": "Reims", "since": datetime(2026, 11, 23, 12, tzinfo=UTC), "tags": '{"a":1,"b":1}'},
        "lines": [{"price": Decimal("1.500000000"), "count": 2}],
    }
    assert extras == {}


def test_numbers_are_rounded_and_counted_in_objects_and_arrays() -> None:
    number = {"type": "number"}
    converter = RowConverter({"properties": {"price": number, "sizes": {"type": "array", "items": number}}})
    columns, extras = converter.columns(
        {"price": Decimal("0.12345678951"), "sizes": [Decimal("0.5"), Decimal("1.12345678949")]}
    )
    assert columns == {"price": Decimal("0.123456790"), "sizes": [Decimal("0.5"), Decimal("1.123456789")]}
    assert extras.rounded_numbers == 2


def test_unknown_fields_of_every_level_are_extras_under_their_path() -> None:
    columns, extras = RowConverter(SCHEMA).columns(
        {"new": [Decimal("2.0")], "address": {"zip": None}, "lines": [{}, {"a.b": {"c": 1}}]}
    )
    assert columns == {"address": {}, "lines": [{}, {}]}
    assert extras == {"new": [2], "address.zip": None, "lines[1]['a.b']": {"c": 1}}


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"seen": ["2026-11-23T12:00:00Z", "2016-12-31T23:59:60Z"]}, "$.seen[1]"),
        ({"address": {"since": "2016-12-31T23:59:60Z"}}, "$.address.since"),
    ],
)
def test_an_instant_without_a_timestamp_is_rejected_at_its_place(event: dict[str, Any], path: str) -> None:
    with pytest.raises(EventRejected) as rejected:
        RowConverter(SCHEMA).columns(copy.deepcopy(event))
    [violation] = rejected.value.violations
    assert (rejected.value.stage, violation.path, violation.rule) == (Stage.CONTRACT, path, "format")
    assert '"2016-12-31T23:59:60Z"' in violation.message


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (Decimal(2**53), "9007199254740992"),
        (Decimal(2**53 - 1), "9007199254740991"),
        (-(2**63), "-9223372036854775808"),
        (-(2**63) - 1, '"-9223372036854775809"'),
        (2**64 - 1, "18446744073709551615"),
        (2**64, '"18446744073709551616"'),
        (Decimal("0.1"), "0.1"),
        (Decimal("0.10000000000000000001"), '"0.10000000000000000001"'),
    ],
)
def test_a_number_that_json_columns_would_change_is_text(number: Decimal | int, kept: str) -> None:
    columns, _ = RowConverter({"properties": {"tags": {"type": "object"}}}).columns({"tags": {"n": number}})
    assert columns["tags"].removesuffix(".0}").removesuffix("}") == f'{{"n":{kept}'


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "this is none"),
        ({"type": ["string", "integer"]}, "this is ['string', 'integer']"),
        ({"type": "array", "items": {"type": "array"}}, "'array'"),
    ],
)
def test_the_error_of_a_schema_names_the_property_and_its_types(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^odd: ") as raised:
        RowConverter({"properties": {"odd": schema}})
    assert message in str(raised.value)


def test_loaded_contracts_check_formats_and_name_all_fields() -> None:
    contracts = Contracts.load()
    for name, sample in EVENTS.items():
        contract = contracts.choose(sample, {})
        assert (contract.name, contract.version) == (name, 1)
        assert contract.event_type.table == {"order": "orders"}.get(name, name)
        columns, extras = contract.validate(decode(json.dumps(sample).encode()), 500)
        assert columns.keys() == sample.keys()
        assert extras == {}
    assert set(contracts.names.event_types) == set(EVENTS)
    assert {"items", "price", "shipping_address", "city", "session_id"} <= set(contracts.names.fields)
    with pytest.raises(EventRejected) as rejected:
        contracts.choose(EVENTS["order"], {}).validate(event("order", order_date="yesterday"), 500)
    [violation] = rejected.value.violations
    assert violation == ("$.order_date", "format", '"yesterday" is not a "date-time"')
