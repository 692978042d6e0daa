"""Rows of BigQuery as people and programs get them."""

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from sluice.formatting import csv_lines, json_lines, table

NOON = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)


def printed(rows: list[dict[str, Any]], width: int = 80) -> str:
    """Return the output that a person sees."""
    screen = io.StringIO()
    Console(file=screen, width=width).print(table(list(rows[0]), rows))
    return screen.getvalue()


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
    assert printed([{"it": value}]).splitlines()[3].strip("│ ") == text


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    assert printed([{"long_column_name": "x" * 40, "other": 1}], width=20).count("x") == 40


def test_json_has_null_and_the_digits_of_numbers() -> None:
    rows: list[dict[str, Any]] = [
        {"none": None, "money": Decimal("1E+3"), "at": NOON, "day": NOON.date(), "nested": {"p": [Decimal("0.10")]}},
        {"none": "ü\n", "money": Decimal("12345678901234567890.123456789"), "at": None, "day": None, "nested": None},
    ]
    first, second = json_lines(rows)
    assert first == (
        '{"none":null,"money":1000,"at":"2026-11-23T12:00:00.250000Z","day":"2026-11-23","nested":{"p":[0.10]}}'
    )
    assert json.loads(second, parse_float=Decimal) == rows[1]


def test_csv_has_a_header_and_reads_back() -> None:
    rows: list[dict[str, Any]] = [
        {"text": 'a "b", c\nd', "money": Decimal("1E+3"), "at": NOON, "nested": [1, 2]},
        {"text": None, "money": None, "at": None, "nested": []},
    ]
    lines = [f"{line}\n" for line in csv_lines(list(rows[0]), rows)]
    assert list(csv.reader("".join(lines).splitlines(keepends=True))) == [
        ["text", "money", "at", "nested"],
        ['a "b", c\nd', "1000", "2026-11-23T12:00:00.250000Z", "[1,2]"],
        ["", "", "", "[]"],
    ]
    assert list(csv_lines(["a"], [])) == ["a"]
