"""Display of payloads: formatted, with the errors marked, and without control characters."""

import difflib
import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from rich.text import Text

from functions.core.json_path import item, member
from sluice.formatting import printable

MAX_LINES = 200
"""Maximum lines of a payload that is shown in full. Of a longer one, the beginning and the marked lines are shown."""

_HEAD = 40
_AROUND = 4
_WIDTH = 400
_INDENT = "  "


class Marked(NamedTuple):
    """A line of a payload.

    Attributes:
        text: The line.
        notes: Errors at this line.
        is_gap: Whether it replaces lines that are omitted.
    """

    text: str
    notes: Sequence[str] = ()
    is_gap: bool = False


def marked(data: bytes, errors: Sequence[Mapping[str, str]]) -> list[Marked]:
    """Return the lines of a payload, each with its errors.

    A missing value is marked at its innermost existing parent. A payload that is not JSON is shown as text and
    marked where it stops being valid JSON or UTF-8.

    Args:
        data: The payload.
        errors: Errors with `path`, `rule` and `message`; those of attributes are not shown.
    """
    notes = [(error["path"], f"{error['path']}  {error['rule']}: {error['message']}") for error in errors]
    notes = [(path, printable(text)) for path, text in notes if path.startswith("$")]
    lines = _as_json(data)
    if lines is None:
        marked_lines = _as_text(data, [text for _, text in notes])
    else:
        paths = {path for path, _ in lines if path}
        at: dict[str, list[str]] = {}
        for path, text in notes:
            at.setdefault(_innermost(path, paths), []).append(text)
        marked_lines = [Marked(_clipped(text), at.get(path, ()) if path else ()) for path, text in lines]
    return _without_the_middle(marked_lines)


def styled(data: bytes, errors: Sequence[Mapping[str, str]]) -> Iterator[Text]:
    """Return the lines of `marked` for a terminal, each error below its line."""
    for line in marked(data, errors):
        yield Text(f"{_INDENT}{line.text}", "dim" if line.is_gap else "red" if line.notes else "")
        yield from map(note, line.notes)


def note(text: str) -> Text:
    """Return an error for a terminal, to be shown below what it belongs to."""
    text = printable(text)
    if text.lstrip().startswith("^"):
        return Text(f"{_INDENT}{text}", "bold red")
    lines = textwrap.wrap(
        f"{_INDENT}^ {text}",
        shutil.get_terminal_size().columns,
        subsequent_indent=_INDENT * 3,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return Text("\n".join(lines), "bold red")


def pretty(data: bytes) -> list[str]:
    """Return the lines of a payload, without marks."""
    lines = _as_json(data)
    texts = [text for _, text in lines] if lines else _text(data).split("\n")
    return [_clipped(text) for text in texts]


def editable(data: bytes) -> str | None:
    """Return a payload as text that is easy to edit: formatted if it is JSON; None if it is not UTF-8."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    formatted = "\n".join(line for _, line in _as_json(data) or ())
    try:
        return formatted if _parse(formatted) == _parse(text) else text
    except (ValueError, RecursionError):
        return text


def diff(before: bytes, after: bytes) -> list[str]:
    """Return the changes in the format of `diff -u`, by formatted lines."""
    return list(difflib.unified_diff(pretty(before), pretty(after), "before", "after", lineterm="", n=2))


class _Number(str):
    """A number in its original notation."""

    __slots__ = ()


class _KeyedValues(list[tuple[str, Any]]):
    """The pairs of an object, which may have duplicate keys."""


def _as_json(data: bytes) -> list[tuple[str | None, str]] | None:
    """Return lines with the paths of the values that begin there; None for invalid JSON."""
    try:
        value = _parse(data.decode())
        return list(_lines(value, "$", "", "", ""))
    except (ValueError, RecursionError):
        return None


def _parse(text: str) -> Any:  # noqa: ANN401 - any JSON value
    return json.loads(
        text, object_pairs_hook=_KeyedValues, parse_int=_Number, parse_float=_Number, parse_constant=_reject_constant
    )


def _reject_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


def _lines(value: object, path: str, key: str, indent: str, end: str) -> Iterator[tuple[str | None, str]]:
    """Yield the lines of a value, with `key` before it and `end` after it."""
    inner: list[tuple[str, str, object]]
    match value:
        case _KeyedValues():
            brackets = "{}"
            inner = [(member(path, name), f"{_quoted(name)}: ", inner_value) for name, inner_value in value]
        case list():
            brackets = "[]"
            inner = [(item(path, index), "", inner_value) for index, inner_value in enumerate(value)]
        case _:
            yield path, f"{indent}{key}{_scalar(value)}{end}"
            return
    if not inner:
        yield path, f"{indent}{key}{brackets}{end}"
        return
    yield path, f"{indent}{key}{brackets[0]}"
    for number, (place, name, inner_value) in enumerate(inner, start=1):
        yield from _lines(inner_value, place, name, indent + _INDENT, "," if number < len(inner) else "")
    yield None, f"{indent}{brackets[1]}{end}"


def _scalar(value: object) -> str:
    match value:
        case _Number():
            return value
        case str():
            return _quoted(value)
    return json.dumps(value)


def _quoted(text: str) -> str:
    return printable(json.dumps(text, ensure_ascii=False))


def _innermost(path: str, paths: set[str]) -> str:
    """Return a path, or the innermost path around it that exists."""
    around = (
        candidate
        for candidate in paths
        if path.startswith(candidate) and path[len(candidate) : len(candidate) + 1] in {"", ".", "["}
    )
    return max(around, key=len, default="$")


def _as_text(data: bytes, notes: list[str]) -> list[Marked]:
    """Return the lines of data that is not JSON, with all notes at the first invalid character."""
    before = _text(data[: _place(data)]).split("\n")
    number, column = len(before) - 1, len(before[-1])
    lines = [Marked(_clipped(line)) for line in _text(data).split("\n")]
    start = max(0, column - _WIDTH // 2)
    line = _text(data).split("\n")[number]
    window = line[start : start + _WIDTH]
    text = f"{'…' if start else ''}{window}{'…' if len(line) > start + _WIDTH else ''}"
    pointer = " " * (column - start + (1 if start else 0)) + "^"
    lines[number] = Marked(text, [pointer, *notes] if notes else [])
    return lines


def _text(data: bytes) -> str:
    return printable(data.decode(errors="backslashreplace"))


def _place(data: bytes) -> int:
    """Return the number of bytes before the first that is invalid UTF-8 or JSON."""
    try:
        text = data.decode()
        _parse(text)
    except UnicodeDecodeError as error:
        return error.start
    except json.JSONDecodeError as error:
        return len(text[: error.pos].encode())
    except (ValueError, RecursionError):
        pass
    return 0


def _clipped(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[:_WIDTH]}… ({len(line)} characters)"


def _without_the_middle(lines: Sequence[Marked]) -> list[Marked]:
    if len(lines) <= MAX_LINES:
        return list(lines)
    shown = set(range(_HEAD))
    for number, line in enumerate(lines):
        if line.notes:
            shown |= set(range(number - _AROUND, number + _AROUND + 1))
    return list(_gaps(lines, sorted(number for number in shown if 0 <= number < len(lines))))


def _gaps(lines: Sequence[Marked], shown: Iterable[int]) -> Iterator[Marked]:
    expected = 0
    for number in shown:
        if number > expected:
            yield Marked(f"… {number - expected} lines", is_gap=True)
        yield lines[number]
        expected = number + 1
    if expected < len(lines):
        yield Marked(f"… {len(lines) - expected} lines", is_gap=True)
