"""Output of BigQuery rows as tables, JSON and CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import msgspec
from rich.table import Column, Table
from rich.text import Text

type Rows = Iterable[Mapping[str, Any]]
"""Values by column name, of the types of BigQuery's client."""


def table(names: Sequence[str], rows: Rows) -> Table:
    """Return a table for the screen: NULL is empty, floats have at most four decimals, times are UTC in seconds."""
    shown = Table(*(Column(name, overflow="fold") for name in names))
    for row in rows:
        shown.add_row(*(_readable(row[name]) for name in names))
    return shown


def printable(text: str) -> str:
    """Return a text with control characters escaped, so that a producer cannot control the terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else f"\\x{ord(character):02x}"
        for character in text
    )


def _readable(value: object) -> Text:
    match value:
        case datetime():
            return Text(f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        case float():
            return Text(str(round(value, 4)), justify="right")
        case bool():
            return Text(_cell(value))
        case int() | Decimal():
            return Text(_cell(value), justify="right")
    return Text(printable(_cell(value)))


def json_lines(rows: Rows) -> Iterator[str]:
    """Return a JSON object for each row; NUMERIC is a number with all its digits, times are RFC 3339, BYTES base64."""
    for row in rows:
        yield _json(row)


def csv_lines(names: Sequence[str], rows: Rows) -> Iterator[str]:
    """Return CSV by RFC 4180 with a header, without its line ends; NULL is empty, ARRAY and STRUCT are JSON."""
    yield _csv_line(names)
    for row in rows:
        yield _csv_line([_cell(row[name]) for name in names])


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue()


def _cell(value: object) -> str:
    """Return the exact text of a value."""
    match value:
        case None:
            return ""
        case str():
            return value
        case Decimal():
            return f"{value:f}"
    return _json(value).strip('"') if isinstance(value, datetime | date | bytes) else _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(_with_plain_numbers(value)).decode()


def _with_plain_numbers(value: object) -> object:
    """Return a Decimal as a JSON number without an exponent, in nested values too."""
    match value:
        case Decimal():
            return msgspec.Raw(f"{value:f}".encode())
        case Mapping():
            return {name: _with_plain_numbers(inner) for name, inner in value.items()}
        case list():
            return [_with_plain_numbers(inner) for inner in value]
    return value
