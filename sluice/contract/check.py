"""The check: do all contracts agree with their tables, and are the changes since a base compatible?"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import jsonschema_rs
from google.cloud import bigquery

from functions.core.contracts import FILE_NAME
from functions.events import EventType
from functions.names import DATASETS, Names, table_problem, type_problem
from functions.schema.ddl import declared_table
from functions.schema.definitions import parameters_of
from functions.schema.table_diff import table_diff
from functions.settings import Settings
from functions.sql import InvalidTemplate, render
from sluice.contract.compatibility import compatibility
from sluice.contract.finding import Breaks, Finding
from sluice.contract.person import person
from sluice.contract.project import CONTRACTS, POLICY_TAGS, TABLES, Project
from sluice.contract.schema import Schema
from sluice.contract.table_fit import agreement, column_names, standard_columns

type Versions = dict[str, dict[int, Schema]]
"""Contracts by event type and version."""


def check(project: Project, base: Project | None, event_types: Mapping[str, EventType]) -> list[Finding]:
    """Find all that is wrong with contracts and tables.

    Args:
        project: As it is now.
        base: As it was; None where there is nothing to compare with.
        event_types: The handlers by type.
    """
    versions, findings = _contracts(project)
    tables, unreadable = _tables(project)
    findings += unreadable
    for name in sorted(event_types.keys() | versions.keys()):
        findings += _type(name, event_types.get(name), versions.get(name, {}), tables)
    findings += _persons(project, event_types, versions, tables)
    findings += _names(project, event_types)
    if base is not None:
        findings += _contract_changes(base, project)
        findings += _table_changes(base, project)
    return findings


def _type(
    name: str, event_type: EventType | None, versions: Mapping[int, Schema], tables: Mapping[str, "_Table"]
) -> Iterator[Finding]:
    """Yield what is wrong between the files of one event type."""
    handler = f"functions/events/{name}.py"
    if problem := type_problem(name):
        yield Finding("$.event_type", problem, Breaks.ROWS, file=handler)
    if event_type is None:
        yield Finding("$", f"{handler} is missing", Breaks.ROWS, file=_contract_file(name, min(versions)))
        return
    if not versions:
        yield Finding("$", f"{_contract_file(name, 1)} is missing, or no contract", Breaks.ROWS, file=handler)
    if problem := table_problem(event_type.table):
        yield Finding(event_type.table, problem, Breaks.BOOTSTRAP, file=handler)
    table = tables.get(event_type.table)
    if table is None:
        problem = f"{TABLES}/{event_type.table}.sql is missing, or declares no table of this name"
        yield Finding(event_type.table, problem, Breaks.ROWS, file=handler)
        return
    columns = table.declared.schema
    yield from _in(f"{TABLES}/{event_type.table}.sql", standard_columns(columns))
    yield from _in(f"{TABLES}/{event_type.table}.sql", column_names(columns))
    for version, schema in sorted(versions.items()):
        yield from _in(_contract_file(name, version), agreement(schema, columns, name, event_type))


def _persons(
    project: Project, event_types: Mapping[str, EventType], versions: Versions, tables: Mapping[str, "_Table"]
) -> Iterator[Finding]:
    """Yield what keeps `sluice erase` from the events of a person."""
    fields = {event_type.person_field for event_type in event_types.values() if event_type.person_field}
    tagged = json.loads(project.policy_tags.get(POLICY_TAGS, "{}")).get("personal", [])
    for name, event_type in sorted(event_types.items()):
        if table := tables.get(event_type.table):
            prefix = f"{event_type.table}."
            personal = [column.removeprefix(prefix) for column in tagged if column.startswith(prefix)]
            findings = person(event_type, versions.get(name, {}), table.declared.schema, fields, personal)
            yield from _in(f"functions/events/{name}.py", findings)


def _names(project: Project, event_types: Mapping[str, EventType]) -> Iterator[Finding]:
    """Yield the names that more than one table or view has."""
    files = (project.tables, project.views, project.views_of_tables)
    tables, views, views_of_tables = ({name.removesuffix(".sql") for name in texts} for texts in files)
    names = Names({name: event_type.table for name, event_type in event_types.items()}, tables, views, views_of_tables)
    for clash in names.clashes():
        problem = f"{clash}: rename all but one; names are {', '.join(names.taken())}"
        yield Finding(clash.name, problem, Breaks.BOOTSTRAP, file=f"{TABLES}/{clash.name}.sql")


def _contracts(project: Project) -> tuple[Versions, list[Finding]]:
    """Return the contracts that can be read, and what is wrong with the others."""
    versions: Versions = {}
    findings = []
    for file, text in project.contracts.items():
        try:
            name, version = _name_and_version(file)
            versions.setdefault(name, {})[version] = _schema(text)
        except ValueError as error:
            findings.append(Finding("$", str(error), Breaks.ROWS, file=f"{CONTRACTS}/{file}"))
    return versions, findings


def _name_and_version(file: str) -> tuple[str, int]:
    matched = FILE_NAME.fullmatch(file)
    if matched is None:
        raise ValueError("a contract's file name is TYPE.vN.json")
    return matched["event_type"], int(matched["version"])


def _contract_file(name: str, version: int) -> str:
    return f"{CONTRACTS}/{name}.v{version}.json"


def _schema(text: str) -> Schema:
    """Read a contract.

    Raises:
        ValueError: It is no JSON, has a key twice, or is no JSON Schema.
    """
    schema = json.loads(text, object_pairs_hook=_object)
    if not isinstance(schema, dict):
        raise ValueError("a contract is a JSON object")  # noqa: TRY004 - of the text, not of an argument
    try:
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"no JSON Schema: {str(error).partition('\n')[0]}") from error
    return schema


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'"{next(key for key in keys if keys.count(key) > 1)}" stands twice in an object')
    return members


class _Table(NamedTuple):
    """A table's statement, and what it declares."""

    ddl: str
    declared: bigquery.Table


