"""The generated part of `docs/data-model.md`: every table and view, from the SQL that makes it."""

import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from google.cloud import bigquery
from sqlglot import Expr, exp, parse_one

from functions.names import Names
from functions.schema.ddl import declared_table
from functions.schema.definitions import FOLDER, Definition, Kind, definitions
from functions.settings import Settings
from functions.sql import render as render_template
from sluice.queries import Query, queries, template_names

FILE = pathlib.Path(__file__).parent.parent / "docs" / "data-model.md"

MARK = "<!-- From here on generated from sql/, by UPDATE_DOCS=1 make test -->\n"

_PROJECT = "project"
_SETTINGS = Settings(archive_bucket="archive")


def update() -> str:
    """Return the page with its generated part up to date."""
    head, _, _ = FILE.read_text(encoding="utf-8").partition(MARK)
    return head + render()


def introduce(table: str) -> None:
    """Put the table of a new event type, and its views, on the page; who reads them is for a person to say."""
    head, mark, rest = FILE.read_text(encoding="utf-8").partition("\n\n## Tables and views")
    names = ", ".join(f"`{name}`" for name in Names.read(FOLDER, {}).of_table(table))
    FILE.write_text(f"{head}\n| (say who) | (say what) | {names} |{mark}{rest}", encoding="utf-8")
    FILE.write_text(update(), encoding="utf-8")


def render() -> str:
    """Return the diagram and a section for each table and view, as Markdown; settings have their defaults."""
    objects = _objects()
    live = [definition for definition in objects if definition.name.startswith(f"{_SETTINGS.dataset}.")]
    parts = [MARK, _diagram(objects)]
    parts += [_table(definition, objects) for definition in live if definition.kind is Kind.TABLE]
    parts += [_external(definition, objects) for definition in live if definition.kind is Kind.EXTERNAL]
    parts += [_view(definition, objects) for definition in live if definition.kind is Kind.VIEW]
    return "\n".join(parts)


class Relations(NamedTuple):
    """Dependencies of a table or view.

    Attributes:
        reads: Tables and views that a view reads.
        read_by: Views that read it.
        asked_by: Queries of `sql/` that read it.
    """

    reads: Sequence[str]
    read_by: Sequence[str]
    asked_by: Sequence[str]


def relations(name: str) -> Relations | None:
    """Return the relations of a table or view; None if it is none of Sluice's own.

    Args:
        name: Its name, in the historical dataset as `historical.orders`. All names in the result are such names.
    """
    objects = _objects()
    definition = next((definition for definition in objects if _short(definition.name) == name), None)
    return _relations(definition, objects) if definition else None


