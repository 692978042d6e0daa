"""The check of contracts: whether each fits its table, and whether changes since a base are compatible."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import jsonschema_rs
from google.cloud import bigquery

from functions.core.contracts import DEFAULT, FILE_NAME, default_version
from functions.events import EventType
from functions.names import DATASETS, Names, table_problem, type_problem
from functions.schema.ddl import declared_table
from functions.schema.definitions import parameters_of
from functions.schema.table_diff import table_diff
from functions.settings import Settings
from functions.sql import InvalidTemplate, render
from sluice.contract.compatibility import compatibility
from sluice.contract.fields import fields
from sluice.contract.finding import Breaks, ContractFinding
from sluice.contract.person import person
from sluice.contract.project import CONTRACTS, POLICY_TAGS, TABLES, ContractFiles
from sluice.contract.schema import Schema
from sluice.contract.table_fit import agreement, column_names, standard_columns

type Versions = dict[str, dict[int, Schema]]
"""Contracts by event type and version."""


def check(
    project: ContractFiles, base: ContractFiles | None, event_types: Mapping[str, EventType]
) -> list[ContractFinding]:
    """Return all problems of contracts and tables.

    Args:
        project: Current files.
        base: Files to compare with; None for no comparison.
        event_types: The handlers by type.
    """
    versions, _, findings = _contracts(project)
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
) -> Iterator[ContractFinding]:
    """Yield the inconsistencies between the files of one event type."""
    handler = f"functions/events/{name}.py"
    if problem := type_problem(name):
        yield ContractFinding("$.event_type", problem, Breaks.ROWS, file=handler)
    if event_type is None:
        yield ContractFinding("$", f"{handler} is missing", Breaks.ROWS, file=_contract_file(name, min(versions)))
        return
    if not versions:
        yield ContractFinding(
            "$", f"{_contract_file(name, 1)} is missing or is not a contract", Breaks.ROWS, file=handler
        )
    if problem := table_problem(event_type.table):
        yield ContractFinding(event_type.table, problem, Breaks.BOOTSTRAP, file=handler)
    table = tables.get(event_type.table)
    if table is None:
        problem = f"{TABLES}/{event_type.table}.sql is missing or does not declare a table with this name"
        yield ContractFinding(event_type.table, problem, Breaks.ROWS, file=handler)
        return
    columns = table.declared.schema
    yield from _in(f"{TABLES}/{event_type.table}.sql", standard_columns(columns))
    yield from _in(f"{TABLES}/{event_type.table}.sql", column_names(columns))
    for version, schema in sorted(versions.items()):
        yield from _in(_contract_file(name, version), agreement(schema, columns, name, event_type))
        yield from _in(_contract_file(name, version), _descriptions(schema))


def _descriptions(schema: Schema) -> Iterator[ContractFinding]:
    """Yield the fields without a description: the catalogue of events shows it, and nobody else knows it."""
    for field in fields(schema, ()):
        if not field.description:
            yield ContractFinding(field.path, "needs a `description`: what it means, in a sentence", Breaks.READERS)


def _persons(
    project: ContractFiles, event_types: Mapping[str, EventType], versions: Versions, tables: Mapping[str, "_Table"]
) -> Iterator[ContractFinding]:
    """Yield the reasons why `sluice erase` would miss events of a person."""
    fields = {event_type.person_field for event_type in event_types.values() if event_type.person_field}
    tagged = json.loads(project.policy_tags.get(POLICY_TAGS, "{}")).get("personal", [])
    for name, event_type in sorted(event_types.items()):
        if table := tables.get(event_type.table):
            prefix = f"{event_type.table}."
            personal = [column.removeprefix(prefix) for column in tagged if column.startswith(prefix)]
            findings = person(event_type, versions.get(name, {}), table.declared.schema, fields, personal)
            yield from _in(f"functions/events/{name}.py", findings)


def _names(project: ContractFiles, event_types: Mapping[str, EventType]) -> Iterator[ContractFinding]:
    """Yield the names that more than one table or view has."""
    files = (project.tables, project.views, project.views_of_tables)
    tables, views, views_of_tables = ({name.removesuffix(".sql") for name in texts} for texts in files)
    names = Names({name: event_type.table for name, event_type in event_types.items()}, tables, views, views_of_tables)
    for clash in names.clashes():
        problem = f"{clash}: rename all but one; names are {', '.join(names.taken())}"
        yield ContractFinding(clash.name, problem, Breaks.BOOTSTRAP, file=f"{TABLES}/{clash.name}.sql")


def _contracts(project: ContractFiles) -> tuple[Versions, dict[str, int], list[ContractFinding]]:
    """Return the valid contracts, without the keyword `DEFAULT`, the default versions, and all problems."""
    versions: Versions = {}
    findings = []
    for file, text in project.contracts.items():
        try:
            name, version = _name_and_version(file)
            versions.setdefault(name, {})[version] = _schema(text)
        except ValueError as error:
            findings.append(ContractFinding("$", str(error), Breaks.ROWS, file=f"{CONTRACTS}/{file}"))
    defaults = {}
    for name, schemas in versions.items():
        try:
            defaults[name] = default_version(schemas)
        except ValueError as error:
            findings.append(ContractFinding("$", str(error), Breaks.ROWS, file=_contract_file(name, max(schemas))))
        versions[name] = {
            version: {keyword: rule for keyword, rule in schema.items() if keyword != DEFAULT}
            for version, schema in schemas.items()
        }
    return versions, defaults, findings


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
        ValueError: It is not JSON, has a duplicate key, or is not a JSON Schema.
    """
    schema = json.loads(text, object_pairs_hook=_object)
    if not isinstance(schema, dict):
        raise ValueError("a contract must be a JSON object")  # noqa: TRY004 - of the text, not of an argument
    try:
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise ValueError(f"no JSON Schema: {str(error).partition('\n')[0]}") from error
    return schema


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f'"{next(key for key in keys if keys.count(key) > 1)}" is a duplicate key in an object')
    return members


