"""Rows of BigQuery as people and programs get them."""

import csv
import io
import itertools
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from sluice.formatting import csv_lines, json_lines, print_rows, printable

NOON = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)


def printed(names: Sequence[str], rows: Sequence[Sequence[object]], width: int = 80) -> list[str]:
    """Return the lines of output in a pipe."""
    out = io.StringIO()
    print_rows(names, rows, console=Console(file=out, width=width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("[bold]x[/]", "[bold]x[/]"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        (True, "true"),
        (12345678, "12345678"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.000000001"), "0.000000001"),
        (1 / 3, "0.3333"),
        (date(2026, 11, 23), "2026-11-23"),
        (NOON.astimezone(timezone(timedelta(hours=5))), "2026-11-23 12:00:00 UTC"),
        (b"\xff", "/w=="),
        ([{"a": Decimal("1.50")}], '[{"a":1.50}]'),
    ],
)
def test_people_read_values_without_codes(value: object, text: str) -> None:
    assert printed(["it"], [[value]])[2:] == ([text] if text else [""])


def test_numbers_are_aligned_to_the_right_and_names_to_the_left() -> None:
    rows = [("orders", 10_135, "1.5 s", "< 0.01"), ("user_activity", 7, "12.0 s", "1 250.00")]
    assert printed(["type", "rows", "lag", "usd"], rows) == [
        "type            rows     lag       usd",
        "-------------  -----  ------  --------",
        "orders         10135   1.5 s    < 0.01",
        "user_activity      7  12.0 s  1 250.00",
    ]


def test_what_does_not_fit_is_printed_as_records() -> None:
    rows = [("x" * 40, None), ("y", "two\nlines")]
    assert printed(["id", "number"], rows, width=20) == [
        f"id      {'x' * 40}",
        "number",
        "",
        "id      y",
        "number  two",
        "        lines",
    ]


def test_no_rows_are_printed_as_a_header() -> None:
    assert printed(["a_long_name", "another"], [], width=10) == ["a_long_name  another", "-----------  -------"]


WORDS = st.text(st.characters(codec="utf-8"), max_size=90)
CELLS = st.one_of(st.none(), st.integers(), st.decimals(allow_nan=False, allow_infinity=False), st.dates(), WORDS)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[Any]]]:
    names = draw(st.lists(st.from_regex(r"[a-z_]{1,30}", fullmatch=True), min_size=1, max_size=6))
    return names, draw(st.lists(st.tuples(*(CELLS for _ in names)).map(list), max_size=4))


@given(tables(), st.integers(1, 200))
def test_no_cell_is_cut_or_broken_at_any_width(table: tuple[list[str], list[list[Any]]], width: int) -> None:
    """Each line of each cell is in one line of the output, and in a table all lines fit."""
    names, rows = table
    lines = printed(names, rows, width)
    for value in itertools.chain.from_iterable(rows):
        for part in readable(value).split("\n"):
            assert any(part.rstrip() in line for line in lines), (part, lines)
    is_table = len(lines) > 1 and set(lines[1]) <= {"-", " "} and lines[1].startswith("-")
    if rows and is_table:
        assert all(cell_len(line) <= width for line in lines)


def readable(value: object) -> str:
    """Return the text of a value in an output for people."""
    text = "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)
    return printable(text).replace("\t", "\\t")


def test_json_has_null_and_the_digits_of_numbers() -> None:
    rows: list[dict[str, Any]] = [
        {"none": None, "money": Decimal("1E+3"), "at": NOON, "day": NOON.date(), "nested": {"p": [Decimal("0.10")]}},
        {"none": "ü\n", "money": Decimal("12345678901234567890.123456789"), "at": None, "day": None, "nested": None},
    ]
    first, second = json_lines(list(rows[0]), [list(row.values()) for row in rows])
    assert first == (
        '{"none":null,"money":1000,"at":"2026-11-23T12:00:00.250000Z","day":"2026-11-23","nested":{"p":[0.10]}}'
    )
    assert json.loads(second, parse_float=Decimal) == rows[1]


def test_csv_has_a_header_and_reads_back() -> None:
    rows: list[dict[str, Any]] = [
        {"text": 'a "b", c\nd', "money": Decimal("1E+3"), "at": NOON, "nested": [1, 2]},
        {"text": None, "money": None, "at": None, "nested": []},
    ]
    lines = [f"{line}\n" for line in csv_lines(list(rows[0]), [list(row.values()) for row in rows])]
    assert list(csv.reader("".join(lines).splitlines(keepends=True))) == [
        ["text", "money", "at", "nested"],
        ['a "b", c\nd', "1000", "2026-11-23T12:00:00.250000Z", "[1,2]"],
        ["", "", "", "[]"],
    ]
    assert list(csv_lines(["a"], [])) == ["a"]