def _tables(project: Project) -> tuple[dict[str, _Table], list[Finding]]:
    """Return the tables that can be read by name, and what is wrong with the others."""
    tables: dict[str, _Table] = {}
    findings = []
    for file, text in project.tables.items():
        name = file.removesuffix(".sql")
        if name in DATASETS:
            continue
        try:
            tables[name] = _table(name, text)
        except ValueError as error:
            findings.append(Finding(name, str(error), Breaks.BOOTSTRAP, file=f"{TABLES}/{file}"))
    return tables, findings


def _table(name: str, text: str) -> _Table:
    """Read a table's DDL.

    Raises:
        ValueError: It names an unknown setting, is no DDL that Sluice keeps, or is of another table.
    """
    try:
        ddl = render(text, **_NAMES)
    except InvalidTemplate as error:
        raise ValueError(f"{error}; names are {', '.join(_NAMES)}") from error
    declared = declared_table(ddl)
    if declared.table_id != name:
        raise ValueError(f"declares the table {declared.table_id}")
    return _Table(ddl, declared)


_NAMES = parameters_of("project", Settings(archive_bucket="archive"))


def _contract_changes(base: Project, project: Project) -> Iterator[Finding]:
    before, unreadable = _contracts(base)
    for finding in unreadable:
        yield dataclasses.replace(finding, problem="the base's could not be read, nor compared", is_notice=True)
    after, _ = _contracts(project)
    for name, versions in before.items():
        for version, schema in versions.items():
            file = _contract_file(name, version)
            if f"{name}.v{version}.json" not in project.contracts:
                problem = f"is gone: events that set `schema_version` to {version} are refused"
                yield Finding("$", problem, Breaks.PRODUCERS, file=file)
            elif version in after.get(name, {}):
                yield from _in(file, compatibility(schema, after[name][version]))
        yield from _new_version(name, versions, after.get(name, {}))


def _new_version(name: str, before: Mapping[int, Schema], after: Mapping[int, Schema]) -> Iterator[Finding]:
    """Yield what a new version breaks: events without `schema_version` are checked against it from now on."""
    was, becomes = max(before), max(after, default=0)
    if becomes <= was:
        return
    for finding in compatibility(before[was], after[becomes]):
        problem = f"{finding.problem} (for events without the attribute `schema_version`, until now of version {was})"
        yield dataclasses.replace(finding, problem=problem, is_notice=True, file=_contract_file(name, becomes))


def _table_changes(base: Project, project: Project) -> Iterator[Finding]:
    before, _ = _tables(base)
    after, _ = _tables(project)
    for name, table in before.items():
        file = f"{TABLES}/{name}.sql"
        if f"{name}.sql" not in project.tables:
            problem = "is gone: where the table is live it stays as it is, and gets no more rows"
            yield Finding(name, problem, Breaks.READERS, is_notice=True, file=file)
        elif name in after:
            for rejected in table_diff(table.declared, after[name].ddl).rejected:
                problem = f"the bootstrap will refuse it where the table is live: {rejected}"
                yield Finding(rejected.path, problem, Breaks.BOOTSTRAP, file=file)


def _in(file: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    return (dataclasses.replace(finding, file=file) for finding in findings)
