"""Hypothesis strategies: JSON Schemas such as contracts have, changes of them, and values that are valid for them."""

import copy
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import jsonschema_rs
from hypothesis import strategies as st

type Schema = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "c", "d"])
LIMIT = 10**40


def _optional(keyword: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.just({}) | values.map(lambda value: {keyword: value})


def _merged(*parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.tuples(*parts).map(lambda drawn: {key: value for part in drawn for key, value in part.items()})


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _bounds(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.lists(numbers, min_size=2, max_size=2).map(sorted).map(lambda pair: dict(zip(_ENDS, pair, strict=True)))


_ENDS = ("minimum", "maximum")

NUMBERS = (
    st.integers(-100, 100)
    | st.integers(-LIMIT, LIMIT)
    | st.sampled_from([2**63 - 1, -(2**63), 10**29 - 1, 1e29, 9.99e28, 999.99, 999.995, 99.5, -0.5])
    | st.floats(-1e30, 1e30)
)

STRINGS: st.SearchStrategy[Schema] = _merged(
    st.just({"type": "string"}),
    _optional("maxLength", st.integers(2, 12)),
    _optional("minLength", st.integers(0, 2)),
) | st.just({"type": "string", "format": "date-time", "maxLength": 64})
LISTED: st.SearchStrategy[Schema] = st.sampled_from(
    [
        {"type": "string", "enum": ["x", "yy", "zzz"]},
        {"type": "string", "const": "yy"},
        {"type": "integer", "enum": [1, 2, 2**63]},
        {"type": "integer", "const": 7},
        {"type": "number", "enum": [0.5, 12.25]},
    ]
)
INTEGERS = _merged(st.just({"type": "integer"}), _bounds(st.integers(-LIMIT, LIMIT) | st.integers(-99, 2**63)))
FRACTIONS = _merged(
    st.just({"type": "number"}), _bounds(NUMBERS), _optional("multipleOf", st.sampled_from([0.5, 0.25, 1, 2]))
)
FREE: st.SearchStrategy[Schema] = st.sampled_from([{"type": "boolean"}, {"type": "object"}])
LEAVES: st.SearchStrategy[Schema] = STRINGS | LISTED | INTEGERS | FRACTIONS | FREE


def _arrays(items: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(
        lambda inner, least, most: {"type": "array", "items": inner, "minItems": least, "maxItems": most},
        items,
        st.integers(0, 1),
        st.integers(1, 3),
    )


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    """Objects with some properties, some of them required."""
    properties = draw(st.dictionaries(NAMES, inner, min_size=1, max_size=3))
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(draw(st.sets(st.sampled_from(sorted(properties))))),
    }


SCHEMAS: st.SearchStrategy[Schema] = st.recursive(
    LEAVES | LEAVES.filter(lambda schema: "const" not in schema and "enum" not in schema).map(_nullable),
    lambda inner: objects(inner) | _arrays(inner),
    max_leaves=5,
)


def valid(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that are valid for a schema; numbers with a fraction are Decimal, as they are after decoding."""
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([_VALUES[kind](schema) for kind in types]).filter(validator.is_valid)


_FIRST, _LAST = datetime(2, 1, 1), datetime(9998, 12, 31)  # noqa: DTZ001 - with any offset a TIMESTAMP
_OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def _strings(schema: Schema) -> st.SearchStrategy[Any]:
    if schema.get("format") == "date-time":
        return st.datetimes(_FIRST, _LAST, timezones=_OFFSETS).map(lambda moment: moment.isoformat())
    return st.text(st.characters(codec="utf-8"), min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))


def _integers(schema: Schema) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", -1000), schema.get("maximum", 1000)
    return st.integers(int(low), int(high)) | st.sampled_from([low, high])


def _numbers(schema: Schema) -> st.SearchStrategy[Any]:
    low, high = (Decimal(str(schema.get(end, other))) for end, other in zip(_ENDS, (-1000, 1000), strict=True))
    if "multipleOf" in schema:
        step = Decimal(str(schema["multipleOf"]))
        return st.integers(-(10**6), 10**6).map(lambda count: count * step) | st.sampled_from([low, high])
    inside = st.fractions(0, 1).map(lambda share: low + (high - low) * share.numerator / share.denominator)
    beside = st.sampled_from([low, high]).flatmap(lambda end: st.just(end) | st.just(end + end * Decimal("1e-20")))
    return inside | beside


def _lists(schema: Schema) -> st.SearchStrategy[Any]:
    return st.lists(valid(schema["items"]), min_size=schema["minItems"], max_size=schema["maxItems"])


def _objects(schema: Schema) -> st.SearchStrategy[Any]:
    free = st.fixed_dictionaries({}, optional={"unknown": st.none() | st.booleans() | st.text("xyz")})
    properties = {name: valid(inner) for name, inner in schema.get("properties", {}).items()}
    required = {name: properties.pop(name) for name in schema.get("required", ())}
    declared = st.fixed_dictionaries(required, optional=properties)
    return st.tuples(declared, free).map(lambda parts: {**parts[0], **parts[1]})


def _listed_or(
    values: Callable[[Schema], st.SearchStrategy[Any]],
) -> Callable[[Schema], st.SearchStrategy[Any]]:
    def choose(schema: Schema) -> st.SearchStrategy[Any]:
        listed = [schema["const"]] if "const" in schema else schema.get("enum")
        return st.sampled_from(listed) if listed else values(schema)

    return choose


_VALUES = {
    "string": _listed_or(_strings),
    "integer": _listed_or(_integers),
    "number": _listed_or(_numbers),
    "boolean": lambda _: st.booleans(),
    "null": lambda _: st.none(),
    "array": _lists,
    "object": _objects,
}


@st.composite
def changed(draw: st.DrawFn, schema: Schema) -> Schema:
    """The schema with one of its parts changed, as people change contracts."""
    after = copy.deepcopy(schema)
    part = draw(st.sampled_from(_parts(after)))
    match draw(st.sampled_from(["drop", "move", "add", "type", "property", "required"])):
        case "drop":
            part.pop(draw(st.sampled_from(sorted(part.keys()))))
        case "move":
            for keyword in part.keys() & {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}:
                part[keyword] += draw(st.integers(-2, 2))
        case "add":
            part.update(draw(st.sampled_from(_ADDED)))
        case "type":
            part["type"] = draw(st.sampled_from(["number", "string", ["string", "null"], ["number", "string"]]))
        case "property":
            part.setdefault("properties", {})[draw(NAMES)] = draw(LEAVES)
        case "required" if "properties" in part:
            part["required"] = sorted(draw(st.sets(st.sampled_from(sorted(part["properties"]) or ["a"]))))
    return after


_ADDED: list[Schema] = [
    {"pattern": "^[a-z]*$"},
    {"format": "date"},
    {"enum": ["x", "yy", "zzz", "new", 1, 2, None]},
    {"const": "yy"},
    {"exclusiveMinimum": 0},
    {"multipleOf": 0.5},
    {"multipleOf": 2},
    {"uniqueItems": True},
    {"additionalProperties": False},
    {"additionalProperties": {"type": "string"}},
    {"maxProperties": 1},
    {"not": {"const": None}},
    {"description": "Changed"},
    {"items": {"type": "number"}},
    {"if": {"type": "string"}, "then": {"maxLength": 1}},
]


def _parts(schema: Schema) -> list[Schema]:
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return [schema, *(part for subschema in inner for part in _parts(subschema))]
