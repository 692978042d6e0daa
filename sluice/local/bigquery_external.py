"""External tables of NDJSON in the local Cloud Storage, with Hive's partitions, for the BigQuery emulator.

It has none. Here such a table is an empty table of its own with the type `EXTERNAL`; a query reads the files instead.
"""

import glob
import os
import re
from collections.abc import Mapping
from typing import Any

import sqlglot
from local_bigquery.catalog import metadata, tables
from local_bigquery.models import Table
from local_bigquery.sql.dialect import BigQueryDialect
from local_bigquery.sql.rules.tables import resolve
from sqlglot import exp

TYPE = "EXTERNAL"

FILE_NAME = "_FILE_NAME"
"""Pseudo-column with the URI of a row's object."""

_PARTITIONS = {"dt", "hr"}

_CREATE = re.compile(
    r"CREATE\s+(?P<replace>OR\s+REPLACE\s+)?EXTERNAL\s+TABLE\s+(?P<name>\S+)\s*\((?P<columns>.*?)\)\s*"
    r"WITH\s+PARTITION\s+COLUMNS\s*\((?P<partitions>.*?)\)\s*OPTIONS\s*\((?P<options>.*)\)\s*;?\s*$",
    re.DOTALL | re.IGNORECASE,
)
_OPTION = re.compile(r'(description|labels)\s*=\s*("[^"]*"|\[.*?\](?=\s*(?:,\s*\w+\s*=|$)))', re.DOTALL)
_URI = re.compile(r'uris\s*=\s*\["gs://([^"]*)\*"\]')
_TYPES = {"TIMESTAMP": "TIMESTAMPTZ", "JSON": "JSON", "DATE": "DATE"}
"""Types of DuckDB; all others are read as text."""


def parsed(tree: Any) -> Any:  # noqa: ANN401 - handed through
    """Return the statement that creates the empty table, for one that creates an external table."""
    if not isinstance(tree, exp.Command):
        return tree
    match = _CREATE.match(tree.sql(dialect=BigQueryDialect, comments=False))
    if match is None:
        return tree
    options = ", ".join(f"{name} = {value}" for name, value in _OPTION.findall(match["options"]))
    create = f"CREATE {match['replace'] or ''}TABLE {match['name']} ({match['columns']}, {match['partitions']})"
    table = sqlglot.parse_one(f"{create} OPTIONS ({options})", dialect=BigQueryDialect)
    if uri := _URI.search(match["options"]):
        table.meta["external"] = uri[1]
    return table


def definition(tree: exp.Create) -> dict[str, Any]:
    """Return the metadata that makes a table an external one; none for any other table."""
    if prefix := tree.meta.get("external"):
        return {"type": TYPE, "externalDataConfiguration": {"sourceUris": [prefix]}}
    return {}


def reading(tree: exp.Expression, context: Any) -> exp.Expression:  # noqa: ANN401 - the emulator's
    """Return a query that reads the files of the external tables in it."""
    if isinstance(tree, exp.Create | exp.Drop | exp.Alter | exp.Command):
        return tree
    names_file = any(column.name.upper() == FILE_NAME for column in tree.find_all(exp.Column))
    ctes = {cte.alias_or_name.casefold() for cte in tree.find_all(exp.CTE)}
    for table in list(tree.find_all(exp.Table)):
        reference = resolve(table, context, ctes)
        stored = reference and metadata.load(Table, *reference)
        if stored and stored.type == TYPE:
            kinds = {field.name: field.type for field in tables.fields(tables.load(*reference))}
            query = _files(stored.externalDataConfiguration.sourceUris[0], kinds, names_file=names_file)
            files = exp.Table(this=exp.Var(this=f"({query})"))
            alias = exp.TableAlias(this=exp.to_identifier(table.alias_or_name))
            table.replace(exp.Subquery(this=exp.select("*").from_(files), alias=alias))
    return tree


def _files(prefix: str, kinds: Mapping[str, str], *, names_file: bool) -> str:
    """Return DuckDB's query of the files of a table.

    Args:
        prefix: Bucket, and prefix of the names of their objects.
        kinds: Types of the columns.
        names_file: Whether the pseudo-column with the name of a row's object is read too.
    """
    root = os.environ.get("GCS_LOCAL_ROOT", "")
    pattern = f"{root}/{prefix}*/*/*.gz"
    types = {name: _TYPES.get(kind, "VARCHAR") for name, kind in kinds.items()}
    if not glob.glob(pattern):  # noqa: PTH207 - DuckDB's glob
        types |= {FILE_NAME: "VARCHAR"} if names_file else {}
        nothing = {name: "BLOB" if kinds.get(name) == "BYTES" else kind for name, kind in types.items()}
        return f"SELECT {', '.join(f'CAST(NULL AS {kind}) AS {name}' for name, kind in nothing.items())} WHERE FALSE"
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in types.items() if name not in _PARTITIONS)
    values = ", ".join(f"from_base64({name}) AS {name}" if kind == "BYTES" else name for name, kind in kinds.items())
    if names_file:
        values += f", 'gs:/' || filename[{len(root) + 1}:] AS {FILE_NAME}"
    options = (
        f"'{pattern}'",
        "format = 'newline_delimited', compression = 'gzip', maximum_object_size = 100000000",
        "hive_partitioning = true, hive_types = {dt: DATE, hr: VARCHAR}",
        f"columns = {{{columns}}}, filename = {str(names_file).lower()}",
    )
    return f"SELECT {values} FROM read_json({', '.join(options)})"  # noqa: S608 - names of columns