def columns(fields: Sequence[bigquery.SchemaField], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield name, type and description of all columns and of the fields in them: `ingest.event_id`."""
    for field in fields:
        kind = {"RECORD": "STRUCT", "INTEGER": "INT64", "BOOLEAN": "BOOL", "FLOAT": "FLOAT64"}.get(
            field.field_type, field.field_type
        )
        kind = {"REPEATED": f"ARRAY of {kind}", "REQUIRED": f"{kind} NOT NULL"}.get(field.mode, kind)
        yield f"{path}{field.name}", kind, field.description or ""
        yield from columns(field.fields, f"{path}{field.name}.")


def _objects() -> list[Definition]:
    return [definition for definition in definitions(_PROJECT, _SETTINGS) if definition.kind is not Kind.DATASET]


def _relations(definition: Definition, objects: Sequence[Definition]) -> Relations:
    return Relations(
        [_short(source.name) for source in objects if definition in _readers(source, objects)],
        sorted({_short(reader.name) for reader in _readers(definition, objects)}),
        [query.name for query in queries().values() if f".{definition.name.partition('.')[2]}`" in _statement(query)],
    )


def _readers(read: Definition, objects: Sequence[Definition]) -> list[Definition]:
    return [reader for reader in objects if reader is not read and f"`{_PROJECT}.{read.name}`" in reader.ddl]


def _short(name: str) -> str:
    """Return a name without the live dataset, but with the historical one: `historical.orders`."""
    dataset, _, table = name.partition(".")
    return table if dataset == _SETTINGS.dataset else f"historical.{table}"


def _diagram(objects: Sequence[Definition]) -> str:
    lines = ["```mermaid", "flowchart LR"]
    for definition in objects:
        shape = '[("{}")]' if definition.kind is Kind.TABLE else '["{}"]'
        lines.append(f"    {_node(definition)}{shape.format(_short(definition.name))}")
    for definition in objects:
        lines += [f"    {_node(definition)} --> {_node(reader)}" for reader in _readers(definition, objects)]
    return "\n".join([*lines, "```", ""])


def _node(definition: Definition) -> str:
    return _short(definition.name).replace(".", "_")


def _table(definition: Definition, objects: Sequence[Definition]) -> str:
    table = declared_table(definition.ddl)
    partitioning = table.time_partitioning
    assert partitioning is not None  # noqa: S101 - every table is partitioned: a test of the bootstrap
    day = partitioning.field if partitioning.field == "event_date" else f"DATE({partitioning.field})"
    twin = next((other for other in objects if _short(other.name) == f"historical.{table.table_id}"), None)
    facts = [
        f"Partitioned by day of `{day}`, clustered by {_list(table.clustering_fields or [])}.",
        "Partitions live for `RETENTION_DAYS`; the same table without expiration is in the historical dataset."
        if twin
        else "Partitions live for `RETENTION_DAYS`.",
    ]
    lines = [
        "| column | type | |",
        "|---|---|---|",
        *(f"| `{path}` | {kind} | {description} |" for path, kind, description in columns(table.schema)),
    ]
    return _section(definition, table.description or "", facts, lines, objects)


def _external(definition: Definition, objects: Sequence[Definition]) -> str:
    description = re.search(r'description = "(.*)"', definition.ddl)
    names = re.findall(r"^  (\w+) [A-Z]+,?$", definition.ddl, re.MULTILINE)
    fact = "External, partitioned by `dt` and `hr` ([The archive](archive.md#bigquery))."
    return _section(definition, description[1] if description else "", [fact], [f"Columns: {_list(names)}."], objects)


def _view(definition: Definition, objects: Sequence[Definition]) -> str:
    create = parse_one(definition.ddl, dialect="bigquery")
    materialized = create.find(exp.MaterializedProperty) is not None
    facts = []
    if materialized:
        partition = create.find(exp.PartitionedByProperty)
        cluster = create.find(exp.ClusterProperty)
        if partition and cluster:
            names = [column.name for column in cluster.expressions]
            facts.append(f"Materialized; partitioned by `{partition.this.name}`, clustered by {_list(names)}.")
    facts.append(f"Reads {_list(_relations(definition, objects).reads)}.")
    return _section(definition, _description(create), facts, _view_columns(create), objects)


def _view_columns(create: Expr) -> list[str]:
    if isinstance(create.this, exp.Schema):
        rows = [(column.name, _description(column)) for column in create.this.expressions]
        return ["| column | |", "|---|---|", *(f"| `{name}` | {description} |" for name, description in rows)]
    names = create.expression.named_selects
    return ["Columns: those of the table."] if names == ["*"] else [f"Columns: {_list(names)}."]


def _description(node: Expr) -> str:
    """Return the description of an object or a column: the first in its statement that is not of a column in it."""
    properties = node.args.get("properties") or next(iter(node.find_all(exp.Properties)), None)
    for option in properties.find_all(exp.Property) if properties else ():
        if option.name == "description":
            return str(option.args["value"].this)
    return ""


def _section(
    definition: Definition,
    description: str,
    facts: Sequence[str],
    columns: Sequence[str],
    objects: Sequence[Definition],
) -> str:
    _, readers, askers = _relations(definition, objects)
    read = [f"Read by {_list(readers)}."] if readers else []
    asked = [f"Asked by {_list(askers)}."] if askers else []
    text = " ".join([f"{description}.", *facts, *read, *asked])
    return "\n".join([f"### {_short(definition.name)}", "", text, "", *columns, ""])


def _statement(query: Query) -> str:
    """Return a query's statement, without values for the names that the caller may choose."""
    return render_template(query.template, **template_names(_PROJECT, _SETTINGS), **dict.fromkeys(query.names(), ""))


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{re.sub(r'\s+', ' ', name)}`" for name in names)
