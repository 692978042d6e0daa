"""Decodes a payload to a JSON object, or rejects it with the reason."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

import msgspec

from functions.core.dead_letters import EventRejected, Stage, Violation
from functions.core.json_path import item, member
from functions.core.message import MAX_EVENT_BYTES

MAX_DEPTH = 100
"""Maximum levels of nested objects and arrays; a JSON column takes 500 levels
(https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#json_type)."""

MAX_VALUES = 50_000
"""Maximum number of members and items in a payload, at any depth: it bounds the time of all work on an event."""

_parse = msgspec.json.Decoder(float_hook=Decimal).decode

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def decode(data: bytes) -> dict[str, Any]:
    """Parse a payload; numbers with a fraction or an exponent become Decimal, so that money stays exact.

    Raises:
        EventRejected: Stage `decode`; too large, not UTF-8, not JSON, no object, too deep, or with a duplicate key.
    """
    if len(data) > MAX_EVENT_BYTES:
        raise _rejected("maxBytes", f"{len(data)} bytes are more than the {MAX_EVENT_BYTES} of an event")
    try:
        event = _parse(data)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError) as error:
        raise _rejected(*_explain(data, error)) from error
    if type(event) is not dict:
        raise _rejected("type", f"an event is a JSON object, this is {_JSON_NAMES[type(event)]}")
    if len(data) > 2 * MAX_VALUES:  # each value takes two bytes at least
        _check_number_of_values(event)
    _check_duplicate_keys(data, _count_strings(event))
    return event


_JSON_NAMES = {
    list: "an array",
    str: "a string",
    int: "a number",
    Decimal: "a number",
    bool: "a boolean",
    type(None): "null",
}


def _rejected(rule: str, message: str, path: str = "$") -> EventRejected:
    return EventRejected(Stage.DECODE, [Violation(path, rule, message)])


def _too_deep() -> EventRejected:
    return _rejected("maxDepth", f"nested deeper than {MAX_DEPTH} levels")


def _explain(data: bytes, error: Exception) -> tuple[str, str]:  # noqa: PLR0911 - one for each reason
    """Return the rule and the message of a payload that is not JSON. Slow and precise, for bad payloads only."""
    if not data:
        return "json", "the payload is empty"
    if isinstance(error, ArithmeticError):
        return "number", "the exponent of a number is out of all bounds"
    if isinstance(error, msgspec.ValidationError):
        return "number", "an integer has thousands of digits"
    if isinstance(error, RecursionError):
        return "maxDepth", f"nested deeper than {MAX_DEPTH} levels"
    try:
        text = data.decode()
    except UnicodeDecodeError as not_utf8:
        return "utf-8", f"byte {not_utf8.start} (0x{data[not_utf8.start]:02x}): {not_utf8.reason}"
    try:
        json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as reason:
        return "json", str(reason)
    if _SURROGATE_ESCAPE.search(data):
        return "json", "an escaped UTF-16 surrogate (\\ud800 to \\udfff) stands alone"
    return "json", str(error)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _check_number_of_values(event: dict[str, Any]) -> None:
    values = 0
    containers: list[Any] = [event]
    while containers:
        container = containers.pop()
        values += len(container)
        if values > MAX_VALUES:
            raise _rejected("maxValues", f"more than {MAX_VALUES} values")
        inner = container.values() if type(container) is dict else container
        containers.extend(value for value in inner if type(value) is dict or type(value) is list)


def _count_strings(value: dict[str, Any] | list[Any], depth: int = 1) -> int:
    """Count the strings in a value, keys among them.

    Raises:
        EventRejected: It is nested too deep.
    """
    if depth > MAX_DEPTH:
        raise _too_deep()
    if type(value) is dict:
        count = len(value)
        inner: Any = value.values()
    else:
        count = 0
        inner = value
    for value_in_it in inner:
        kind = type(value_in_it)
        if kind is str:
            count += 1
        elif kind is dict or kind is list:
            count += _count_strings(value_in_it, depth + 1)
    return count


_BACKSLASH = ord("\\")  # The search for a number is ten times as fast.


def _check_duplicate_keys(data: bytes, strings: int) -> None:
    """Reject a payload in which an object has a duplicate key. Parsers keep one of the values; which one differs.

    A key that was dropped is a string that is written in the payload and not found in what was parsed. In JSON each
    string is between two quotes, and a backslash is before each other one.
    """
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"") if _BACKSLASH in data else data
    if unescaped.count(b'"') == 2 * strings:
        return
    try:
        pairs = json.loads(data, object_pairs_hook=_Pairs)
    except RecursionError:  # in a value that another one of the same key has replaced
        raise _too_deep() from None
    for path in _duplicates(pairs):
        raise _rejected("uniqueKeys", f"{path} is a duplicate key", path)


class _Pairs(list[tuple[str, Any]]):
    """The pairs of an object, which unlike a dict may have a key twice."""


def _duplicates(value: object, path: str = "$", depth: int = 1) -> Iterator[str]:
    if depth > MAX_DEPTH + 1:  # what is no object and no array is one level deeper
        raise _too_deep()
    if isinstance(value, _Pairs):
        seen = set()
        for key, inner in value:
            if key in seen:
                yield member(path, key)
            seen.add(key)
            yield from _duplicates(inner, member(path, key), depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _duplicates(inner, item(path, index), depth + 1)
