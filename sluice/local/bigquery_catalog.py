"""Answers the BigQuery emulator's questions to its catalog for the one table that a statement is about.

The emulator itself goes through all tables for each answer: with some dozens, that takes longer than all else.
Answers are kept until the catalog changes.
"""

import collections
import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import duckdb
from local_bigquery.catalog import names, tabledata, tables
from local_bigquery.engine import database, results, types
from local_bigquery.errors import not_found
from local_bigquery.jobs import query
from local_bigquery.sql.rules import partitions
from sqlglot import exp

# DuckLake keeps its catalog in tables: https://ducklake.select/docs/stable/specification/tables/overview
_OBJECTS = """
SELECT schema_name, table_name, 'TABLE', table_id
FROM {lake}.ducklake_table AS found
JOIN {lake}.ducklake_schema AS dataset USING (schema_id)
WHERE found.end_snapshot IS NULL AND dataset.end_snapshot IS NULL
UNION ALL
SELECT schema_name, view_name, 'VIEW', NULL
FROM {lake}.ducklake_view AS found
JOIN {lake}.ducklake_schema AS dataset USING (schema_id)
WHERE found.end_snapshot IS NULL AND dataset.end_snapshot IS NULL
ORDER BY 1, 2
"""
_COLUMNS = """
SELECT column_name, nulls_allowed
FROM {lake}.ducklake_column AS field
JOIN {lake}.ducklake_table AS found USING (table_id)
JOIN {lake}.ducklake_schema AS dataset USING (schema_id)
WHERE field.end_snapshot IS NULL AND found.end_snapshot IS NULL AND dataset.end_snapshot IS NULL
  AND schema_name = $1 AND table_name = $2 AND parent_column IS NULL
"""
_CREATED = """
SELECT epoch_ms(min(snapshot_time)) + 1
FROM {lake}.ducklake_table AS found
JOIN {lake}.ducklake_schema AS dataset USING (schema_id)
JOIN {lake}.ducklake_snapshot ON snapshot_id = found.begin_snapshot
WHERE schema_name = $1 AND table_name = $2
"""
_CHANGES = "SELECT changes_made FROM {lake}.ducklake_snapshot_changes WHERE snapshot_id > $1"
_VERSION = "SELECT max(snapshot_id), max(schema_version) FROM {lake}.ducklake_snapshot"
_ROWS = "SELECT table_id, record_count FROM {lake}.ducklake_table_stats"

_ALL_RESULTS = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'emulator' AND schema_name = '_results'"

_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_HARMLESS = re.compile(r"(created_(schema|table|view)|(inserted_into|deleted_from)_table|merge_adjacent):[.\d]*")

_TEMPORARY_TABLES = "SELECT table_name FROM duckdb_tables() WHERE temporary"

_objects = database.objects
_RESULT_PREFIX = database.quote("emulator", tables.RESULTS) + "."

_execute = query.execute
_evaluator = query._evaluator
_materialise = results.materialise
_write = tables.write


def _ask(sql: str, project: str, *values: str | int) -> list[Any]:
    """Return the rows of a question for the catalog of a project; none where there is no such project."""
    if project not in database._attached:
        return []
    return list(database.fetch(sql.format(lake=_lake(project)), list(values)))


def created(project: str, dataset: str, table: str) -> int | None:
    """Return the first millisecond in which there was a table of this name; None where there never was one."""
    answer = _ask(_CREATED, project, dataset, table)
    return answer[0][0] if answer else None


def _lake(project: str) -> str:
    lake: str = database.quote(f"__ducklake_metadata_{project}")
    return lake


class Version(NamedTuple):
    """A state of a project's catalog.

    Attributes:
        snapshot: Rises with each commit.
        schema: Rises with each commit that creates, alters or drops something.
    """

    snapshot: int
    schema: int


class _Prepared(threading.local):
    """Prepared statements of each thread; planning would take most of their time."""

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._cursors: dict[str, duckdb.DuckDBPyConnection] = {}

    def ask(self, sql: str, project: str) -> list[Any]:
        """Return the rows of a question for the catalog of a project."""
        if self._connection is not (connection := database.connection()):
            self._connection, self._cursors = connection, {}
        sql = sql.format(lake=_lake(project))
        if sql not in self._cursors:
            cursor = connection.cursor()
            cursor.execute("PRAGMA disable_optimizer")  # it would build the rows of this moment into the plan
            cursor.execute(f"PREPARE question AS {sql}")
            self._cursors[sql] = cursor
        return list(self._cursors[sql].execute("EXECUTE question").fetchall())


