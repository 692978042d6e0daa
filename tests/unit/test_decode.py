"""Payloads that are no event are rejected, with the reason; bounds are exact."""

import json
from decimal import Decimal

import pytest

from functions.core.dead_letters import EventRejected, Stage, Violation
from functions.core.decode import MAX_DEPTH, MAX_VALUES, decode
from functions.core.message import MAX_EVENT_BYTES


def rejection(data: bytes) -> Violation:
    with pytest.raises(EventRejected) as rejected:
        decode(data)
    assert rejected.value.stage is Stage.DECODE
    [violation] = rejected.value.violations
    return violation


@pytest.mark.parametrize(
    ("data", "rule", "message"),
    [
        (b"", "json", "the payload is empty"),
        (b'{"a":1e99999999999999999999}', "number", "the exponent of a number is out of all bounds"),
        (b'{"a":' + b"9" * 5000 + b"}", "number", "an integer has thousands of digits"),
        (b'{"a":"\xff"}', "utf-8", "byte 6 (0xff): invalid start byte"),
        (b'{"a":"\\udC00"}', "json", "an escaped UTF-16 surrogate (\\ud800 to \\udfff) stands alone"),
        (b'{"a":NaN}', "json", "NaN is not JSON"),
        (b'{"a":"\x01"}', "json", "Invalid control character at: line 1 column 7 (char 6)"),
        (b'{"a":1}x', "json", "Extra data: line 1 column 8 (char 7)"),
        (b'["a"]', "type", "an event is a JSON object, this is an array"),
        (b"1", "type", "an event is a JSON object, this is a number"),
    ],
)
def test_the_message_says_why_a_payload_is_no_event(data: bytes, rule: str, message: str) -> None:
    assert rejection(data) == ("$", rule, message)


def nested(levels: int) -> bytes:
    """An object with so many levels of objects and arrays, itself included."""
    return b'{"a":' + b"[" * (levels - 1) + b"1" + b"]" * (levels - 1) + b"}"


def test_an_event_has_at_most_100_levels() -> None:
    assert decode(nested(MAX_DEPTH))
    assert rejection(nested(MAX_DEPTH + 1)) == ("$", "maxDepth", f"nested deeper than {MAX_DEPTH} levels")


@pytest.mark.parametrize(("levels", "rule"), [(MAX_DEPTH, "uniqueKeys"), (MAX_DEPTH + 1, "maxDepth")])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"b":', b"}")])
def test_a_value_that_another_of_its_key_replaces_has_the_same_bound(
    levels: int, rule: str, opening: bytes, closing: bytes
) -> None:
    replaced = opening * (levels - 1) + b"1" + closing * (levels - 1)
    assert rejection(b'{"a":' + replaced + b',"a":1}').rule == rule


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b'{"a":1,"a":1}', "$.a"),
        (b'{"a":{"b.c":1,"b.c":2}}', "$.a['b.c']"),
        (b'{"a":[{},{"b":{"c":1,"c":2}}]}', "$.a[1].b.c"),
        (b'{"\\u0061":1,"a":1}', "$.a"),
    ],
)
def test_a_duplicate_key_is_rejected_at_its_place(data: bytes, path: str) -> None:
    violation = rejection(data)
    assert (violation.path, violation.rule) == (path, "uniqueKeys")
    assert path in violation.message


@pytest.mark.parametrize("text", ['"', "\\", '\\"', '"\\', "", '""'])
def test_quotes_and_backslashes_are_no_duplicate_keys(text: str) -> None:
    event = {text: [text, {text: text}], "b": text}
    assert decode(json.dumps(event).encode()) == event


def test_an_event_has_at_most_50_000_values() -> None:
    # The member itself, two arrays in it, and their items.
    items = [1] * (MAX_VALUES - 4)
    event = {"a": [items, {"b": 1}]}
    assert decode(json.dumps(event).encode()) == event
    items.append(1)
    assert rejection(json.dumps(event).encode()) == ("$", "maxValues", f"more than {MAX_VALUES} values")


def test_an_event_has_at_most_two_mebibytes() -> None:
    event = b'{"a":"' + b"x" * (MAX_EVENT_BYTES - 8) + b'"}'
    assert len(event) == MAX_EVENT_BYTES
    assert decode(event)
    violation = rejection(event + b" ")
    assert (violation.rule, violation.message) == ("maxBytes", "2097153 bytes are more than the 2097152 of an event")


def test_numbers_are_exact() -> None:
    assert decode(b'{"a":0.1,"b":1e2,"c":3}') == {"a": Decimal("0.1"), "b": Decimal("1e2"), "c": 3}
