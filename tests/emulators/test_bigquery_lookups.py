"""Rows of the local BigQuery are found by equality, whatever the value."""

import itertools
import uuid
from collections.abc import Iterator

import pytest
from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter, QueryJobConfig, ScalarQueryParameter

from functions.clients import bigquery_client
from functions.settings import Settings
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators

EMOJI = "\N{GRINNING FACE}" * 128
NUL = "nul\0 and more"
VALUES = ["aaa", EMOJI, NUL, "it's", "plain", 'a "quoted" \\ one']
CONDITIONS = [
    "{column} = @value",
    "{column} IN UNNEST(@values)",
    "{column} IN (SELECT value FROM UNNEST(@values) AS value)",
    "{column} IN (SELECT {column} FROM `{table}` WHERE {column} = @value)",
    "{column} BETWEEN @value AND @value",
]


@pytest.fixture(scope="module")
def client(running_emulators: Emulators) -> Iterator[bigquery.Client]:
    settings = Settings.from_environment({"ARCHIVE_BUCKET": "archive", "GOOGLE_CLOUD_PROJECT": PROJECT})
    with bigquery_client(settings) as client:
        yield client


def tables(client: bigquery.Client) -> Iterator[str]:
    """Tables with all values, inserted in different orders, each by a request of its own."""
    dataset = client.create_dataset(f"lookups_{uuid.uuid4().hex}")
    for number, order in enumerate([VALUES, VALUES[::-1], sorted(VALUES, key=len)]):
        table = f"{PROJECT}.{dataset.dataset_id}.t{number}"
        client.query_and_wait(f"CREATE TABLE `{table}` (id STRING, ingest STRUCT<event_id STRING>)")
        for value in order:
            assert client.insert_rows_json(table, [{"id": value, "ingest": {"event_id": value}}], row_ids=[None]) == []
        yield table


def test_lookup_returns_a_row_for_any_value_and_neighbours(client: bigquery.Client) -> None:
    missed = []
    for table in tables(client):
        for column, condition, value in itertools.product(["id", "ingest.event_id"], CONDITIONS, VALUES):
            where = condition.format(column=column, table=table)
            values = [ScalarQueryParameter("value", "STRING", value), ArrayQueryParameter("values", "STRING", [value])]
            config = QueryJobConfig(query_parameters=values)
            rows = client.query_and_wait(f"SELECT id FROM `{table}` WHERE {where}", job_config=config)
            missed += [(table, where, value)] if [row.id for row in rows] != [value] else []
    assert missed == []


def test_rows_of_any_value_are_joined(client: bigquery.Client) -> None:
    for table in tables(client):
        for column in ("id", "ingest.event_id"):
            sql = f"SELECT a.id FROM `{table}` AS a JOIN `{table}` AS b ON a.{column} = b.{column}"
            assert sorted(row.id for row in client.query_and_wait(sql)) == sorted(VALUES)
