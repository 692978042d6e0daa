"""Compatibility: a change that passes keeps every valid event valid, and reports additions to readers."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sluice.contract.compatibility import compatibility
from sluice.contract.finding import Breaks
from tests.support import schema_strategies

TEXT = {"type": "string", "maxLength": 5}
COUNT = {"type": "integer", "minimum": 0, "maximum": 9}
STATUS = {"type": "string", "enum": ["a", "b"]}
LIST = {"type": "array", "maxItems": 3, "items": TEXT}
OBJECT: dict[str, Any] = {"type": "object", "required": ["x"], "properties": {"x": TEXT, "y": COUNT}}


def changes_of(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Breaks, bool]]:
    return [(finding.path, finding.breaks, finding.is_notice) for finding in compatibility(before, after)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TEXT, {"maxLength": 5, "type": "string"}),
        (TEXT, {**TEXT, "maxLength": 6, "description": "Longer", "examples": ["x"]}),
        ({**TEXT, "minLength": 1, "pattern": "^x", "format": "uuid", "not": {"const": "x"}}, TEXT),
        (COUNT, {**COUNT, "type": "number", "maximum": 9.5}),
        (COUNT, {**COUNT, "exclusiveMinimum": -1}),
        ({**COUNT, "exclusiveMaximum": 5}, COUNT),
        ({**COUNT, "multipleOf": 4}, {**COUNT, "multipleOf": 2}),
        ({"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["b", "a"]}),
        (LIST, {**LIST, "maxItems": 4}),
        ({**LIST, "minItems": 1, "uniqueItems": True}, LIST),
        ({**OBJECT, "additionalProperties": False}, OBJECT),
        ({**OBJECT, "additionalProperties": False}, {**OBJECT, "properties": {**OBJECT["properties"], "z": TEXT},
                                                     "additionalProperties": False}),
    ],
)  # fmt: skip
def test_compatible_change_has_no_findings(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert changes_of(before, after) == []


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (TEXT, {**TEXT, "maxLength": 4}, "$"),
        (TEXT, {**TEXT, "minLength": 1}, "$"),
        (TEXT, {**TEXT, "pattern": "^x"}, "$"),
        ({**TEXT, "pattern": "^x"}, {**TEXT, "pattern": "^[xy]"}, "$"),
        (TEXT, {**TEXT, "format": "uuid"}, "$"),
        (TEXT, {**TEXT, "enum": ["a"]}, "$"),
        (TEXT, {**TEXT, "const": "a"}, "$"),
        (TEXT, COUNT, "$"),
        ({}, {"type": "string"}, "$"),
        ({**TEXT, "type": ["string", "null"]}, TEXT, "$"),
        ({**COUNT, "type": "number"}, COUNT, "$"),
        (STATUS, {**STATUS, "enum": ["a"]}, "$"),
        (STATUS, {**STATUS, "const": "a"}, "$"),
        ({"const": 1}, {"const": True}, "$"),
        (COUNT, {**COUNT, "minimum": 1}, "$"),
        (COUNT, {**COUNT, "maximum": 8}, "$"),
        (COUNT, {**COUNT, "exclusiveMinimum": 0}, "$"),
        (COUNT, {**COUNT, "exclusiveMaximum": 9}, "$"),
        ({**COUNT, "multipleOf": 2}, {**COUNT, "multipleOf": 4}, "$"),
        (LIST, {**LIST, "minItems": 1}, "$"),
        (LIST, {**LIST, "maxItems": 2}, "$"),
        (LIST, {**LIST, "uniqueItems": True}, "$"),
        (LIST, {**LIST, "items": {**TEXT, "maxLength": 4}}, "$[*]"),
        (LIST, {**LIST, "prefixItems": [TEXT]}, "$"),
        (LIST, {**LIST, "contains": {"const": "x"}}, "$"),
        (OBJECT, {**OBJECT, "required": ["x", "y"]}, "$.y"),
        (OBJECT, {**OBJECT, "properties": {"x": {**TEXT, "maxLength": 4}, "y": COUNT}}, "$.x"),
        (OBJECT, {**OBJECT, "additionalProperties": False}, "$"),
        (OBJECT, {**OBJECT, "maxProperties": 3}, "$"),
        (OBJECT, {**OBJECT, "anyOf": [{"required": ["y"]}]}, "$"),
        (OBJECT, {**OBJECT, "if": {"required": ["y"]}, "then": {"maxProperties": 3}}, "$"),
        (OBJECT, {**OBJECT, "$defs": {"z": TEXT}}, "$"),
        ({**OBJECT, "$defs": {"z": TEXT}, "$ref": "#/$defs/z"}, OBJECT, "$"),
        (OBJECT, {**OBJECT, "properties": {**OBJECT["properties"], "z": True}, "required": ["x", "z"]}, "$.z"),
        ({"type": "object"}, OBJECT, "$"),
        ({**OBJECT, "additionalProperties": TEXT}, {**OBJECT, "properties": {**OBJECT["properties"], "z": COUNT}},
         "$.z"),
    ],
)  # fmt: skip
def test_change_that_may_reject_valid_events_breaks_producers(
    before: dict[str, Any], after: dict[str, Any], path: str
) -> None:
    assert (path, Breaks.PRODUCERS, False) in changes_of(before, after)


def test_a_property_that_is_gone_breaks_readers() -> None:
    assert changes_of(OBJECT, {**OBJECT, "properties": {"x": TEXT}}) == [("$.y", Breaks.READERS, False)]


@pytest.mark.parametrize(
    ("before", "after", "path", "whom"),
    [
        (STATUS, {**STATUS, "enum": ["a", "b", "c"]}, "$", Breaks.READERS),
        (STATUS, TEXT, "$", Breaks.READERS),
        (TEXT, {**TEXT, "type": ["string", "null"]}, "$", Breaks.READERS),
        (OBJECT, {**OBJECT, "required": []}, "$.x", Breaks.READERS),
        (OBJECT, {**OBJECT, "properties": {**OBJECT["properties"], "z": TEXT}}, "$.z", Breaks.PRODUCERS),
    ],
)
def test_compatible_change_that_is_visible_is_a_notice(
    before: dict[str, Any], after: dict[str, Any], path: str, whom: Breaks
) -> None:
    assert changes_of(before, after) == [(path, whom, True)]


def test_a_new_value_of_an_enumeration_is_named() -> None:
    [finding] = compatibility(STATUS, {**STATUS, "enum": ["a", "b", "c", 5]})
    assert finding.problem == 'may have new values: "c"'


# The promise


encode = msgspec.json.Encoder(decimal_format="number").encode


@given(schema_strategies.SCHEMAS | schema_strategies.objects(schema_strategies.SCHEMAS), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
def test_compatible_change_keeps_every_valid_event_valid(before: dict[str, Any], data: st.DataObject) -> None:
    after = data.draw(schema_strategies.changed(before))
    findings = list(compatibility(before, after))
    assume(not any(finding.breaks is Breaks.PRODUCERS and not finding.is_notice for finding in findings))
    value = json.loads(encode(data.draw(schema_strategies.valid(before))))
    assume(oracle(before).is_valid(value))
    assert oracle(after).is_valid(value), findings


def oracle(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
