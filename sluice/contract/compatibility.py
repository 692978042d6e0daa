"""Compatibility of a changed contract with producers and consumers.

The rule is one of sets: every event that was valid is valid still. A change that no rule here knows to leave all of
them valid counts as one that breaks producers.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from functions.core.json_path import member
from sluice.contract.finding import Breaks, ContractFinding
from sluice.contract.schema import ANNOTATIONS, Schema, listed, may_be_null, types

_LEAST = ("minItems", "minLength", "minProperties")
_MOST = ("maxItems", "maxLength", "maxProperties")
_BOUNDS = {"exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum"}
_CONDITIONS = {
    "allOf",
    "anyOf",
    "dependentRequired",
    "dependentSchemas",
    "format",
    "not",
    "oneOf",
    "pattern",
    "propertyNames",
}
"""Keywords that restrict the valid values, whatever their value is."""

_COMPARED = (
    {"additionalProperties", "const", "enum", "items", "multipleOf", "properties", "required", "type", "uniqueItems"}
    | {*_LEAST, *_MOST}
    | _BOUNDS
    | _CONDITIONS
)


def compatibility(before: Schema, after: Schema, path: str = "$") -> Iterator[ContractFinding]:
    """Yield the findings of a change of a contract, each with whom it breaks or concerns.

    A field that is new has a notice: an event may have had one of its name before, unknown and unchecked.

    Args:
        before: JSON Schema before the change, valid.
        after: JSON Schema after the change, valid.
        path: JSON path of both.
    """
    if _same(before, after):
        return
    if not (isinstance(before, dict) and isinstance(after, dict)) or _is_entangled(before, after):
        yield _producers(path, "has changed in a way that this check does not support")
        return
    if listed(before) is not None:
        yield from _listed(before, after, path)
        return
    if "null" not in types(before) and may_be_null(after) and types(before):
        yield _notice(path, "may be NULL now", Breaks.READERS)
    yield from _types(before, after, path)
    yield from _bounds(before, after, path)
    yield from _conditions(before, after, path)
    yield from _members(before, after, path)
    if "items" in before or "items" in after:
        yield from compatibility(before.get("items", {}), after.get("items", {}), f"{path}[*]")
    for keyword in sorted((before.keys() | after.keys()) - _COMPARED - ANNOTATIONS):
        if not _same(before.get(keyword), after.get(keyword)):
            yield _producers(path, f"`{keyword}` has changed, which this check does not support")


def _same(value: object, other: object) -> bool:
    """Return whether two values are equal as JSON: 1 and true are equal in Python."""
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def _is_entangled(*schemas: Schema) -> bool:
    """Return whether a keyword depends on other keywords, so that keywords cannot be compared one by one."""
    text = json.dumps(schemas)
    return any(f'"{word}' in text for word in ("$ref", "$dynamicRef", "unevaluated"))


def _listed(before: Schema, after: Schema, path: str) -> Iterator[ContractFinding]:
    """Check whether each value that was listed as valid is still valid."""
    was, becomes = (
        jsonschema_rs.Draft202012Validator(dict(schema), validate_formats=True) for schema in (before, after)
    )
    values = [value for value in listed(before) or () if was.is_valid(value)]
    for value in values:
        if not becomes.is_valid(value):
            yield _producers(path, f"{json.dumps(value)} is no longer valid")
    if (now := listed(after)) is None:
        yield _notice(path, "may have values that were not listed before", Breaks.READERS)
        return
    new = [value for value in now if not was.is_valid(value) and becomes.is_valid(value)]
    if new:
        text = ", ".join(json.dumps(value) for value in new)
        yield _notice(path, f"may have new values: {text}", Breaks.READERS)


def _validator(schema: Schema) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(dict(schema), validate_formats=True)


def _types(before: Schema, after: Schema, path: str) -> Iterator[ContractFinding]:
    if listed(after) is not None:
        yield _producers(path, "now only the values in `enum` or `const` are valid")
    was, becomes = types(before), types(after)
    if not becomes:
        return
    gone = was - becomes - ({"integer"} if "number" in becomes else set())
    if gone or not was:
        yield _producers(path, f"was {_text(was)}, is {_text(becomes)} now")


def _text(names: set[str]) -> str:
    return " or ".join(sorted(names)) or "any value"


def _bounds(before: Schema, after: Schema, path: str) -> Iterator[ContractFinding]:
    for keyword in _LEAST:
        if after.get(keyword, 0) > before.get(keyword, 0):
            yield _narrowed(path, keyword, before, after)
    for keyword in _MOST:
        if after.get(keyword, math.inf) < before.get(keyword, math.inf):
            yield _narrowed(path, keyword, before, after)
    if _low(after) > _low(before):
        yield _narrowed(path, _keyword_of(after, "minimum", "exclusiveMinimum", _low(after)[0]), before, after)
    if _high(after) < _high(before):
        yield _narrowed(path, _keyword_of(after, "maximum", "exclusiveMaximum", _high(after)[0]), before, after)
    step, was = after.get("multipleOf"), before.get("multipleOf")
    if step is not None and step != was and not (_whole(step) and _whole(was) and was % step == 0):
        yield _narrowed(path, "multipleOf", before, after)


def _low(schema: Schema) -> tuple[float, bool]:
    """Return the minimum and whether it is excluded; the greater of two such bounds is stricter."""
    return max((schema.get("minimum", -math.inf), False), (schema.get("exclusiveMinimum", -math.inf), True))


def _high(schema: Schema) -> tuple[float, bool]:
    """Return the maximum and whether it is included; the smaller of two such bounds is stricter."""
    return min((schema.get("maximum", math.inf), True), (schema.get("exclusiveMaximum", math.inf), False))


def _keyword_of(schema: Schema, inclusive: str, exclusive: str, bound: float) -> str:
    return exclusive if schema.get(exclusive) == bound else inclusive


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _narrowed(path: str, keyword: str, before: Schema, after: Schema) -> ContractFinding:
    was = before.get(keyword, "missing")
    return _producers(path, f"`{keyword}` was {was}, is {after.get(keyword, 'missing')} now: fewer values are valid")


def _conditions(before: Schema, after: Schema, path: str) -> Iterator[ContractFinding]:
    for keyword in sorted(_CONDITIONS & after.keys()):
        if keyword not in before:
            yield _producers(path, f"`{keyword}` is new: fewer values are valid")
        elif not _same(before[keyword], after[keyword]):
            yield _producers(path, f"`{keyword}` has changed: values that were valid may be invalid now")
    if after.get("uniqueItems") and not before.get("uniqueItems"):
        yield _producers(path, "`uniqueItems` is new: fewer values are valid")
    others_before, others = (schema.get("additionalProperties", True) for schema in (before, after))
    if others not in (True, {}) and not _same(others, others_before):
        yield _producers(path, "`additionalProperties` has changed: other fields may be invalid now")


def _members(before: Schema, after: Schema, path: str) -> Iterator[ContractFinding]:
    was: Mapping[str, Any] = before.get("properties", {})
    becomes: Mapping[str, Any] = after.get("properties", {})
    if "properties" in after and "properties" not in before:
        yield _producers(path, "its fields were unchecked, and are checked now")
        return
    required_before, required = (set(schema.get("required", ())) for schema in (before, after))
    for name in sorted(required - required_before):
        yield _producers(member(path, name), "is required now")
    for name in sorted((required_before - required) & becomes.keys()):
        yield _notice(member(path, name), "may be missing now", Breaks.READERS)
    for name, schema in was.items():
        if name in becomes:
            yield from compatibility(schema, becomes[name], member(path, name))
        else:
            problem = "is removed: its column stays empty, and values that are still sent go into `extras`"
            yield ContractFinding(member(path, name), problem, Breaks.READERS)
    for name in becomes.keys() - was.keys():
        yield from _new_member(before, member(path, name))


def _new_member(before: Schema, path: str) -> Iterator[ContractFinding]:
    others = before.get("additionalProperties", True)
    if others in (True, {}):
        problem = "is new: producers that already send an unknown field with this name are checked from now on"
        yield _notice(path, problem, Breaks.PRODUCERS)
    elif others is not False:
        yield _producers(path, "is new: values that `additionalProperties` allowed may be invalid now")


def _producers(path: str, problem: str) -> ContractFinding:
    return ContractFinding(path, problem, Breaks.PRODUCERS)


def _notice(path: str, problem: str, for_whom: Breaks) -> ContractFinding:
    return ContractFinding(path, problem, for_whom, is_notice=True)
