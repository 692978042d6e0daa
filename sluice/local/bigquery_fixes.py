"""Fixes of the BigQuery emulator, `local-bigquery` 0.3.2, where it differs from BigQuery in what Sluice needs.

Each fix replaces one function of the library by one that calls it. `tests/emulators/test_bigquery_fixes.py` shows each
fault without its fix, so a new version of the library that has fixed one makes that test fail: then the fix can go.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import sqlglot
from google.cloud.bigquery_storage_v1 import types as storage_types
from local_bigquery.catalog import ddl, names, tabledata, tables
from local_bigquery.engine import database, types
from local_bigquery.errors import BigQueryError
from local_bigquery.grpc import server, write
from local_bigquery.jobs import load, query, runner
from local_bigquery.sql.dialect import BigQueryDialect
from local_bigquery.sql.rules import STATEMENT_RULES
from local_bigquery.sql.translate import translate
from sqlglot import exp

from functions.schema.ddl import declared_table
from sluice.local import bigquery_catalog, bigquery_external, bigquery_inserts

MAX_CONNECTIONS = 64
"""Maximum number of connections to the Storage Write API, each of which has a thread."""

MAX_REQUEST_BYTES = 10_000_000
"""Maximum bytes of a request, as in BigQuery (https://cloud.google.com/bigquery/quotas#write-api-limits)."""

_DAY_MS = 86_400_000

_NUL = re.compile(r"\0|\\u0000")
"""Pattern of a NUL character in a query parameter; an array is bound as JSON."""

_CLONE_WITH_OPTIONS = re.compile(r"\b(CLONE\s.*?)\s+(OPTIONS\s*\(.*\))\s*$", re.DOTALL)

type Function = Callable[..., Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Fix:
    """A fix of one function of the library.

    Attributes:
        fixed: Returns the function in its place, given the library's; its docstring begins with the fault.
        owner: Module, dictionary or list that has the function.
        key: Name or index of the function in it.
    """

    fixed: Callable[[Function], Function]
    owner: Any
    key: Any

    @property
    def name(self) -> str:
        """The name of the fix."""
        return self.fixed.__name__

    @property
    def function(self) -> Any:  # noqa: ANN401 - a function, or gRPC's handler
        """The function that is in place now."""
        return self.owner[self.key] if isinstance(self.owner, dict | list) else getattr(self.owner, self.key)

    def replace(self, function: Any) -> None:  # noqa: ANN401 - a function, or gRPC's handler
        """Put a function in place, for this process."""
        if isinstance(self.owner, dict | list):
            self.owner[self.key] = function
        else:
            setattr(self.owner, self.key, function)

    def install(self) -> None:
        """Put the fixed function in place."""
        self.replace(self.fixed(self.function))


FIXES: list[Fix] = []
"""All fixes, in the order in which they are installed: a later one of the same function is around an earlier one."""


def _fixes(owner: Any, key: Any) -> Callable[[Callable[[Function], Function]], Callable[[Function], Function]]:  # noqa: ANN401
    def register(fixed: Callable[[Function], Function]) -> Callable[[Function], Function]:
        FIXES.append(Fix(fixed, owner, key))
        return fixed

    return register


def install() -> None:
    """Install all fixes in this process, before its server starts."""
    for fix in FIXES:
        fix.install()


# Inserts


@_fixes(tabledata, "insert_all")
def forget_failed_insert_ids(insert_all: Function) -> Function:
    """Rows of an insert that failed are dropped when they are sent again: their insertIds are kept."""

    def fixed(*arguments: Any) -> Any:  # noqa: ANN401 - handed through
        before = set(tabledata._recent)
        try:
            return insert_all(*arguments)
        except Exception:
            bigquery_inserts.forget(tabledata._recent.keys() - before)
            raise

    return fixed


@_fixes(tabledata, "insert_all")
def insert_one_at_a_time(insert_all: Function) -> Function:
    """Some of the inserts that run in parallel fail."""

    def fixed(*arguments: Any) -> Any:  # noqa: ANN401 - handed through
        with bigquery_inserts.lock:
            return insert_all(*arguments)

    return fixed


# Jobs


@_fixes(runner, "submit")
def reject_concurrent_job_of_same_id(submit: Function) -> Function:
    """Two concurrent requests for a job of one id both run it; BigQuery answers the second one with 409."""
    lock = threading.Lock()

    def fixed(project: str, job: str, configuration: Any, *upload: str | None) -> Any:  # noqa: ANN401
        with contextlib.nullcontext() if configuration.dryRun else lock:
            return submit(project, job, configuration, *upload)

    return fixed


@_fixes(runner.HANDLERS, "load")
def load_by_schema_of_table(run: Function) -> Function:
    """A load job without a schema guesses one, and takes base64 for the bytes themselves."""

    def fixed(cursor: Any, config: Any, upload: str | None) -> Any:  # noqa: ANN401 - handed through
        if config.sourceFormat == "NEWLINE_DELIMITED_JSON" and config.schema_ is None:
            fields = tables.columns(*tables.reference(config.destinationTable))
            files = [upload] if upload else [path for uri in config.sourceUris for path in load.paths(cursor, uri)]
            read = cursor.sql(f"FROM read_json({files}, format = 'newline_delimited', sample_size = -1) LIMIT 0")
            for unknown in set(read.columns) - {field.name for field in fields}:
                raise BigQueryError("invalid", f"Error while reading data, error message: No such field: {unknown}.")
            config = config.replace(schema={"fields": [field.dump() for field in fields]})
        return run(cursor, config, upload)

    return fixed


@_fixes(runner.HANDLERS, "load")
def load_one_at_a_time(run: Function) -> Function:
    """Some of the loads that run beside inserts fail."""

    def fixed(*arguments: Any) -> Any:  # noqa: ANN401 - handed through
        with bigquery_inserts.lock:
            return run(*arguments)

    return fixed


# Queries


@_fixes(database, "_connect")
def disable_optimizers_that_lose_rows(connect: Function) -> Function:
    """Two optimizers of DuckDB lose rows of a DuckLake table, or fail.

    A file with a value of more than 256 bytes has no minimum and maximum. DuckLake then takes those of the files that
    follow for the whole table's, and `statistics_propagation` finds no row outside them. `join_filter_pushdown` pushes
    a join's values down, as `run_without_optimizer_for_nul` says of parameters.
    """
    uncached = getattr(connect, "__wrapped__", connect)

    @functools.cache
    def fixed() -> Any:  # noqa: ANN401 - DuckDB's connection
        connection = uncached()
        connection.execute("SET disabled_optimizers = 'statistics_propagation,join_filter_pushdown'")
        return connection

    return fixed


@_fixes(query, "_run")
def create_clone_with_rows_or_not_at_all(run: Function) -> Function:
    """A clone or snapshot whose rows cannot be copied leaves an empty table: here these are two statements."""

    def fixed(cursor: Any, tree: exp.Expression, context: Any, *arguments: Any) -> Any:  # noqa: ANN401
        if not tree.args.get("clone"):
            return run(cursor, tree, context, *arguments)
        reference = names.reference(tree.find(exp.Table), context.project_id, context.dataset_id or "")
        is_new = not tables.exists(*reference)
        try:
            return run(cursor, tree, context, *arguments)
        except Exception:
            if is_new:
                cursor.execute(f"DROP TABLE IF EXISTS {tables.name(*reference)}")
            raise

    return fixed


@_fixes(query, "_run")
def run_without_optimizer_for_nul(run: Function) -> Function:
    """A query parameter with a NUL character fails.

    A filter that is pushed down reaches DuckLake's catalog as SQL, which a NUL character cuts off.
    """

    def fixed(cursor: Any, tree: exp.Expression, context: Any, *arguments: Any) -> Any:  # noqa: ANN401
        if not any(isinstance(value, str) and _NUL.search(value) for value in context.values.values()):
            return run(cursor, tree, context, *arguments)
        cursor.execute("PRAGMA disable_optimizer")
        try:
            return run(cursor, tree, context, *arguments)
        finally:
            cursor.execute("PRAGMA enable_optimizer")

    return fixed


@_fixes(query, "_run")
def run_ddl_one_at_a_time(run: Function) -> Function:
    """Two sessions that create the same object at the same time fail, even with IF NOT EXISTS."""
    lock = threading.Lock()

    def fixed(cursor: Any, tree: exp.Expression, *arguments: Any) -> Any:  # noqa: ANN401 - handed through
        with lock if isinstance(tree, query.DDL) else contextlib.nullcontext():
            return run(cursor, tree, *arguments)

    return fixed


@_fixes(query, "_run")
def evaluate_parameters_of_expiration(run: Function) -> Function:
    """The expiration of a clone or snapshot takes no query parameters."""

    def fixed(cursor: Any, tree: exp.Expression, context: Any, *arguments: Any) -> Any:  # noqa: ANN401
        for option in tree.find_all(exp.Property) if tree.args.get("clone") else ():
            if option.name == "expiration_timestamp":
                sql, bound = translate(exp.select(exp.cast(option.args["value"].copy(), "STRING")), context)
                option.set("value", exp.Literal.string(cursor.execute(sql, bound).fetchone()[0]))
        return run(cursor, tree, context, *arguments)

    return fixed


@_fixes(query, "_run")
def reject_time_before_table(run: Function) -> Function:
    """A query for a table as it was before it was created has another error than BigQuery's, or none.

    https://cloud.google.com/bigquery/docs/access-historical-data#query_data_at_a_point_in_time
    """

    def fixed(cursor: Any, tree: exp.Expression, context: Any, *arguments: Any) -> Any:  # noqa: ANN401
        for table in tree.find_all(exp.Table):
            if version := table.args.get("version"):
                project, dataset, name = names.reference(table, context.project_id, context.dataset_id or "")
                created = bigquery_catalog.created(project, dataset, name)
                time = exp.cast(version.expression.copy(), "TIMESTAMP")
                sql, bound = translate(exp.select(exp.func("UNIX_MILLIS", time, dialect=BigQueryDialect)), context)
                at = cursor.execute(sql, bound).fetchone()[0]
                if created is not None and at < created:
                    text = f"Invalid snapshot time {at} for table {project}:{dataset}.{name}@{at}."
                    raise BigQueryError("invalidQuery", f"{text} Cannot read before {created}.")
        return run(cursor, tree, context, *arguments)

    return fixed


# Tables and datasets


@_fixes(query, "_run")
def keep_location_of_dataset(run: Function) -> Function:
    """The location of a new dataset is overlooked, unlike the other options."""

    def fixed(cursor: Any, tree: exp.Expression, *arguments: Any) -> Any:  # noqa: ANN401 - handed through
        for location in list(tree.find_all(exp.LocationProperty)):
            location.replace(exp.Property(this=exp.var("location"), value=location.this))
        return run(cursor, tree, *arguments)

    return fixed


@_fixes(query.ddl, "normalise")
def parse_options_of_clone(normalise: Function) -> Function:
    """A clone or snapshot with OPTIONS is not parsed; only before CLONE would they be."""

    def fixed(tree: Any) -> Any:  # noqa: ANN401 - handed through
        if isinstance(tree, exp.Command):
            text, count = _CLONE_WITH_OPTIONS.subn(r"\2 \1", tree.sql(dialect=BigQueryDialect, comments=False))
            if count:
                tree = sqlglot.parse_one(text, dialect=BigQueryDialect)
        return normalise(tree)

    return fixed


@_fixes(query.ddl, "normalise")
def parse_external_table(normalise: Function) -> Function:
    """CREATE EXTERNAL TABLE is not parsed."""
    return lambda tree: normalise(bigquery_external.parsed(tree))


@_fixes(ddl, "_definition")
def keep_definition_of_external_table(definition: Function) -> Function:
    """A table is never external."""

    def fixed(tree: exp.Create, *arguments: Any) -> Any:  # noqa: ANN401 - handed through
        return bigquery_external.definition(tree) or definition(tree, *arguments)

    return fixed


@_fixes(tables, "STORED_TYPES")
def keep_type_of_external_table(types: Any) -> Any:  # noqa: ANN401 - a tuple
    """The type of an external table is not kept."""
    return (*types, bigquery_external.TYPE)


@_fixes(STATEMENT_RULES, 0)
def read_external_tables(rule: Function) -> Function:
    """An external table is read as if it were a table of its own."""
    return lambda tree, context: rule(bigquery_external.reading(tree, context), context)


@_fixes(query.ddl, "split")
def keep_not_null_of_clone(split: Function) -> Function:
    """A clone or snapshot drops NOT NULL of its columns."""

    def fixed(tree: Any) -> Any:  # noqa: ANN401 - handed through
        if not (clone := tree.args.get("clone")):
            return split(tree)
        columns = [
            exp.ColumnDef(
                this=exp.to_identifier(field.name, quoted=True),
                kind=exp.DataType.build(types.bigquery_type(field), dialect=BigQueryDialect),
                constraints=[exp.ColumnConstraint(kind=exp.NotNullColumnConstraint())] * (field.mode == "REQUIRED"),
            )
            for field in tables.columns(*names.reference(clone.this, "", ""))
        ]
        schema = exp.Schema(this=tree.this.copy(), expressions=columns)
        rows = exp.insert(exp.select("*").from_(clone.this.copy()), tree.this.copy())
        rows.set("by_name", True)
        return [exp.Create(this=schema, kind="TABLE", replace=tree.args.get("replace")), rows]

    return fixed


@_fixes(ddl, "_table")
def keep_metadata_of_clone(table: Function) -> Function:
    """A clone or snapshot drops partitioning, clustering and descriptions of its table."""

    def fixed(tree: exp.Create, *arguments: Any) -> Any:  # noqa: ANN401 - handed through
        resource = table(tree, *arguments)
        if clone := tree.args.get("clone"):
            base = tables.load(*names.reference(clone.this, *arguments[0][:2])).dump()
            kept = ("schema", "timePartitioning", "clustering", "description")
            resource = {key: base[key] for key in kept if key in base} | resource
            for option in tree.find_all(exp.Property):
                if option.name == "partition_expiration_days":
                    days = float(option.args["value"].name)
                    partitioning = {**resource["timePartitioning"], "expirationMs": round(days * _DAY_MS)}
                    resource["timePartitioning"] = partitioning
        return resource

    return fixed


@_fixes(ddl, "_table")
def keep_nested_metadata(table: Function) -> Function:
    """A new table drops NOT NULL and descriptions of nested fields, and the expiration of partitions."""

    def fixed(tree: exp.Create, *arguments: Any) -> Any:  # noqa: ANN401 - handed through
        resource = table(tree, *arguments)
        if isinstance(tree.this, exp.Schema) and tree.expression is None:
            declared = declared_table(tree.sql("bigquery")).to_api_repr()
            resource |= {key: declared[key] for key in ("schema", "timePartitioning") if key in declared}
        return resource

    return fixed


@_fixes(STATEMENT_RULES, 0)
def drop_nested_not_null(rule: Function) -> Function:
    """NOT NULL inside a STRUCT fails: BigQuery has it, DuckDB has not."""

    def fixed(tree: exp.Expression, context: Any) -> Any:  # noqa: ANN401 - handed through
        for column in tree.find_all(exp.ColumnDef):
            if column.find_ancestor(exp.DataType):
                column.set("constraints", [])
        return rule(tree, context)

    return fixed


@_fixes(tables, "_alter")
def add_nested_fields(alter: Function) -> Function:
    """A new field of a STRUCT column is added to the metadata only, by `tables.update`."""

    def fixed(project: str, dataset: str, table: str, given: list[Any]) -> None:
        live = tables.columns(project, dataset, table)
        alter(project, dataset, table, given)
        for path, field in _new_fields(live, given):
            column = f"{path} {types.duckdb_type(field)}"
            database.execute(f"ALTER TABLE {tables.name(project, dataset, table)} ADD COLUMN {column}")

    return fixed


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


# The Storage Write API


_WRITE_API = server.SERVICES["google.cloud.bigquery.storage.v1.BigQueryWrite"]


@_fixes(_WRITE_API, "GetWriteStream")
def show_schema_of_stream(_: Function) -> Any:  # noqa: ANN401 - gRPC's handler
    """A stream's full view has no schema of its table."""

    def get(request: storage_types.GetWriteStreamRequest) -> storage_types.WriteStream:
        stream: storage_types.WriteStream = write.get(request)
        if request.view == storage_types.WriteStreamView.FULL:
            columns = tables.columns(*write._stream(request.name).table)
            stream.table_schema = storage_types.TableSchema(fields=[write._field(column) for column in columns])
        return stream

    return server._unary(get, storage_types.GetWriteStreamRequest, storage_types.WriteStream)


@_fixes(server, "start")
def serve_more_connections_and_larger_requests(_: Function) -> Function:
    """The 17th connection hangs, and a request of more than 4 MB is rejected, where BigQuery takes 10 MB."""

    def fixed(host: str, port: int) -> tuple[grpc.Server, int]:
        threads = concurrent.futures.ThreadPoolExecutor(MAX_CONNECTIONS)
        serving = grpc.server(threads, options=[("grpc.max_receive_message_length", MAX_REQUEST_BYTES)])
        handlers = [grpc.method_handlers_generic_handler(name, methods) for name, methods in server.SERVICES.items()]
        serving.add_generic_rpc_handlers(handlers)
        port = serving.add_insecure_port(f"{host}:{port}")
        serving.start()
        return serving, port

    return fixed
