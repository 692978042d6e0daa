"""`insertAll` of the BigQuery emulator, in one transaction for all requests that wait.

The emulator looks at the catalog ten times for each request and takes one request at a time; a commit costs as much for
one row as for hundreds. Rows without a fault are inserted here. All else is left to the emulator: it finds out which
rows are at fault, and says so.

Each commit writes a file, and a query opens all files of a table, so from time to time they are merged.
"""

import collections
import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import duckdb
import msgspec
from local_bigquery.app import app
from local_bigquery.catalog import metadata, tabledata, tables
from local_bigquery.engine import database
from local_bigquery.engine.database import quote
from local_bigquery.models import Table
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice.local import bigquery_catalog

_PATH = re.compile(r"/bigquery/v2/projects/([^/]+)/datasets/([^/]+)/tables/([^/]+)/insertAll")

_NOT_SCALAR = frozenset({"list", "array", "struct", "map"})

COMMITS_OF_MERGE = 100
"""Number of commits to a table after which its files are merged. A query takes about 1 ms for each file."""

_MERGED_BYTES = 1_000_000
"""Size of the files that are not merged any more."""

_READ_WITHIN = "INTERVAL 10 MINUTES"
"""Time after which no query reads a file that was merged into another one."""

lock = threading.Lock()
"""Lock of all inserts: the emulator fails some of the inserts that run in parallel."""


class _Row(msgspec.Struct, rename="camel"):
    json: dict[str, Any]
    insert_id: str | None = None


class _Request(msgspec.Struct, rename="camel"):
    rows: list[_Row]
    template_suffix: str | None = None


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode


@dataclasses.dataclass(frozen=True, slots=True)
class _Layout:
    """A table, as far as rows are concerned.

    Attributes:
        reference: Its project, dataset and name.
        types: DuckDB's types by column.
        required: Columns that must have a value.
        repeated: Columns that must not be null.
    """

    reference: tuple[str, str, str]
    types: dict[str, Any]
    required: Sequence[str]
    repeated: Sequence[str]

    @property
    def name(self) -> str:
        """The quoted name."""
        return str(tables.name(*self.reference))

    def fits(self, row: dict[str, Any]) -> bool:
        """Return whether a row has known columns only, and all that it needs."""
        return (
            row.keys() <= self.types.keys()
            and all(row.get(column) is not None for column in self.required)
            and all(row.get(column, ()) is not None for column in self.repeated)
        )


@dataclasses.dataclass(slots=True)
class _Waiting:
    """The rows of a request, all with the same columns.

    Attributes:
        layout: Their table.
        columns: Their columns.
        rows: Their insertIds and values.
        inserted: Whether they are durable; None before the first attempt.
    """

    layout: _Layout
    columns: tuple[str, ...]
    rows: Sequence[_Row]
    inserted: bool | None = None


_waiting: collections.deque[_Waiting] = collections.deque()

_commits: collections.Counter[tuple[str, str, str]] = collections.Counter()
"""Number of commits to each table since its files were merged."""


def insert(project: str, dataset: str, table: str, body: bytes) -> bool:
    """Insert the rows of a request, if nothing at all is wrong with them.

    Returns:
        Whether they are durable; if not, none of them is, and the emulator has to look at the request.
    """
    try:
        request = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    if not request.rows or request.template_suffix or project not in database._attached:
        return False
    layout = _layout(project, dataset, table)
    columns = tuple(request.rows[0].json)
    same = set(columns)
    if layout is None or not all(row.json.keys() == same and layout.fits(row.json) for row in request.rows):
        return False
    entry = _Waiting(layout, columns, request.rows)
    _waiting.append(entry)
    with lock:
        if entry.inserted is None:
            _insert_waiting()
    return bool(entry.inserted)


def _layout(project: str, dataset: str, table: str) -> _Layout | None:
    """Return the layout of a table; None where there is none, or no more."""
    if tables.expired(metadata.load(Table, project, dataset, table)):
        return None
    return bigquery_catalog.keep(project, ("layout", dataset, table), lambda: _find_layout(project, dataset, table))


def _find_layout(project: str, dataset: str, table: str) -> _Layout | None:
    if [kind for _, kind, _ in bigquery_catalog.objects(project, dataset, table)] != ["TABLE"]:
        return None
    reference = project, dataset, table
    fields = bigquery_catalog.columns(project, dataset, table)
    with database.cursor() as cursor:
        relation = cursor.sql(f"SELECT * FROM {tables.name(*reference)} LIMIT 0")  # noqa: S608
        kinds = dict(zip(relation.columns, relation.types, strict=True))
    required = [field.name for field in fields if field.mode == "REQUIRED"]
    repeated = [field.name for field in fields if field.mode == "REPEATED"]
    return _Layout(reference, kinds, required, repeated)


def _insert_waiting() -> None:
    """Insert all that waits in one transaction; where it fails, one request after the other."""
    entries = []
    while _waiting:
        entries.append(_waiting.popleft())
    if not _insert_together(entries) and len(entries) > 1:
        for entry in entries:
            _insert_together([entry])


