"""The catalog of one table agrees with what the emulator itself lists for all tables."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlglot
from local_bigquery.catalog import tables
from local_bigquery.engine import database, results
from local_bigquery.errors import BigQueryError
from local_bigquery.jobs import query
from local_bigquery.models import JobConfigurationQuery
from local_bigquery.sql.rules import partitions
from sqlglot import exp

from sluice.local import bigquery_catalog
from tests.support.engine import engine

PROJECT = "a-project"
STATEMENTS = [
    "CREATE SCHEMA one",
    "CREATE SCHEMA two",
    "CREATE TABLE one.plain (id INT64 NOT NULL, note STRING, part STRUCT<id INT64, name STRING>, list ARRAY<INT64>)",
    "CREATE TABLE two.plain (other STRING)",
    "CREATE TABLE one.by_arrival (id INT64) PARTITION BY _PARTITIONDATE",
    "CREATE VIEW one.shown AS SELECT id, part.name FROM one.plain",
    "INSERT INTO one.plain (id, note) SELECT x, 'note' FROM UNNEST(GENERATE_ARRAY(1, 100)) AS x",
    "DELETE FROM one.plain WHERE id > 70",
    "UPDATE one.plain SET note = 'other' WHERE id > 40",
    "ALTER TABLE one.plain ALTER COLUMN id DROP NOT NULL",
    "ALTER TABLE one.plain ADD COLUMN more STRING",
    "ALTER TABLE one.plain DROP COLUMN note",
    "CREATE OR REPLACE VIEW one.shown AS SELECT id FROM one.plain",
    "CREATE OR REPLACE VIEW one.shown AS SELECT * FROM one.plain",
    "CREATE TABLE one.dropped_table (id INT64)",
    "DROP VIEW one.shown",
    "ALTER TABLE one.plain RENAME TO renamed",
    "CREATE OR REPLACE TABLE two.plain (id INT64 NOT NULL)",
    "CREATE TABLE two.copied AS SELECT * FROM one.by_arrival",
    "DROP TABLE two.plain",
    "DROP SCHEMA two CASCADE",
    "CREATE SCHEMA two",
]


@pytest.fixture(scope="module", autouse=True)
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The emulator's engine in this process, with its own catalog."""
    with engine(tmp_path_factory.mktemp("catalog"), PROJECT):
        yield


def compare(project: str, dataset: str) -> None:
    listed = bigquery_catalog.objects(project, dataset)
    assert listed == database.objects(project, dataset)
    for name, kind, rows in listed:
        assert bigquery_catalog.objects(project, dataset, name) == [(name, kind, rows)]
        assert bigquery_catalog.columns(project, dataset, name) == tables.columns(project, dataset, name)
        table = exp.table_(name, dataset, project, quoted=True)
        assert bigquery_catalog.hidden(table) == partitions._hidden(table)
    assert bigquery_catalog.objects(project, dataset, "none") == database.objects(project, dataset, "none") == []


def test_after_each_statement_it_says_the_same_as_the_emulator() -> None:
    for statement in STATEMENTS:
        query.run_ddl(PROJECT, statement)
        for dataset in ("one", "two"):
            compare(PROJECT, dataset)
    compare(PROJECT, "none")
    compare("no-project", "one")


def test_query_results_are_listed() -> None:
    place = ("emulator", tables.RESULTS, f"{PROJECT}:a-job")
    database.execute(f"CREATE TABLE {database.quote(*place)} AS SELECT x AS {tables.INGESTION_TIME} FROM range(7) r(x)")
    assert bigquery_catalog.objects(*place) == database.objects(*place) == [(place[-1], "TABLE", 7)]
    assert bigquery_catalog.objects(*place[:2], "none") == database.objects(*place[:2], "none") == []
    result = PROJECT, tables.RESULTS, "a-job"
    assert bigquery_catalog.columns(*result) == tables.columns(*result)


def test_columns_of_a_missing_table_raise_an_error() -> None:
    for find in (bigquery_catalog.columns, tables.columns):
        with pytest.raises(BigQueryError, match=f"Not found: Table {PROJECT}:one.none"):
            find(PROJECT, "one", "none")


def test_new_query_results_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also under names that need quotes; that of a result is its job's."""
    monkeypatch.setattr(results, "materialise", bigquery_catalog.materialise)
    for job in ("new", 'odd "name".x'):
        place = ("emulator", tables.RESULTS, f"{PROJECT}:{job}")
        assert bigquery_catalog.objects(*place) == []
        with database.cursor() as cursor:
            query.execute(cursor, PROJECT, job, JobConfigurationQuery(query="SELECT 1 AS x"))
        assert bigquery_catalog.objects(*place) == [(place[-1], "TABLE", 1)]
        database.execute(f"DROP TABLE {database.quote(*place)}")
        assert bigquery_catalog.objects(*place) == []


def test_the_columns_of_a_query_are_found_without_running_it() -> None:
    """The emulator asks for them twice before it writes the rows, and its own way runs a query with parameters."""
    text = "SELECT $word AS a, nextval('runs') AS a, [{'b': $word}] -- a comment"
    with database.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY SEQUENCE runs")
        described = bigquery_catalog.DescribedQuery(cursor, text).sql(text, params={"word": "x"})
        assert cursor.execute("SELECT nextval('runs')").fetchall() == [(1,)]
        relation = cursor.sql(text, params={"word": "x"})
    assert (described.columns, described.types) == (relation.columns, relation.types)


def test_answers_of_threads_agree_with_the_last_commit() -> None:
    """Each thread has statements of its own."""
    query.run_ddl(PROJECT, "CREATE SCHEMA three")
    with ThreadPoolExecutor(4) as pool:
        for number in range(5):
            query.run_ddl(PROJECT, f"CREATE OR REPLACE TABLE three.t (c{number} INT64)")
            query.run_ddl(PROJECT, "INSERT INTO three.t VALUES (1)")
            answers = list(pool.map(lambda _: bigquery_catalog.columns(PROJECT, "three", "t"), range(8)))
            assert [[field.name for field in fields] for fields in answers] == [[f"c{number}"]] * 8
            rows = list(pool.map(lambda _: bigquery_catalog.objects(PROJECT, "three", "t"), range(8)))
            assert rows == [[("t", "TABLE", 1)]] * 8


@pytest.mark.parametrize("option", ["'text'", "'it\\'s \\n 1'", '"""long"""', "7", "TRUE", "CONCAT('a', 'b')"])
def test_options_have_the_same_values(option: str) -> None:
    node = sqlglot.parse_one(option, dialect="bigquery")
    with database.cursor() as cursor:
        assert bigquery_catalog.evaluator(cursor)(node) == query._evaluator(cursor)(node)
