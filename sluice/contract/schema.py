"""Evaluation of keywords of JSON Schema, draft 2020-12.

https://json-schema.org/draft/2020-12/json-schema-validation
"""

from collections.abc import Mapping
from typing import Any

type Schema = Mapping[str, Any]

ANNOTATIONS = frozenset(
    {
        "$comment",
        "$id",
        "$schema",
        "default",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    }
)
"""Keywords that no event is checked against."""


def types(schema: Schema) -> set[str]:
    """Return the types that a value may have; empty if the schema does not restrict them."""
    given = schema.get("type", ())
    return {given} if isinstance(given, str) else set(given)


def one_type(schema: Schema) -> str | None:
    """Return the type of all values that are not null, if it is one: `functions.core.rows` converts no others."""
    others = types(schema) - {"null"}
    return others.pop() if len(others) == 1 else None


def listed(schema: Schema) -> list[Any] | None:
    """Return the values that `const` and `enum` allow; None if there is neither."""
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def may_be_null(schema: Schema) -> bool:
    """Return whether null is a value: by its type, and by `const` and `enum`."""
    values = listed(schema)
    return ("null" in types(schema) or not types(schema)) and (values is None or None in values)