def _insert_together(entries: Sequence[_Waiting]) -> bool:
    """Insert rows in one transaction; returns whether they are in their tables, of which otherwise none is."""
    by_table: dict[tuple[str, tuple[str, ...]], list[_Waiting]] = {}
    for entry in entries:
        by_table.setdefault((entry.layout.name, entry.columns), []).append(entry)
    remembered: list[tuple[str, str]] = []
    inserted = False
    try:
        with database.cursor() as cursor:
            cursor.execute("PRAGMA disable_optimizer")  # it finds nothing to gain here, but takes its time
            cursor.execute("BEGIN")
            for group in by_table.values():
                _insert_rows(cursor, group[0], [row for entry in group for row in entry.rows], remembered)
            cursor.execute("COMMIT")
            inserted = True
    except duckdb.Error:
        return False
    finally:
        if not inserted:
            forget(remembered)
        for entry in entries:
            entry.inserted = inserted
    for reference in {entry.layout.reference for entry in entries}:
        _commits[reference] += 1
        if _commits[reference] >= COMMITS_OF_MERGE:
            merge_files(*reference)
    return True


def merge_files(project: str, dataset: str, table: str) -> None:
    """Merge the small files of a table; its rows and its history stay the same. Call it with the lock of inserts.

    Where the merge fails, for example because the table was dropped, the files stay as they are.
    """
    del _commits[project, dataset, table]
    names = {"project": project, "dataset": dataset, "table": table}
    with contextlib.suppress(duckdb.Error), database.writing(project, dataset, table), database.cursor() as cursor:
        cursor.execute(
            "CALL ducklake_merge_adjacent_files($project, $table, schema => $dataset,"
            f" max_file_size => {_MERGED_BYTES})",
            names,
        )
        cursor.execute(
            f"CALL ducklake_cleanup_old_files($project, older_than => now() - {_READ_WITHIN})", {"project": project}
        )


def _insert_rows(
    cursor: duckdb.DuckDBPyConnection, entry: _Waiting, rows: Iterable[_Row], remembered: list[tuple[str, str]]
) -> None:
    """Insert those rows whose insertIds are new, and remember these; fails where one has a value that is not valid."""
    table = entry.layout.name
    new = []
    for row in rows:
        if remember(table, row.insert_id):
            new.append(row.json)
            if row.insert_id is not None:
                remembered.append((table, row.insert_id))
    if new:
        kinds = {column: entry.layout.types[column] for column in entry.columns}
        checked = _checked(kinds) or kinds
        typed, text = _struct(kinds, tabledata._spec_type), _struct(checked, lambda _: "VARCHAR")
        cursor.execute(_statement(table, kinds), {"rows": _encode(new).decode(), "typed": typed, "text": text})


def _struct(kinds: dict[str, Any], spell: Callable[[Any], str]) -> str:
    """Return the structure of rows for `from_json`."""
    fields = ", ".join(f"{quote(column)} {spell(kind)}" for column, kind in kinds.items())
    return _encode([f"STRUCT({fields})"]).decode()


def _statement(table: str, kinds: dict[str, Any]) -> str:
    """Return the statement that inserts rows as the emulator does, and fails where the emulator finds a bad value.

    `from_json` makes NULL of a value that is not of its column's type, so the values are there a second time as text.
    """
    checks = [
        f"(t.{quote(column)} IS NOT NULL AND TRY_CAST(t.{quote(column)} AS {kind}) IS NULL)"
        for column, kind in _checked(kinds).items()
    ]
    names = ", ".join(map(quote, kinds))
    values = ", ".join(tabledata._select(quote(column), kind) for column, kind in kinds.items())
    rows = "SELECT unnest(from_json($rows, $typed)) AS r, unnest(from_json($rows, $text)) AS t"
    check = f"CASE WHEN {' OR '.join(checks or ['FALSE'])} THEN error('a value is not valid') ELSE TRUE END"
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM ({rows}) WHERE {check}"  # noqa: S608


def _checked(kinds: dict[str, Any]) -> dict[str, Any]:
    """Return the columns whose values the emulator checks before it inserts them."""
    return {
        column: kind
        for column, kind in kinds.items()
        if kind.id not in _NOT_SCALAR and str(kind) not in {"JSON", "BLOB", "VARCHAR"}
    }


def remember(table: str, insert_id: str | None) -> bool:
    """Remember an insertId for a minute; returns whether it is new."""
    now, recent = time.monotonic(), tabledata._recent
    while recent and now - next(iter(recent.values())) > tabledata.DEDUP_SECONDS:
        recent.popitem(last=False)
    if insert_id is None:
        return True
    return recent.setdefault((table, insert_id), now) is now


def forget(keys: Iterable[tuple[str, str]]) -> None:
    """Forget insertIds whose rows were not inserted."""
    for key in keys:
        tabledata._recent.pop(key, None)


def deduplicate(table: str, rows: Iterable[tuple[int, str | None, Any]]) -> list[tuple[int, Any]]:
    """Return the rows whose insertIds are new; the emulator goes through all the ids of a minute."""
    return [(index, data) for index, insert_id, data in rows if remember(table, insert_id)]


class InsertAll:
    """Serves `insertAll` before the emulator does, which has to look only at what this could not insert.

    Args:
        app: The emulator.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        match = _PATH.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
        if match is None or scope["method"] != "POST" or b"content-encoding" in dict(scope["headers"]):
            await self._app(scope, receive, send)
            return
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())
        body = b"".join(message.get("body", b"") for message in messages)
        if await run_in_threadpool(insert, match[1], match[2], match[3], body):
            await JSONResponse({"kind": "bigquery#tableDataInsertAllResponse"})(scope, receive, send)
            return
        again = iter(messages)

        async def replay() -> Message:
            return next(again, None) or await receive()

        await self._app(scope, replay, send)


def install() -> None:
    """Let the emulator in this process insert that way."""
    tabledata._recent = collections.OrderedDict()
    tabledata._deduplicate = deduplicate
    app.add_middleware(InsertAll)
