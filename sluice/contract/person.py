"""Checks of the person field of an event type, by which `sluice erase` finds the events of a person."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from google.cloud import bigquery

from functions.core.json_path import member
from functions.events import EventType
from sluice.contract.finding import Breaks, ContractFinding
from sluice.contract.schema import Schema, types

_PERSON = re.compile(
    r"(.*_)?(buyer|courier|customer|driver|employee|guest|member|passenger|patient|person|recipient|rider|student"
    r"|subscriber|user|visitor)_?(id|no|number|key)|(.*_)?e_?mail(_address)?",
    re.IGNORECASE,
)
"""Names of fields that usually identify a person, as `customer_id`, `customerId`, `home_email`."""


def person(
    event_type: EventType,
    versions: Mapping[int, Schema],
    columns: Sequence[bigquery.SchemaField],
    fields: Collection[str],
    personal: Collection[str],
) -> Iterator[ContractFinding]:
    """Yield the reasons why `sluice erase` would miss events of a type that concern a person.

    Args:
        event_type: The type's handler.
        versions: Its contracts by version.
        columns: The columns of its table.
        fields: The person fields of all types.
        personal: Columns of its table that policy tags protect as personal: `shipping_address.street`.
    """
    field = event_type.person_field
    properties = {
        name: schema
        for version_schema in versions.values()
        for name, schema in version_schema.get("properties", {}).items()
    }
    if field is not None:
        yield from _named(field, versions, columns)
        for name in sorted((properties.keys() & set(fields)) - {field}):
            problem = (
                f"identifies the person of another type: `sluice erase` only lists such events, and erases by `{field}`"
            )
            yield _finding(member("$", name), problem, is_notice=True)
        return
    for name in sorted(properties):
        if name in fields or _PERSON.fullmatch(name):
            problem = (
                "looks like the id of a person, but the type has no `person_field`: `sluice erase` keeps its events"
            )
            yield _finding(member("$", name), problem, is_notice=name not in fields)
    for column in sorted(personal):
        problem = "is personal by its policy tag, but the type has no `person_field`: `sluice erase` keeps its rows"
        yield _finding(column, problem)


def _named(
    field: str, versions: Mapping[int, Schema], columns: Sequence[bigquery.SchemaField]
) -> Iterator[ContractFinding]:
    """Yield the problems of the person field of a type."""
    path = member("$", field)
    for version, schema in sorted(versions.items()):
        field_schema = schema.get("properties", {}).get(field)
        if not isinstance(field_schema, dict):
            yield _finding(
                path, f"is the type's `person_field`, but version {version} of the contract does not have this field"
            )
        elif not types(field_schema) - {"null"} <= {"string", "integer"} or not types(field_schema):
            yield _finding(
                path, f"is the type's `person_field`, so it must be a string or an integer in version {version}"
            )
        elif field not in schema.get("required", ()) or "null" in types(field_schema):
            problem = f"may be without a value in version {version}: `sluice erase` deletes no row without it"
            yield _finding(path, problem, is_notice=True)
    if field not in {column.name for column in columns}:
        yield _finding(field, "is the type's `person_field`, but the table does not have this column")


def _finding(path: str, problem: str, *, is_notice: bool = False) -> ContractFinding:
    return ContractFinding(path, problem, Breaks.PERSONS, is_notice=is_notice)
