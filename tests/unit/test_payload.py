"""Payloads as people read them: the place of each error is marked, and a terminal obeys nothing of them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.core.dead_letters import DeadLetter
from sluice.dead_letters import payload_view
from sluice.dead_letters.payload_view import Marked, diff, marked, pretty
from tests.support import samples


def error(path: str, message: str = "why") -> dict[str, str]:
    return {"path": path, "rule": "rule", "message": message}


def noted(data: bytes, *paths: str) -> dict[str, list[str]]:
    """Return the marked lines with the paths of their marks."""
    lines = marked(data, [error(path) for path in paths])
    return {line.text.strip(): [note.split("  ")[0] for note in line.notes] for line in lines if line.notes}


EVENT = b'{"a": {"b": [1, 2.50, {"c": "x"}], "a.b": 1e5}, "items": [], "a": null, "item": true}'


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("$", "{"),
        ("$.a.b[1]", "2.50,"),
        ("$.a.b[2].c", '"c": "x"'),
        ("$.a['a.b']", '"a.b": 1e5'),
        ("$.items", '"items": [],'),
        ("$.items[0].price", '"items": [],'),
        ("$.item.x", '"item": true'),
        ("$.itemized", "{"),
        ("$.a.b[7]", '"b": ['),
    ],
)
def test_error_is_marked_at_its_value_or_the_innermost_parent(path: str, line: str) -> None:
    assert noted(EVENT, path) == {line: [path]}


def test_duplicate_key_is_marked_twice_and_numbers_are_verbatim() -> None:
    assert noted(EVENT, "$.a") == {'"a": {': ["$.a"], '"a": null,': ["$.a"]}
    assert pretty(b"[1.50, 1e400, 100000000000000000000, -0]") == [
        "[",
        "  1.50,",
        "  1e400,",
        "  100000000000000000000,",
        "  -0",
        "]",
    ]


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b'{"a": 1,\n "b": tru}', ' "b": tru}', 6),
        (b'{"a": "\xff"}', '{"a": "\\xff"}', 7),
        ("{'ü': 1}".encode(), "{'ü': 1}", 1),
        (b"", "", 0),
        (b"\x1b[2J{}", "\\x1b[2J{}", 0),
        (b"x" * 1_000 + b"\xff", "…" + "x" * 200 + "\\xff", 201),
    ],
)
def test_invalid_json_is_marked_at_the_first_invalid_character(data: bytes, line: str, column: int) -> None:
    [marked_line] = [line for line in marked(data, [error("$")]) if line.notes]
    assert marked_line.text == line
    assert (marked_line.notes[0], len(marked_line.notes)) == (" " * column + "^", 2)


def test_of_a_long_payload_its_beginning_and_the_marks_are_shown() -> None:
    data = json.dumps(list(range(10_000))).encode()
    lines = marked(data, [error("$[5000]")])
    assert len(lines) < payload_view.MAX_LINES
    assert [line.text for line in lines if line.is_gap] == ["… 4957 lines", "… 4996 lines"]
    assert [line.text.strip() for line in lines if line.notes] == ["5000,"]
    [_, long, _] = marked(json.dumps(["x" * 10_000]).encode(), [])
    assert long.text.endswith("… (10004 characters)")


def test_errors_of_attributes_are_not_in_the_payload() -> None:
    assert noted(b"{}", "attributes.schema_version") == {}


def is_inert(lines: list[str]) -> bool:
    return all(character.isprintable() or character in "\n\t" for line in lines for character in line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.binary() | json_values.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="replace")))
def test_nothing_of_any_payload_reaches_the_terminal(data: bytes) -> None:
    lines = marked(data, [error("$.a[0]", "\x1b[2J\x9b\u202e"), error("$")])
    assert is_inert([text for line in lines for text in (line.text, *line.notes)])
    assert sum(len(line.notes) > 0 for line in lines) >= 1
    assert is_inert(diff(data, b'{"a": "\x1b"}'))


@given(json_values)
def test_pretty_printed_json_is_the_same_json(value: Any) -> None:
    lines = [line.text for line in marked(json.dumps(value).encode(), [])]
    if not any("…" in line for line in lines) and "\\x" not in "\n".join(lines):
        assert json.loads("\n".join(lines)) == value


@pytest.mark.parametrize("depth", [10, 3_000, 100_000])
def test_depth_is_no_harm(depth: int) -> None:
    assert marked(b"[" * depth + b"]" * depth, [error("$")])


def test_each_violation_of_a_real_event_is_marked_at_its_own_line() -> None:
    items = [{"product_id": "p", "product_name": "Tea", "quantity": 0, "price": 1}, {"product_id": "q"}]
    event = samples.event("order", status="lost", items=items, total_amount="24.98")
    letter = samples.process(samples.message(event), samples.NOW)
    assert isinstance(letter, DeadLetter)
    lines = marked(letter.message.data, [problem._asdict() for problem in letter.errors])
    noted_lines: dict[str, Marked] = {line.text.strip(): line for line in lines if line.notes}
    assert {'"status": "lost",', '"quantity": 0,', '"total_amount": "24.98"'} <= noted_lines.keys()
    assert sum(len(line.notes) for line in lines) == len(letter.errors)


def test_diff_compares_the_formatted_payloads() -> None:
    assert diff(b'{"a":1,"b":2}', b'{"b":2, "a":3}')[2:] == [
        "@@ -1,4 +1,4 @@",
        " {",
        '-  "a": 1,',
        '-  "b": 2',
        '+  "b": 2,',
        '+  "a": 3',
        " }",
    ]
