"""The BigQuery emulator (`local-bigquery`), with what it lacks made up for.

Run as `python -m sluice.local.bigquery_server`, in a process of its own: it moves HOME.
"""

import argparse
import contextlib
import functools
import importlib.util
import os
import pathlib
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import duckdb
import sqlglot
from local_bigquery import cli
from local_bigquery.api import tables as tables_api
from local_bigquery.app import app
from local_bigquery.catalog import ddl, names, row_access, tabledata, tables
from local_bigquery.engine import database, types
from local_bigquery.errors import BigQueryError
from local_bigquery.jobs import load, query, runner
from local_bigquery.sql.dialect import BigQueryDialect
from local_bigquery.sql.rules import STATEMENT_RULES
from local_bigquery.sql.translate import translate
from sqlglot import exp
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from functions.schema.ddl import declared_table
from sluice.local import bigquery_catalog, bigquery_inserts, bigquery_records, bigquery_storage

_DAY_MS = 86_400_000
_EXTENSIONS = ("ducklake", "icu", "spatial")

_DISABLED_OPTIMIZERS = ("statistics_propagation", "join_filter_pushdown")
"""Optimizers of DuckDB that lose rows of a DuckLake table, or fail.

A file with a value of more than 256 bytes has no minimum and maximum. DuckLake then takes those of the files that
follow for the whole table's, and the first optimizer finds no row outside them. The second one pushes a join's values
down, as `_optimizer_for` says of parameters.
"""

_NUL = re.compile(r"\0|\\u0000")
"""Pattern of a NUL character in a query parameter; an array is bound as JSON."""

_connect = database._connect.__wrapped__
_insert_all = tabledata.insert_all

_submit_lock = threading.Lock()
_submit = runner.submit

_ddl_lock = threading.Lock()
_run_statement = query._run

_table_resource = ddl._table
_alter = tables._alter
_normalise = query.ddl.normalise
_split = query.ddl.split


def insert_all(*arguments: Any) -> Any:  # noqa: ANN401 - handed through
    """Run `insertAll`, one at a time, and forget the insertIds of rows that it failed to insert.

    The emulator fails some of the inserts that run in parallel, and drops the rows when they are tried again.
    """
    with bigquery_inserts.lock:
        before = set(tabledata._recent)
        try:
            return _insert_all(*arguments)
        except Exception:
            bigquery_inserts.forget(tabledata._recent.keys() - before)
            raise


def submit(project: str, job: str, configuration: Any, *upload: str | None) -> Any:  # noqa: ANN401 - handed through
    """Return a new job, or 409 for an id that is taken. The emulator would run two concurrent requests for one id."""
    with contextlib.nullcontext() if configuration.dryRun else _submit_lock:
        return _submit(project, job, configuration, *upload)


def run_statement(cursor: Any, tree: exp.Expression, *arguments: Any) -> Any:  # noqa: ANN401 - handed through
    """Run a statement; DDL one at a time, as the emulator fails when two sessions create the same object.

    A dataset's location becomes an option like the others; the emulator overlooks it.
    """
    for location in list(tree.find_all(exp.LocationProperty)):
        location.replace(exp.Property(this=exp.var("location"), value=location.this))
    _check_time_travel(cursor, tree, *arguments)
    if tree.args.get("clone"):
        _evaluate_expiration(cursor, tree, *arguments)
    ddl_lock = _ddl_lock if isinstance(tree, query.DDL) else contextlib.nullcontext()
    with ddl_lock, _optimizer_for(cursor, arguments[0]):
        if tree.args.get("clone"):
            return _clone(cursor, tree, *arguments)
        return _run_statement(cursor, tree, *arguments)


@contextlib.contextmanager
def _optimizer_for(cursor: Any, context: Any) -> Iterator[None]:  # noqa: ANN401 - handed through
    """Disable DuckDB's optimizer where a query parameter has a NUL character.

    A filter that is pushed down reaches DuckLake's catalog as SQL, which a NUL character cuts off.
    """
    if not any(isinstance(value, str) and _NUL.search(value) for value in context.values.values()):
        yield
        return
    cursor.execute("PRAGMA disable_optimizer")
    try:
        yield
    finally:
        cursor.execute("PRAGMA enable_optimizer")


def run_load(cursor: Any, config: Any, upload: str | None) -> Any:  # noqa: ANN401 - handed through
    """Run a load job, one at a time; without a schema it has its table's.

    The emulator guesses a schema instead, and then takes base64 for the bytes themselves.
    """
    with bigquery_inserts.lock:
        if upload and config.sourceFormat == "NEWLINE_DELIMITED_JSON" and config.schema_ is None:
            fields = tables.columns(*tables.reference(config.destinationTable))
            read = cursor.sql(f"FROM read_json('{upload}', format = 'newline_delimited', sample_size = -1) LIMIT 0")
            for unknown in set(read.columns) - {field.name for field in fields}:
                raise BigQueryError("invalid", f"Error while reading data, error message: No such field: {unknown}.")
            config = config.replace(schema={"fields": [field.dump() for field in fields]})
        return load.run(cursor, config, upload)


