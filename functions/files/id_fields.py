"""Ids that events have in their own fields: paths of the fields, and their values."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, Self

from functions.core.message import MAX_EVENT_ID
from functions.files.sources import Line

_MAX_NAMED = 10
"""Maximum number of lines without an id that are named."""

_STEP = re.compile(
    r"""
    \.(?P<name>[^\W\d]\w*)
    | \[ (?P<index>0|[1-9]\d*) \]
    | \[ (?: '(?P<single>(?:[^'\\]|\\.)*)' | "(?P<double>(?:[^"\\]|\\.)*)" ) \]
    """,
    re.VERBOSE,
)

_ESCAPED = str.maketrans({"\\": "\\\\", "|": "\\|"})


class NoEventId(ValueError):
    """Raised for an event without the id that was asked for; names the field and the rule."""


@dataclasses.dataclass(frozen=True, slots=True)
class IdField:
    """A field whose value is an event's id, or a part of it.

    Attributes:
        path: JSON path of the field, such as `$.meta.id`.
        steps: The keys and indexes that lead to it.
    """

    path: str
    steps: Sequence[str | int]

    @classmethod
    def parse(cls, path: str) -> Self:
        """Parse a JSON path of names and indexes, as `functions.core.json_path` writes them and RFC 9535 allows them.

        Raises:
            ValueError: The text is no such path.
        """
        steps: list[str | int] = []
        end = 1
        while match := _STEP.match(path, end):
            steps.append(_step(path, match))
            end = match.end()
        if not steps or not path.startswith("$") or end < len(path):
            raise _no_path(path)
        return cls(path, steps)

    def text(self, event: dict[str, Any]) -> str:
        """Return the field's value in an event as text.

        Raises:
            NoEventId: It is missing, or it cannot be an id.
        """
        value: Any = event
        for step in self.steps:
            match value, step:
                case dict(), str():
                    value = value.get(step)
                case list(), int():
                    value = value[step] if step < len(value) else None
                case _:
                    value = None
        if value is None:
            raise NoEventId(f"{self.path} is missing")
        if value == "" or type(value) not in {str, int}:
            raise NoEventId(f"{self.path} cannot be an id; allowed are an integer and a string that is not empty")
        return str(value)


def _step(path: str, match: re.Match[str]) -> str | int:
    if match["name"] is not None:
        return match["name"]
    if match["index"] is not None:
        return int(match["index"])
    quoted = match["double"] if match["single"] is None else match["single"]
    # The escapes are those of JSON, besides that of the other quote.
    as_json = re.sub(r'\\.|"', lambda match: {r"\'": "'", '"': r"\""}.get(match[0], match[0]), quoted)
    try:
        return str(json.loads(f'"{as_json}"'))
    except ValueError as error:
        raise _no_path(path) from error


def _no_path(path: str) -> ValueError:
    return ValueError(
        f"{path!r} is no path of a field; examples are $.order_id, $.meta.id, $.items[0].id and $['order-id']"
    )


def event_id(fields: Sequence[IdField], event: dict[str, Any]) -> str:
    r"""Return the id that an event has in its fields.

    The values of several are joined by `|`, before which a `|` and a `\` in a value have a `\`.

    Args:
        fields: At least one.
        event: The event, decoded.

    Raises:
        NoEventId: The event lacks one, or the id is too long.
    """
    texts = [field.text(event) for field in fields]
    text = texts[0] if len(texts) == 1 else "|".join(part.translate(_ESCAPED) for part in texts)
    if len(text) > MAX_EVENT_ID:
        paths = " and ".join(field.path for field in fields)
        raise NoEventId(f"{paths}: the id has {len(text)} characters; an event id has at most {MAX_EVENT_ID}")
    return text


@dataclasses.dataclass(slots=True)
class WithoutId:
    """The lines without the id that was asked for. They are neither published nor loaded.

    Attributes:
        count: Number of lines.
        first: The first of them, each with its place and what is missing.
    """

    count: int = 0
    first: list[str] = dataclasses.field(default_factory=list)

    def add(self, line: Line, reason: NoEventId) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < _MAX_NAMED:
            self.first.append(f"{line.source} line {line.number}: {reason}")
