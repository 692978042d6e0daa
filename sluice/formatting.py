"""Output of rows as tables, records, JSON and CSV."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

type Rows = Iterable[Sequence[object]]
"""Values in the order of the names, of the types of BigQuery's client; a Text has a style on the screen."""

_NUMBER = re.compile(r"|(?:< )?[-+]?\d[\d ,.]*(?:e[-+]\d+)?(?: s| %)?")
"""Cells of a column that is aligned to the right."""


def print_rows(
    names: Sequence[str],
    rows: Rows,
    *,
    as_csv: bool = False,
    title: str = "",
    console: Console | None = None,
) -> None:
    """Print rows to standard output: for people as `layout` does, for programs as CSV."""
    console = console or Console()
    if as_csv:
        console.file.writelines(f"{line}\n" for line in csv_lines(names, rows))
        return
    text = layout(names, rows, console.width)
    if title:
        console.print(Text(title, "bold"), soft_wrap=True)
    console.print(text, soft_wrap=True)


def layout(names: Sequence[str], rows: Rows, width: int) -> Text:
    """Return rows for people: a table if it fits into the width, otherwise records with one field a line.

    No cell is cut or broken over lines. NULL is empty, floats have at most four decimals, times are UTC in seconds.
    """
    cells = [[readable(value) for value in row] for row in rows]
    columns = list(zip(*cells, strict=True)) if cells else [() for _ in names]
    widths = [
        max(cell_len(cell) for cell in (name, *(value.plain for value in column)))
        for name, column in zip(names, columns, strict=True)
    ]
    has_lines = any("\n" in cell.plain for row in cells for cell in row)
    if cells and (has_lines or sum(widths) + len(_GAP) * (len(widths) - 1) > width):
        return Text("\n\n").join(_record(names, row) for row in cells)
    right = [all(_NUMBER.fullmatch(cell.plain) for cell in column) for column in columns]
    heads = [Text(name, "bold") for name in names]
    rules = [Text("-" * column_width) for column_width in widths]
    return Text("\n").join(_line(row, widths, right) for row in (heads, rules, *cells))


_GAP = "  "


def _line(cells: Sequence[Text], widths: Sequence[int], right: Sequence[bool]) -> Text:
    line = Text(_GAP).join(
        Text.assemble(padding, cell) if is_right else Text.assemble(cell, padding)
        for cell, width, is_right in zip(cells, widths, right, strict=True)
        for padding in [" " * (width - cell_len(cell.plain))]
    )
    line.rstrip()
    return line


def _record(names: Sequence[str], cells: Sequence[Text]) -> Text:
    width = max(map(cell_len, names))
    lines = []
    for name, cell in zip(names, cells, strict=True):
        first, *more = cell.split(allow_blank=True)
        lines.append(Text.assemble((name, "bold"), " " * (width - cell_len(name)), _GAP if first else "", first))
        lines[-1].rstrip()
        lines += [Text.assemble(" " * width, _GAP, line) for line in more]
    return Text("\n").join(lines)


def printable(text: str) -> str:
    """Return a text with control characters escaped, so that a producer cannot control the terminal."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else f"\\x{ord(character):02x}"
        for character in text
    )


def readable(value: object) -> Text:
    """Return a value for people. A tab has no width of its own, so it is escaped."""
    match value:
        case Text():
            return value
        case datetime():
            return Text(f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        case float():
            return Text(str(round(value, 4)))
    return Text(printable(_cell(value)).replace("\t", "\\t"))


def json_lines(names: Sequence[str], rows: Rows) -> Iterator[str]:
    """Return a JSON object for each row; NUMERIC is a number with all its digits, times are RFC 3339, BYTES base64."""
    for row in rows:
        yield _json(dict(zip(names, row, strict=True)))


def csv_lines(names: Sequence[str], rows: Rows) -> Iterator[str]:
    """Return CSV by RFC 4180 with a header, without its line ends; NULL is empty, ARRAY and STRUCT are JSON."""
    yield _csv_line(names)
    for row in rows:
        yield _csv_line([_cell(value) for value in row])


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
        case Text():
            return value.plain
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
