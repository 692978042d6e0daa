"""What the BigQuery emulator asks its catalog for each statement, answered for the one table that it is about.

The emulator itself goes through all tables for each answer: with some dozens, that takes longer than all else.
Answers are kept until the catalog changes.
"""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import duckdb
from local_bigquery.catalog import names, tabledata, tables
from local_bigquery.engine import database, types
from local_bigquery.errors import not_found
from local_bigquery.jobs import query
from local_bigquery.sql.rules import partitions
from sqlglot import exp

# DuckLake keeps its catalog in tables: https://ducklake.select/docs/stable/specification/tables/overview
_OBJECTS = """
SELECT table_name, 'TABLE', coalesce(record_count, 0)
FROM {lake}.ducklake_table AS found
JOIN {lake}.ducklake_schema AS dataset USING (schema_id)
LEFT JOIN {lake}.ducklake_table_stats USING (table_id)
WHERE found.end_snapshot IS NULL AND dataset.end_snapshot IS NULL
  AND schema_name = $1 AND table_name = coalesce($2, table_name)
UNION ALL
SELECT view_name, 'VIEW', 0
FROM {lake}.ducklake_view AS found
JOIN {lake}.ducklake_schema AS dataset USING (schema_id)
WHERE found.end_snapshot IS NULL AND dataset.end_snapshot IS NULL
  AND schema_name = $1 AND view_name = coalesce($2, view_name)
ORDER BY 1
"""
_COLUMNS = """
SELECT column_name, nulls_allowed
FROM {lake}.ducklake_column AS field
JOIN {lake}.ducklake_table AS found USING (table_id)
JOIN {lake}.ducklake_schema AS dataset USING (schema_id)
WHERE field.end_snapshot IS NULL AND found.end_snapshot IS NULL AND dataset.end_snapshot IS NULL
  AND schema_name = $1 AND table_name = $2 AND parent_column IS NULL
"""
_VERSION = "SELECT max(snapshot_id), max(schema_version) FROM {lake}.ducklake_snapshot"
_TEMPORARY_TABLES = "SELECT table_name FROM duckdb_tables() WHERE temporary"
_NO_TABLES = "SELECT NULL AS table_name WHERE FALSE"

_objects = database.objects
_execute = query.execute
_evaluator = query._evaluator


def _ask(sql: str, project: str, *names: str | None) -> list[Any]:
    """Return the rows of a question for the catalog of a project; none where there is no such project."""
    if project not in database._attached:
        return []
    return list(database.fetch(sql.format(lake=_lake(project)), list(names)))


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


class _Versions(threading.local):
    """Reads versions, by a prepared statement of each thread: planning it would take four times as long."""

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._cursors: dict[str, duckdb.DuckDBPyConnection] = {}

    def read(self, project: str) -> Version:
        """Return the version of a project's catalog."""
        if self._connection is not (connection := database.connection()):
            self._connection, self._cursors = connection, {}
        if project not in self._cursors:
            cursor = connection.cursor()
            cursor.execute(f"PREPARE version AS {_VERSION.format(lake=_lake(project))}")
            self._cursors[project] = cursor
        [version] = self._cursors[project].execute("EXECUTE version").fetchall()
        return Version(*version)


class _Answers:
    """Keeps answers about one state of the catalog."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Any, tuple[Any, dict[Any, Any]]] = {}

    def keep[T](self, state: Any, question: tuple[Any, ...], answer: Callable[[], T]) -> T:  # noqa: ANN401
        """Return the answer to a question, found anew where the state differs from that of the last answers.

        Args:
            state: What an answer depends on.
            question: Its first two items are the kind of question and the project.
            answer: Finds the answer.
        """
        with self._lock:
            kept_state, answers = self._kept.get(question[:2], (None, {}))
            if kept_state != state:
                answers = {}
                self._kept[question[:2]] = state, answers
            if question in answers:
                found: T = answers[question]
                return found
        answers[question] = found = answer()
        return found


_versions = _Versions()
_answers = _Answers()


def version(project: str) -> Version:
    """Return the version of a project's catalog."""
    return _versions.read(project)


def keep_for_schema[T](project: str, question: tuple[str, ...], answer: Callable[[], T]) -> T:
    """Return an answer that depends on the tables and views that there are, not on their rows."""
    connection = database.connection()
    return _answers.keep((connection, version(project).schema), (question[0], project, *question[1:]), answer)


def objects(project: str, dataset: str, table: str | None = None) -> list[tuple[str, str, int]]:
    """Return the tables and views of a dataset, or the one of a name: name, kind, rows."""
    if project in database._attached:
        state = database.connection(), version(project).snapshot
        question = "objects", project, dataset, table
        return list(_answers.keep(state, question, lambda: _ask(_OBJECTS, project, dataset, table)))
    if table is None or dataset != tables.RESULTS:
        return list(_objects(project, dataset, table))
    try:
        [(rows,)] = database.fetch(f"SELECT count(*) FROM {database.quote(project, dataset, table)}")  # noqa: S608
    except duckdb.CatalogException:
        return []
    return [(table, "TABLE", rows)]


def columns(project: str, dataset: str, table: str) -> list[Any]:
    """Return the fields of a table, a view or a result."""
    if project in database._attached and dataset != tables.RESULTS:
        question = "columns", dataset, table
        return list(keep_for_schema(project, question, lambda: _columns(project, dataset, table)))
    return _columns(project, dataset, table)


def _columns(project: str, dataset: str, table: str) -> list[Any]:
    required = {name for name, nullable in _ask(_COLUMNS, project, dataset, table) if not nullable}
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
    """Whether a table has a column for the time of ingestion, which `*` does not show."""
    if table.catalog not in database._attached:
        return False
    place = table.catalog, table.db, table.name
    found = keep_for_schema(place[0], ("hidden", *place[1:]), lambda: _ask(_COLUMNS, *place))
    return tables.INGESTION_TIME in {name for name, _ in found}


class _WithoutTemporaryTables:
    """A connection that has none, as has every new one."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - handed through
        return getattr(self._cursor, name)

    def sql(self, text: str, **more: Any) -> Any:  # noqa: ANN401 - handed through
        return self._cursor.sql(_NO_TABLES if text == _TEMPORARY_TABLES else text, **more)


def execute(cursor: duckdb.DuckDBPyConnection, *arguments: Any, session: Any = None, **more: Any) -> Any:  # noqa: ANN401
    """Run a query; only the connection of a session is not new."""
    return _execute(cursor if session else _WithoutTemporaryTables(cursor), *arguments, session=session, **more)


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
    query._evaluator = evaluator