def _clone(cursor: Any, tree: exp.Expression, context: Any, *arguments: Any) -> Any:  # noqa: ANN401
    """Create a clone or snapshot with its rows, or not at all: here these are two statements."""
    reference = names.reference(tree.find(exp.Table), context.project_id, context.dataset_id or "")
    is_new = not tables.exists(*reference)
    try:
        return _run_statement(cursor, tree, context, *arguments)
    except Exception:
        if is_new:
            cursor.execute(f"DROP TABLE IF EXISTS {tables.name(*reference)}")
        raise


def _check_time_travel(cursor: Any, tree: exp.Expression, context: Any, *_: Any) -> None:  # noqa: ANN401
    """Reject a query for a table as it was before it was created, with BigQuery's message.

    The emulator has an error for each case, and for a clone when it has created the new table already.
    https://cloud.google.com/bigquery/docs/access-historical-data#query_data_at_a_point_in_time
    """
    for table in tree.find_all(exp.Table):
        if version := table.args.get("version"):
            project, dataset, name = names.reference(table, context.project_id, context.dataset_id or "")
            created = bigquery_catalog.created(project, dataset, name)
            time = exp.func("UNIX_MILLIS", exp.cast(version.expression.copy(), "TIMESTAMP"), dialect=BigQueryDialect)
            sql, bound = translate(exp.select(time), context)
            at = cursor.execute(sql, bound).fetchone()[0]
            if created is not None and at < created:
                text = f"Invalid snapshot time {at} for table {project}:{dataset}.{name}@{at}."
                raise BigQueryError("invalidQuery", f"{text} Cannot read before {created}.")


def _evaluate_expiration(cursor: Any, tree: exp.Expression, context: Any, *_: Any) -> None:  # noqa: ANN401
    """Replace query parameters in options, which the emulator does not take."""
    for option in tree.find_all(exp.Property):
        if option.name == "expiration_timestamp":
            sql, bound = translate(exp.select(exp.cast(option.args["value"].copy(), "STRING")), context)
            option.set("value", exp.Literal.string(cursor.execute(sql, bound).fetchone()[0]))


def split(tree: Any) -> Any:  # noqa: ANN401 - handed through
    """Split a clone or snapshot into two statements: its columns keep their NOT NULL, which the emulator drops."""
    if not (clone := tree.args.get("clone")):
        return _split(tree)
    columns = [
        exp.ColumnDef(
            this=exp.to_identifier(field.name, quoted=True),
            kind=exp.DataType.build(types.bigquery_type(field), dialect=BigQueryDialect),
            constraints=[exp.ColumnConstraint(kind=exp.NotNullColumnConstraint())] if field.mode == "REQUIRED" else [],
        )
        for field in tables.columns(*names.reference(clone.this, "", ""))
    ]
    schema = exp.Schema(this=tree.this.copy(), expressions=columns)
    rows = exp.insert(exp.select("*").from_(clone.this.copy()), tree.this.copy())
    rows.set("by_name", True)
    return [exp.Create(this=schema, kind="TABLE", replace=tree.args.get("replace")), rows]


_CLONE_WITH_OPTIONS = re.compile(r"\b(CLONE\s.*?)\s+(OPTIONS\s*\(.*\))\s*$", re.DOTALL)


def normalise(tree: Any) -> Any:  # noqa: ANN401 - handed through
    """Move the OPTIONS of a clone or snapshot before CLONE: only there does the emulator parse them."""
    if isinstance(tree, exp.Command):
        text, count = _CLONE_WITH_OPTIONS.subn(r"\2 \1", tree.sql(dialect=BigQueryDialect, comments=False))
        if count:
            tree = sqlglot.parse_one(text, dialect=BigQueryDialect)
    return _normalise(tree)


def drop_nested_constraints(tree: exp.Expression, _context: object) -> exp.Expression:
    """Drop NOT NULL inside a STRUCT, which BigQuery has and DuckDB has not."""
    for column in tree.find_all(exp.ColumnDef):
        if column.find_ancestor(exp.DataType):
            column.set("constraints", [])
    return tree


def table_resource(tree: exp.Create, *arguments: Any) -> Any:  # noqa: ANN401 - handed through
    """Return a new table's metadata, with what the emulator drops.

    That is nested NOT NULL and descriptions and the expiration; and of a clone or snapshot all but the columns' names
    and types.
    """
    resource = _table_resource(tree, *arguments)
    if clone := tree.args.get("clone"):
        base = tables.load(*names.reference(clone.this, *arguments[0][:2])).dump()
        kept = ("schema", "timePartitioning", "clustering", "description")
        resource = {key: base[key] for key in kept if key in base} | resource
        for option in tree.find_all(exp.Property):
            if option.name == "partition_expiration_days":
                days = float(option.args["value"].name)
                resource["timePartitioning"] = {**resource["timePartitioning"], "expirationMs": round(days * _DAY_MS)}
    if isinstance(tree.this, exp.Schema) and tree.expression is None:
        declared = declared_table(tree.sql("bigquery")).to_api_repr()
        resource |= {key: declared[key] for key in ("schema", "timePartitioning") if key in declared}
    return resource


