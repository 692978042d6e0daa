"""The catalogue of events: the contracts with their fields, versions and volume."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from functions.core.contracts import FILE_NAME, default_version
from functions.events import event_types
from functions.names import view_of
from functions.schema.ddl import declared_table
from functions.schema.definitions import parameters_of
from functions.sql import query_config, render
from functions.tables import Tables
from sluice.console.page import NotThere
from sluice.console.sources import Sources
from sluice.contract.compatibility import compatibility
from sluice.contract.fields import Field, fields
from sluice.contract.project import ContractFiles
from sluice.contract.schema import Schema
from sluice.queries import short_retry

_VOLUME = """
SELECT type, SUM(accepted) AS accepted, SUM(rejected) AS rejected FROM (
  {% for name, table in event_tables %}
  SELECT '{{ name }}' AS type, COUNT(*) AS accepted, 0 AS rejected
  FROM `{{ table }}`
  WHERE event_date >= @first_day AND processed_timestamp >= @since
  UNION ALL
  {% endfor %}
  SELECT event_type, 0, COUNT(*)
  FROM `{{ dead_letters }}`
  WHERE DATE(failed_at) >= DATE(@since) AND failed_at >= @since
  GROUP BY event_type
)
GROUP BY type
"""


class ContractsParameters(msgspec.Struct, frozen=True):
    """Parameters of the catalogue.

    Attributes:
        hours: Hours back for which events are counted.
        days: Days before today that an event's own date may be; by default `Sources.days`.
    """

    hours: Annotated[int, Meta(ge=1, le=8_760)] = 24
    days: Annotated[int, Meta(ge=0, le=3650)] | None = None


class EventType(msgspec.Struct, frozen=True):
    """An event type.

    Attributes:
        name: Its name.
        description: What such an event says.
        table: Table of its rows.
        versions: Versions of its contract.
        default: Version of events that name none.
        accepted: Number of rows.
        rejected: Number of dead letters whose payload states the type.
    """

    name: str
    description: str
    table: str
    versions: Sequence[int]
    default: int
    accepted: int
    rejected: int


class Catalog(msgspec.Struct, frozen=True):
    """All event types.

    Attributes:
        hours: Hours back for which events are counted.
        types: The types.
        unknown: Number of dead letters by the type that they state, if no such type exists; empty for none.
    """

    hours: int
    types: Sequence[EventType]
    unknown: Mapping[str, int]


def contracts(sources: Sources, parameters: ContractsParameters) -> Catalog:
    """Return all event types, with the number of their events.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
    """
    volume = _volume(sources, parameters)
    schemas = _schemas()
    types = [
        EventType(
            name=name,
            description=schemas[name][default_version(schemas[name])].get("description", ""),
            table=event_type.table,
            versions=sorted(schemas[name]),
            default=default_version(schemas[name]),
            accepted=volume.get(name, (0, 0))[0],
            rejected=volume.get(name, (0, 0))[1],
        )
        for name, event_type in event_types().items()
    ]
    unknown = {name or "": counts[1] for name, counts in volume.items() if name not in event_types()}
    return Catalog(parameters.hours, types, unknown)


def _volume(sources: Sources, parameters: ContractsParameters) -> dict[str | None, tuple[int, int]]:
    tables = Tables(sources.settings)
    now = datetime.now(UTC)
    sql = render(
        _VOLUME,
        event_tables=[(name, tables.live(event_type.table)) for name, event_type in event_types().items()],
        dead_letters=tables.dead_letters,
    )
    config = query_config(
        since=("TIMESTAMP", now - timedelta(hours=parameters.hours)),
        first_day=("DATE", (now - timedelta(sources.days(parameters.days))).date()),
    )
    job = sources.bigquery.query(sql, config, retry=short_retry(), job_retry=None)
    return {row.type: (row.accepted, row.rejected) for row in job.result(retry=short_retry())}


def _schemas() -> dict[str, dict[int, Schema]]:
    """Return the contracts by event type and version."""
    schemas: dict[str, dict[int, Schema]] = {}
    for file, text in ContractFiles.on_disk().contracts.items():
        if matched := FILE_NAME.fullmatch(file):
            schemas.setdefault(matched["event_type"], {})[int(matched["version"])] = msgspec.json.decode(text)
    return schemas


class ContractParameters(msgspec.Struct, frozen=True):
    """Parameters of the page of a contract.

    Attributes:
        type: Event type.
        version: Version; by default that of events that name none.
    """

    type: str
    version: Annotated[int, Meta(ge=1)] | None = None


class Difference(msgspec.Struct, frozen=True):
    """A difference from the version before.

    Attributes:
        path: The field.
        problem: What is different.
        breaks: Whom it concerns.
    """

    path: str
    problem: str
    breaks: str


class ContractView(msgspec.Struct, frozen=True):
    """A version of a contract.

    Attributes:
        type: Event type.
        version: The version.
        versions: All versions.
        default: Version of events that name none.
        description: What such an event says.
        table: Table of its rows.
        view: View that shows each event once.
        file: File of the contract.
        fields: Its fields.
        before: The version before; None of the first one.
        differences: Differences from the version before, for producers and readers.
    """

    type: str
    version: int
    versions: Sequence[int]
    default: int
    description: str
    table: str
    view: str
    file: str
    fields: Sequence[Field]
    before: int | None
    differences: Sequence[Difference]


def contract(sources: Sources, parameters: ContractParameters) -> ContractView:
    """Return a version of a contract.

    Raises:
        NotThere: The type or the version does not exist.
    """
    schemas = _schemas()
    if parameters.type not in schemas or parameters.type not in event_types():
        raise NotThere(f"no event type {parameters.type}; event types are {', '.join(sorted(event_types()))}")
    versions = schemas[parameters.type]
    version = parameters.version or default_version(versions)
    if version not in versions:
        listed = ", ".join(map(str, sorted(versions)))
        raise NotThere(f"{parameters.type} has no version {version}; versions are {listed}")
    table = event_types()[parameters.type].table
    ddl = render(
        ContractFiles.on_disk().tables[f"{table}.sql"], **parameters_of(sources.bigquery.project, sources.settings)
    )
    before = max((other for other in versions if other < version), default=None)
    changes = compatibility(versions[before], versions[version]) if before else ()
    return ContractView(
        type=parameters.type,
        version=version,
        versions=sorted(versions),
        default=default_version(versions),
        description=versions[version].get("description", ""),
        table=table,
        view=view_of(table, "deduplicated"),
        file=f"jsonschemas/{parameters.type}.v{version}.json",
        fields=fields(versions[version], declared_table(ddl).schema),
        before=before,
        differences=[Difference(change.path, change.problem, change.breaks) for change in changes],
    )
