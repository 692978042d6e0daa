"""The BigQuery emulator's own records in SQLite: metadata of datasets and tables, policies and jobs.

The emulator keeps them in DuckDB, which takes milliseconds to save or find one row; each query does that ten times.
"""

import functools
import json
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any

from local_bigquery.catalog import iam, metadata, row_access
from local_bigquery.engine import database
from local_bigquery.jobs import store
from local_bigquery.settings import settings
from local_bigquery.sql.rules import information_schema

_FILE = "records.sqlite"

_COPY_JOBS = """
CREATE OR REPLACE TABLE emulator.main.jobs AS
SELECT
  job[1] AS project_id, job[2] AS job_id, job[3] AS parent_job_id, job[4] AS state,
  CAST(job[5] AS BIGINT) AS creation_time, CAST(job[6] AS JSON) AS resource
FROM (SELECT unnest(from_json($jobs, '[["VARCHAR"]]')) AS job)
"""

_lock = threading.Lock()
_copy_lock = threading.Lock()
_jobs_query = information_schema.JOBS


@functools.cache
def _connection(file: str) -> sqlite3.Connection:
    """Open a database; every thread uses the same connection, under the lock.

    A write is in the file when it returns, so it outlives the process; only a crash of the machine can lose it.
    """
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    connection.create_function("starts_with", 2, str.startswith, deterministic=True)
    connection.create_function("list_contains", 2, _list_contains, deterministic=True)
    connection.execute("ATTACH ? AS emulator", [file])
    connection.execute("PRAGMA emulator.journal_mode = WAL")
    connection.execute("PRAGMA emulator.synchronous = OFF")
    for statement in database.EMULATOR_SCHEMA.split(";"):
        if "CREATE TABLE" in statement:
            connection.execute(statement)
    return connection


def _list_contains(values: str, value: str) -> bool:
    return value in json.loads(values)


def fetch(sql: str, params: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    """Return the rows of a query of the emulator's records."""
    values = [json.dumps(value) if isinstance(value, list) else value for value in params or ()]
    with _lock:
        return _connection(str(settings.data_dir / _FILE)).execute(sql, values).fetchall()


def execute(sql: str, params: Sequence[Any] | None = None) -> None:
    """Change the emulator's records."""
    fetch(sql, params)


class _JobsQuery:
    """The query behind INFORMATION_SCHEMA.JOBS, which reads a table of DuckDB."""

    def format(self, **values: str) -> str:
        """Return the query for a project, after copying all jobs to its table."""
        with _copy_lock:
            jobs = fetch("SELECT project_id, job_id, parent_job_id, state, creation_time, resource FROM emulator.jobs")
            with database.cursor() as cursor:
                cursor.execute(_COPY_JOBS, {"jobs": json.dumps(jobs)})
        query: str = _jobs_query.format(**values)
        return query


def install() -> None:
    """Let the emulator in this process keep its records there."""
    information_schema.JOBS = _JobsQuery()
    for module in (metadata, store, iam):
        module.fetch = fetch
        module.execute = execute
    row_access.fetch = fetch