class _Table(NamedTuple):
    """A DDL statement and the table that it declares."""

    ddl: str
    declared: bigquery.Table


def _tables(project: ContractFiles) -> tuple[dict[str, _Table], list[ContractFinding]]:
    """Return the valid tables by name, and the problems of the others."""
    tables: dict[str, _Table] = {}
    findings = []
    for file, text in project.tables.items():
        name = file.removesuffix(".sql")
        if name in DATASETS:
            continue
        try:
            tables[name] = _table(name, text)
        except ValueError as error:
            findings.append(ContractFinding(name, str(error), Breaks.BOOTSTRAP, file=f"{TABLES}/{file}"))
    return tables, findings


def _table(name: str, text: str) -> _Table:
    """Read a table's DDL.

    Raises:
        ValueError: It names an unknown setting, is not supported DDL, or declares another table.
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


def _contract_changes(base: ContractFiles, project: ContractFiles) -> Iterator[ContractFinding]:
    before, defaults_before, unreadable = _contracts(base)
    for finding in unreadable:
        yield dataclasses.replace(
            finding, problem="the file of the base is invalid and was not compared", is_notice=True
        )
    after, defaults, _ = _contracts(project)
    for name, versions in before.items():
        for version, schema in versions.items():
            file = _contract_file(name, version)
            if f"{name}.v{version}.json" not in project.contracts:
                problem = f"is gone: events that set `schema_version` to {version} are rejected"
                yield ContractFinding("$", problem, Breaks.PRODUCERS, file=file)
            elif version in after.get(name, {}):
                yield from _in(file, compatibility(schema, after[name][version]))
        if name in defaults_before and name in defaults:
            yield from _new_default(name, (defaults_before[name], defaults[name]), versions, after[name])


def _new_default(
    name: str, versions: tuple[int, int], before: Mapping[int, Schema], after: Mapping[int, Schema]
) -> Iterator[ContractFinding]:
    """Yield whom a new default version breaks: events without `schema_version` are checked against it from now on."""
    was, becomes = versions
    if was == becomes:
        return
    how = f'; `"{DEFAULT}": true` in {_contract_file(name, was)} keeps that' if was in after else ""
    for finding in compatibility(before[was], after[becomes]):
        problem = (
            f"{finding.problem} (for events without the attribute `schema_version`, until now of version {was}{how})"
        )
        yield dataclasses.replace(finding, problem=problem, file=_contract_file(name, becomes))


def _table_changes(base: ContractFiles, project: ContractFiles) -> Iterator[ContractFinding]:
    before, _ = _tables(base)
    after, _ = _tables(project)
    for name, table in before.items():
        file = f"{TABLES}/{name}.sql"
        if f"{name}.sql" not in project.tables:
            problem = "is removed: a deployed table remains, and receives no more rows"
            yield ContractFinding(name, problem, Breaks.READERS, is_notice=True, file=file)
        elif name in after:
            for rejected in table_diff(table.declared, after[name].ddl).rejected:
                problem = f"the bootstrap will reject it for a deployed table: {rejected}"
                yield ContractFinding(rejected.path, problem, Breaks.BOOTSTRAP, file=file)


def _in(file: str, findings: Iterable[ContractFinding]) -> Iterator[ContractFinding]:
    return (dataclasses.replace(finding, file=file) for finding in findings)