class _Answers:
    """Keeps what was found out about a project's tables and views, until one of them changes."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._version = Version(-1, -1)
        self._answers: dict[tuple[str, ...], Any] = {}
        self._objects: dict[str, dict[str, tuple[str, int | None]]] | None = None
        self._rows: dict[int | None, int] | None = None

    def about[T](self, question: tuple[str, ...], find: Callable[[], T]) -> T:
        """Return the answer to a question about one table or view; what is not there is looked for each time."""
        with self._lock:
            self._refresh()
            answers = self._answers
            if question in answers:
                kept: T = answers[question]
                return kept
        if answer := find():
            answers[question] = answer
        return answer

    def objects(self, dataset: str, table: str | None) -> list[tuple[str, str, int]]:
        """Return name, kind and rows of the tables and views of a dataset, or of the one of a name."""
        with self._lock:
            self._refresh()
            if self._objects is None:
                self._objects = collections.defaultdict(dict)
                for schema, name, kind, table_id in _prepared.ask(_OBJECTS, self._project):
                    self._objects[schema][name] = kind, table_id
            if self._rows is None:
                self._rows = dict(_prepared.ask(_ROWS, self._project))
            in_dataset = self._objects.get(dataset, {})
            names = in_dataset if table is None else in_dataset.keys() & {table}
            return [(name, in_dataset[name][0], self._rows.get(in_dataset[name][1], 0)) for name in names]

    def _refresh(self) -> None:
        """Forget all answers where they may be different now: a new table or view changes nothing about the others."""
        connection, [newest] = database.connection(), _prepared.ask(_VERSION, self._project)
        version = Version(*newest)
        if connection is not self._connection:
            self._connection, self._answers, self._objects, self._rows = connection, {}, None, None
        elif version.schema != self._version.schema:
            self._objects = None
            if not self._is_harmless():
                self._answers = {}
        if version.snapshot != self._version.snapshot:
            self._rows = None
        self._version = version

    def _is_harmless(self) -> bool:
        changes = [change for (change,) in _ask(_CHANGES, self._project, self._version.snapshot)]
        return all(_HARMLESS.fullmatch(part) for change in changes for part in _QUOTED.sub("", change).split(","))


class _Results:
    """Knows the results of queries; DuckDB compares a name that it does not find with those of all tables."""

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._names: set[str] = set()

    def names(self) -> set[str]:
        """Return the names of all results; some may be gone."""
        if self._connection is not (connection := database.connection()):
            self._names = {name for (name,) in database.fetch(_ALL_RESULTS)}
            self._connection = connection
        return self._names


_prepared = _Prepared()
_results = _Results()
_answers: dict[str, _Answers] = {}


def keep[T](project: str, question: tuple[str, ...], find: Callable[[], T]) -> T:
    """Return the answer to a question about one table or view, found anew where the catalog has changed.

    Args:
        project: An attached project.
        question: The question, with all that it is about.
        find: Finds the answer; a false one is not kept.
    """
    return _answers_of(project).about(question, find)


def _answers_of(project: str) -> _Answers:
    if project not in _answers:
        _answers.setdefault(project, _Answers(project))
    return _answers[project]


def objects(project: str, dataset: str, table: str | None = None) -> list[tuple[str, str, int]]:
    """Return the tables and views of a dataset, or the one of a name: name, kind, rows."""
    if project in database._attached:
        return _answers_of(project).objects(dataset, table)
    if table is None or dataset != tables.RESULTS:
        return list(_objects(project, dataset, table))
    if table not in _results.names():
        return []
    try:
        [(count,)] = database.fetch(f"SELECT count(*) FROM {database.quote(project, dataset, table)}")  # noqa: S608
    except duckdb.CatalogException:
        return []
    return [(table, "TABLE", count)]


def columns(project: str, dataset: str, table: str) -> list[Any]:
    """Return the fields of a table, a view or a result."""
    if project in database._attached and dataset != tables.RESULTS:
        if not objects(project, dataset, table):  # DuckDB would look for similar names
            raise not_found("Table", names.label(project, dataset, table))
        return list(keep(project, ("columns", dataset, table), lambda: _columns(project, dataset, table)))
    return _columns(project, dataset, table)


def _catalog_columns(project: str, dataset: str, table: str) -> list[tuple[str, bool]]:
    """Return the names of a table's columns, each with whether it may be null; none of a view."""
    if project not in database._attached:
        return []

    def find() -> list[Any]:
        return [_ask(_COLUMNS, project, dataset, table)] if objects(project, dataset, table) else []

    return next(iter(keep(project, ("names", dataset, table), find)), [])


