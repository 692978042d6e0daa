"""The emulator's records in SQLite, compared with those that it keeps in DuckDB."""

import pathlib
from typing import Any

import pytest
from local_bigquery.catalog import iam, metadata, row_access
from local_bigquery.engine import database
from local_bigquery.jobs import query, store
from local_bigquery.models import Dataset, Job, JobConfigurationQuery, Policy, RowAccessPolicy, Table
from local_bigquery.sql.rules import information_schema

from sluice.local import bigquery_records
from tests.support.engine import engine

PROJECT = "a-project"


def install(patch: pytest.MonkeyPatch) -> None:
    """Keep records in SQLite until the patch ends."""
    for module in (metadata, store, iam, row_access):
        patch.setattr(module, "fetch", module.fetch)
    for module in (metadata, store, iam):
        patch.setattr(module, "execute", module.execute)
    patch.setattr(information_schema, "JOBS", information_schema.JOBS)
    bigquery_records.install()


def job(name: str, state: str, parent: str | None = None, created: int = 1) -> Job:
    return Job(
        jobReference={"projectId": PROJECT, "jobId": name},
        status={"state": state},
        statistics={"parentJobId": parent, "creationTime": str(created)},
        configuration={"jobType": "QUERY", "query": {"query": f"SELECT '{name}'"}},
    )


def jobs_of_information_schema() -> list[Any]:
    with database.cursor() as cursor:
        sql = "SELECT job_id, state, query FROM `region-us`.INFORMATION_SCHEMA.JOBS ORDER BY job_id"
        config = JobConfigurationQuery(query=sql, writeDisposition="WRITE_TRUNCATE")
        query.execute(cursor, PROJECT, "result", config)
        return list(cursor.execute(f"FROM emulator._results.{database.quote(f'{PROJECT}:result')}").fetchall())


def answers() -> list[Any]:
    """Everything that is found after some changes."""
    collected: list[Any] = []
    query.run_ddl(PROJECT, "CREATE SCHEMA d")
    for name in ("a", "b"):
        metadata.save(Table(description=name), PROJECT, "d", name)
    metadata.save(Table(description="new"), PROJECT, "d", "b")
    metadata.save(RowAccessPolicy(filterPredicate="TRUE"), PROJECT, "d", "a", "p")
    collected += [
        row_access.secured(),
        metadata.list_(Table, PROJECT, "d"),
        metadata.load(Dataset, PROJECT, "d") is None,
    ]
    iam.set_(f"projects/{PROJECT}/datasets/d/tables/a", Policy(bindings=[]))
    collected.append(database.fetch("SELECT 1"))
    metadata.delete(Table, PROJECT, "d", "a")
    collected += [metadata.load(Table, PROJECT, "d", "a"), iam.fetch("SELECT * FROM emulator.iam_policies")]
    store.save(job("one", "PENDING", created=5))
    store.save(job("two", "DONE", created=7))
    store.save(job("part", "DONE", parent="one"))
    store.save(job("one", "RUNNING", created=5))
    collected += [jobs_of_information_schema(), store.load(PROJECT, "one"), store.load(PROJECT, "none")]
    collected += [
        store.list_(PROJECT),
        store.list_(PROJECT, ["DONE", "PENDING"]),
        store.list_(PROJECT, parent_job_id="one"),
    ]
    collected += [store.list_(PROJECT, min_creation_time=6), store.list_(PROJECT, max_creation_time=6)]
    store.delete(PROJECT, "one")
    return [*collected, store.list_(PROJECT), jobs_of_information_schema()]


def test_records_are_the_same_as_in_duckdb(tmp_path: pathlib.Path) -> None:
    with engine(tmp_path / "duckdb", PROJECT):
        expected = answers()
    with engine(tmp_path / "sqlite", PROJECT) as patch:
        install(patch)
        assert str(answers()) == str(expected)
        [file] = (tmp_path / "sqlite").rglob("*.sqlite")
        another_process = bigquery_records._connection.__wrapped__(str(file))
        assert len(another_process.execute("SELECT * FROM emulator.jobs").fetchall()) == 1
