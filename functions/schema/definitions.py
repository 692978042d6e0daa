"""Definitions of the objects of the warehouse, from the DDL in `sql/`."""

import dataclasses
import enum
import graphlib
import hashlib
import pathlib
from collections.abc import Iterator, Mapping

import msgspec

from functions.names import DATASETS, view_of
from functions.settings import Settings
from functions.source_files import reading
from functions.sql import render
from functions.tables import event_tables

FOLDER = pathlib.Path(__file__).parents[2] / "sql"

LATEST_FIRST = "processed_timestamp DESC, ingest.publish_time DESC, ingest.message_id DESC, ingest.archive_uri DESC"
"""Order of the rows of an event, of which the first one counts: the row that was processed last; among rows of one run
of a backfill or replay, the one that was published last. SQL uses it as `{{ latest_first }}`."""


class Kind(enum.StrEnum):
    """The kind of a definition; materialized views are views."""

    DATASET = "dataset"
    TABLE = "table"
    EXTERNAL = "external table"
    VIEW = "view"


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    """One object of the warehouse.

    Attributes:
        name: `DATASET`, or `DATASET.TABLE`.
        kind: Its kind.
        ddl: The statement that creates it.
        policy_tags: Resource names of the policy tags of a table by column (`errors.message` for a nested one), which
            DDL cannot set.
        digest: 16 hex digits of the statement and of all objects that it reads. It is the label `definition` of a view
            or an external table, so that it is replaced when its definition, or a table that a view reads, changes:
            BigQuery keeps the columns of a view.
    """

    name: str
    kind: Kind
    ddl: str
    digest: str
    policy_tags: Mapping[str, str] = dataclasses.field(default_factory=dict)


def definitions(project: str, settings: Settings, folder: pathlib.Path = FOLDER) -> list[Definition]:
    """Return all objects, each after those that it needs.

    `schema/dataset.sql` and `schema/historical_dataset.sql` are the datasets; every other file of `schema/` is a table
    of the first one, and of the second too where it is the table of an event type; `external/NAME.sql` are external
    tables, of files in Cloud Storage; `views/NAME.sql` are views;
    `views/each/NAME.sql` makes a view `TABLE_NAME` for each of those tables. The files are templates. Their names are
    the settings in lower case, `table`, and `definition` for the digest. `policy_tags.json` has the columns that are
    protected by the policy tags of the settings: `TABLE.COLUMN`, or `*.COLUMN` for the table of each event type.
    """
    parameters = parameters_of(project, settings)
    of_events = event_tables()
    tags = _policy_tags(folder, settings, of_events)
    return [
        *_datasets(folder / "schema", parameters),
        *(tables := list(_tables(folder / "schema", parameters, of_events, tags))),
        *_external(folder / "external", parameters),
        *_views(folder / "views", parameters, of_events, tables),
    ]


def parameters_of(project: str, settings: Settings) -> dict[str, str]:
    """Return the names that the templates of `schema/` may use, with their values."""
    return {
        "archive_bucket": settings.archive_bucket,
        "project": project,
        "dataset": settings.dataset,
        "historical_dataset": settings.historical_dataset,
        "location": settings.location,
        "environment": settings.environment,
        "retention_days": str(settings.retention_days),
        "latest_first": LATEST_FIRST,
    }


def _datasets(folder: pathlib.Path, parameters: Mapping[str, str]) -> Iterator[Definition]:
    for stem in DATASETS:
        with reading(f"sql/schema/{stem}.sql"):
            ddl = render(_read(folder / f"{stem}.sql"), **parameters)
        yield Definition(parameters[stem], Kind.DATASET, ddl, _digest(ddl))


def _policy_tags(folder: pathlib.Path, settings: Settings, event_tables: list[str]) -> dict[str, dict[str, str]]:
    """Return the policy tags by table and column; `*` in the file stands for the table of each event type."""
    tags = {"personal": settings.policy_tag_personal, "raw": settings.policy_tag_raw}
    tagged: dict[str, dict[str, str]] = {}
    with reading("sql/policy_tags.json"):
        protected = msgspec.json.decode((folder / "policy_tags.json").read_bytes(), type=dict[str, list[str]])
    for kind, places in protected.items():
        for name, _, column in (place.partition(".") for place in places):
            for table in event_tables if name == "*" else [name]:
                if tag := tags[kind]:
                    tagged.setdefault(table, {})[column] = tag
    return tagged


def _tables(
    folder: pathlib.Path,
    parameters: Mapping[str, str],
    event_tables: list[str],
    policy_tags: Mapping[str, Mapping[str, str]],
) -> Iterator[Definition]:
    historical = {**parameters, "dataset": parameters["historical_dataset"], "retention_days": "NULL"}
    for file in sorted(folder.glob("*.sql")):
        if file.stem in DATASETS:
            continue
        for each in (parameters, historical) if file.stem in event_tables else (parameters,):
            with reading(f"sql/schema/{file.name}"):
                ddl = render(_read(file), **each)
            name = f"{each['dataset']}.{file.stem}"
            yield Definition(name, Kind.TABLE, ddl, _digest(ddl), policy_tags.get(file.stem, {}))


def _external(folder: pathlib.Path, parameters: Mapping[str, str]) -> Iterator[Definition]:
    for file in sorted(folder.glob("*.sql")):
        with reading(f"sql/external/{file.name}"):
            digest = _digest(render(_read(file), **parameters, definition=""))
            ddl = render(_read(file), **parameters, definition=digest)
        yield Definition(f"{parameters['dataset']}.{file.stem}", Kind.EXTERNAL, ddl, digest)


def _views(
    folder: pathlib.Path, parameters: Mapping[str, str], event_tables: list[str], tables: list[Definition]
) -> Iterator[Definition]:
    templates = {file.stem: (_read(file), parameters) for file in folder.glob("*.sql")}
    for file in (folder / "each").glob("*.sql"):
        for table in event_tables:
            templates[view_of(table, file.stem)] = _read(file), {**parameters, "table": table}
    names = {stem: f"{parameters['dataset']}.{stem}" for stem in sorted(templates)}
    texts = {}
    for stem, (template, values) in templates.items():
        with reading(f"the view {stem}, sql/views/"):
            texts[names[stem]] = render(template, **values, definition="")
    readable = [*(table.name for table in tables), *texts]
    reads = {
        name: [other for other in readable if other != name and f"`{parameters['project']}.{other}`" in text]
        for name, text in texts.items()
    }
    digests = {table.name: table.digest for table in tables}
    stems = {name: stem for stem, name in names.items()}
    for name in graphlib.TopologicalSorter(reads).static_order():
        if name in stems:
            digests[name] = _digest(texts[name], *(digests[other] for other in reads[name]))
            template, values = templates[stems[name]]
            ddl = render(template, **values, definition=digests[name])
            yield Definition(name, Kind.VIEW, ddl, digests[name])


def _read(file: pathlib.Path) -> str:
    with reading(f"sql/{file.parent.name}/{file.name}"):
        return file.read_text(encoding="utf-8")


def _digest(*texts: str) -> str:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=8).hexdigest()