def _columns(project: str, dataset: str, table: str) -> list[Any]:
    required = {name for name, nullable in _catalog_columns(project, dataset, table) if not nullable}
    with database.cursor() as cursor:
        try:
            relation = cursor.sql(f"SELECT * FROM {tables.name(project, dataset, table)} LIMIT 0")  # noqa: S608
        except duckdb.CatalogException:
            raise not_found("Table", names.label(project, dataset, table)) from None
        return [
            types.field(name, type_, name in required)
            for name, type_ in zip(relation.columns, relation.types, strict=True)
            if name != tables.INGESTION_TIME or dataset == tables.RESULTS
        ]


def hidden(table: exp.Table) -> bool:
    """Return whether a table has a column for the time of ingestion, which `*` does not show."""
    return tables.INGESTION_TIME in {name for name, _ in _catalog_columns(table.catalog, table.db, table.name)}


class _NoTables:
    """The result of a query that found no tables."""

    def fetchall(self) -> list[tuple[str]]:
        return []


class _WithoutTemporaryTables:
    """A connection that has none, as has every new one."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - handed through
        return getattr(self._cursor, name)

    def sql(self, text: str, **more: Any) -> Any:  # noqa: ANN401 - handed through
        return _NoTables() if text == _TEMPORARY_TABLES else self._cursor.sql(text, **more)


def execute(cursor: duckdb.DuckDBPyConnection, *arguments: Any, session: Any = None, **more: Any) -> Any:  # noqa: ANN401
    """Run a query; only the connection of a session is not new."""
    return _execute(cursor if session else _WithoutTemporaryTables(cursor), *arguments, session=session, **more)


class DescribedQuery:
    """A connection that runs a query only for its rows; for its columns the emulator would run it twice more.

    Args:
        cursor: The connection.
        query: The query.
    """

    def __init__(self, cursor: Any, query: str) -> None:  # noqa: ANN401 - a connection, or _WithoutTemporaryTables
        self._cursor, self._query = cursor, query
        self._columns: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - handed through
        return getattr(self._cursor, name)

    def sql(self, text: str, **more: Any) -> Any:  # noqa: ANN401 - handed through
        """Run a statement; of the query return the columns only, without its rows."""
        if text != self._query:
            return self._cursor.sql(text, **more)
        if self._columns is None:
            self._columns = self._cursor.sql(f"SELECT * FROM ({text}\n) LIMIT 0", **more)  # noqa: S608
        return self._columns


def write(cursor: duckdb.DuckDBPyConnection, query: str, *arguments: Any, **more: Any) -> bool:  # noqa: ANN401
    """Write the rows of a query to a table; returns whether it is new."""
    return bool(_write(DescribedQuery(cursor, query), query, *arguments, **more))


def materialise(cursor: duckdb.DuckDBPyConnection, sql: str, name: str, *arguments: Any) -> None:  # noqa: ANN401
    """Write the rows of a query to a table, and remember it if it is a result."""
    _materialise(cursor, sql, name, *arguments)
    if name.startswith(_RESULT_PREFIX):
        _results.names().add(name.removeprefix(_RESULT_PREFIX)[1:-1].replace('""', '"'))


def evaluator(cursor: duckdb.DuckDBPyConnection) -> Callable[[exp.Expr], Any]:
    """Evaluates options; most are descriptions, for which no database is needed."""
    evaluate = _evaluator(cursor)
    return lambda node: node.name if isinstance(node, exp.Literal) and node.is_string else evaluate(node)


def install() -> None:
    """Let the emulator in this process ask that way."""
    database.objects = objects
    tables.columns = tabledata.columns = columns
    partitions._hidden = hidden
    query.execute = execute
    results.materialise = materialise
    tables.write = write
    query._evaluator = evaluator
