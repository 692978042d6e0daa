"""Generation of an example event from a contract."""

from collections.abc import Callable, Mapping
from typing import Any

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T12:00:00Z",
    "duration": "PT1M",
    "email": "smoke@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "12:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
"""Values of string formats, from the ranges that are reserved for examples where they exist."""


def example(schema: Mapping[str, Any], text: str) -> Any:  # noqa: ANN401 - whatever the schema says
    """Return a small value that a schema accepts: the required fields of an object, the first of several choices.

    It ignores `pattern`, `$ref` and conditions, so the caller must validate the result.

    Args:
        schema: A JSON Schema, or a part of one.
        text: Value of strings without constraints.
    """
    if "const" in schema:
        return schema["const"]
    for choices in ("examples", "enum"):
        if schema.get(choices):
            return schema[choices][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if branches := schema.get(keyword):
            merged = {name: value for name, value in schema.items() if name != keyword}
            for branch in branches if keyword == "allOf" else branches[:1]:
                merged |= branch
            return example(merged, text)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _MAKERS[kind if isinstance(kind, str) else kind[0]](schema, text)


def _object(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    properties = schema.get("properties", {})
    return {name: example(properties.get(name, {}), text) for name in schema.get("required", ())}


def _array(schema: Mapping[str, Any], text: str) -> list[Any]:
    return [example(schema.get("items", {}), text) for _ in range(schema.get("minItems", 0))]


def _number(schema: Mapping[str, Any], _: str) -> float:
    """Return the valid number that is nearest to 1."""
    low: float = max(1, schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
    high: float = min(schema.get("maximum", low), schema.get("exclusiveMaximum", low + 1) - 1)
    return min(low, high)


def _string(schema: Mapping[str, Any], text: str) -> str:
    if form := _FORMATS.get(schema.get("format", "")):
        return form
    return text.ljust(schema.get("minLength", 0), "-")[: schema.get("maxLength")]


_MAKERS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    "array": _array,
    "boolean": lambda _schema, _text: False,
    "integer": _number,
    "null": lambda _schema, _text: None,
    "number": _number,
    "object": _object,
    "string": _string,
}