def alter(project: str, dataset: str, table: str, given: list[Any]) -> None:
    """Run `tables.update`, and add new fields of STRUCT columns, which the emulator keeps in its metadata only."""
    live = tables.columns(project, dataset, table)
    _alter(project, dataset, table, given)
    for path, field in _new_fields(live, given):
        database.execute(
            f"ALTER TABLE {tables.name(project, dataset, table)} ADD COLUMN {path} {types.duckdb_type(field)}"
        )


def _new_fields(live: list[Any], given: list[Any]) -> Iterator[tuple[str, Any]]:
    """Yield DuckDB's path and the definition of each field that is new within a column that is there."""
    by_name = {field.name.casefold(): field for field in live}
    for field in given:
        if (existing := by_name.get(field.name.casefold())) and field.fields:
            prefix = database.quote(field.name) + (".element" if field.mode == "REPEATED" else "")
            names = {inner.name.casefold() for inner in existing.fields}
            for inner in field.fields:
                if inner.name.casefold() not in names:
                    yield f"{prefix}.{database.quote(inner.name)}", inner
            for path, inner in _new_fields(existing.fields, field.fields):
                yield f"{prefix}.{path}", inner


@functools.cache
def connect() -> duckdb.DuckDBPyConnection:
    """Open the emulator's database, with one thread for each statement, and without optimizers that lose rows.

    Handing work to a second thread takes longer than most of the statements, and there are several at a time anyway.
    """
    connection: duckdb.DuckDBPyConnection = _connect()
    connection.execute(f"SET disabled_optimizers = '{','.join(_DISABLED_OPTIMIZERS)}'")
    connection.execute("SET threads = 1")
    return connection


class IdentifyCaller:
    """Lets the emulator know who sent a request; its own way doubles the time that its framework takes for it.

    Args:
        app: The emulator.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        authorization = dict(scope.get("headers", ())).get(b"authorization")
        token = row_access.caller.set(row_access.identify(authorization.decode("latin-1") if authorization else None))
        try:
            await self._app(scope, receive, send)
        finally:
            row_access.caller.reset(token)


def install_extensions(home: pathlib.Path) -> None:
    """Put DuckDB's extensions, which come from wheels, where a DuckDB with this HOME looks for them."""
    version = f"v{duckdb.__version__}"
    platform = duckdb.sql("PRAGMA platform").fetchall()[0][0]
    target = home / ".duckdb" / "extensions" / version / platform
    target.mkdir(parents=True, exist_ok=True)
    for name in _EXTENSIONS:
        spec = importlib.util.find_spec(f"duckdb_extension_{name}")
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"duckdb-extension-{name} is not installed")
        file = pathlib.Path(spec.origin).parent / "extensions" / version / f"{name}.duckdb_extension"
        (target / file.name).unlink(missing_ok=True)
        (target / file.name).symlink_to(file)


def install() -> None:
    """Give the emulator in this process all that it lacks."""
    database._connect = connect
    app.user_middleware[:] = [
        Middleware(IdentifyCaller) if middleware.cls is BaseHTTPMiddleware else middleware
        for middleware in app.user_middleware
    ]
    bigquery_catalog.install()
    bigquery_records.install()
    bigquery_inserts.install()
    bigquery_storage.install()
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type] # DuckDB looks for it at each parameter of a query
    tables_api.tabledata.insert_all = insert_all
    runner.submit = submit
    query._run = run_statement
    ddl._table = table_resource
    tables._alter = alter
    runner.HANDLERS["load"] = run_load
    query.ddl.normalise = normalise
    query.ddl.split = split
    STATEMENT_RULES.insert(0, drop_nested_constraints)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="of the REST API")
    parser.add_argument("--grpc-port", type=int, required=True, help="of the Storage APIs")
    parser.add_argument("--project", required=True, help="default project")
    parser.add_argument("--data-dir", type=pathlib.Path, required=True, help="where the tables are kept")
    arguments = parser.parse_args()
    arguments.data_dir.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(arguments.data_dir)
    install_extensions(arguments.data_dir)
    install()
    ports = ["--port", str(arguments.port), "--grpc-port", str(arguments.grpc_port)]
    data = ["--project", arguments.project, "--data-dir", str(arguments.data_dir)]
    cli.main(["--host", "127.0.0.1", *ports, *data, "serve"])


if __name__ == "__main__":
    main()
