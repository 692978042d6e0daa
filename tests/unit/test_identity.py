"""Lines are the same event by their content, however it is spelled, or by the id in their fields."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.json_path import from_root
from functions.files.id_fields import IdField, NoEventId, event_id
from functions.files.identity import Occurrences, content_digest
from tests.support import samples

SAME = [
    [
        b'{"a": 1, "b": [2.5, "\xc3\xa9/"]}',
        b'{ "b":[2.50,"\\u00e9\\/"],\t"a":1.0}',
        b'{"a":1e0,"b":[25E-1,"\xc3\xa9/"]}',
    ],
    [b'{"a": 0}', b'{"a": -0}', b'{"a": -0.0}', b'{"a": 0e5}'],
    [b'{"a": 1e400}', b'{"a": 10.0e399}'],
    [b'{"a": 123456789012345678901234567890}', b'{"a": 123456789012345678901234567890.0}'],
]
APART = [
    *(spellings[0] for spellings in SAME),
    b'{"a": "0"}',
    b'{"a": false}',
    b'{"a": null}',
    b"{}",
    b'{"a": 123456789012345678901234567891}',
    b'{"a": 0.1}',
    b'{"a": 0.10000000000000000000000000000000001}',
    b'{"a": "e\xcc\x81"}',
    b'{"a": "\xc3\xa9"}',
    b'{"a": 0, "a": 0}',
    b'{"a": 0,  "a": 0}',
    b'{"a": 0',
    b"\xff",
    b"\xfe",
]


def test_equal_events_have_one_digest_and_other_values_another() -> None:
    assert all(len({content_digest(text) for text in spellings}) == 1 for spellings in SAME)
    assert len({content_digest(text) for text in APART}) == len(APART)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab"), inner, max_size=4),
    max_leaves=8,
)


def reordered(value: Any) -> Any:
    match value:
        case dict():
            return {key: reordered(inner) for key, inner in reversed(value.items())}
        case list():
            return [reordered(inner) for inner in value]
    return value


@given(st.dictionaries(st.text("ab"), values, max_size=4))
def test_another_serializer_makes_no_other_event(event: dict[str, Any]) -> None:
    compact = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
    assert content_digest(compact) == content_digest(json.dumps(reordered(event), indent=2).encode())


def test_occurrences_count_for_each_source() -> None:
    occurrences = Occurrences()
    met = [("1", "aa"), ("1", "bb"), ("1", "aa"), ("2", "aa"), ("2", "aa")]
    assert [occurrences.count(source, digest * 16) for source, digest in met] == [1, 1, 2, 1, 2]


@given(st.lists(st.text() | st.integers(0, 9), min_size=1))
def test_every_path_that_dead_letters_name_is_one_of_an_id(steps: list[str | int]) -> None:
    assert IdField.parse(from_root(steps)).steps == steps


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.order_id", "o-1"),
        ("$['order_id']", "o-1"),
        ('$["order_id"]', "o-1"),
        ("$.items[1].product_id", "p-2"),
        ("$.items[1].quantity", "1"),
    ],
)
def test_an_id_is_the_text_of_its_field(path: str, value: str) -> None:
    assert event_id([IdField.parse(path)], samples.event("order")) == value


@pytest.mark.parametrize("path", ["$.items[2].product_id", "$[0]", "$.order_id.a", "$.order_id[0]", "$.nothing"])
def test_a_field_that_an_event_lacks_is_missing(path: str) -> None:
    with pytest.raises(NoEventId) as raised:
        event_id([IdField.parse(path)], samples.event("order"))
    assert str(raised.value) == f"{path} is missing"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "is missing"),
        ("", "cannot be an id"),
        (True, "cannot be an id"),
        ({}, "cannot be an id"),
        ([], "cannot be an id"),
        ("x" * 129, "at most 128"),
    ],
)
def test_a_value_that_is_no_id_says_why(value: Any, what: str) -> None:
    with pytest.raises(NoEventId, match=what):
        event_id([IdField.parse("$.a")], {"a": value})


parts = st.text("a|\\", min_size=1, max_size=6)


@given(st.tuples(parts, parts), st.tuples(parts, parts))
def test_different_fields_make_different_ids(names: tuple[str, str], other: tuple[str, str]) -> None:
    fields = [IdField.parse("$.a"), IdField.parse("$.b")]
    ids = [event_id(fields, {"a": first, "b": second}) for first, second in (names, other)]
    assert (ids[0] == ids[1]) == (names == other)


def test_several_fields_are_joined_in_their_order() -> None:
    event = {"id": "o-1", "meta": {"version": 7}}
    fields = [IdField.parse(path) for path in ("$.meta.version", "$.id")]
    assert event_id(fields, event) == "7|o-1"
