"""The archive as the external table of its page has it, as far as the emulator goes: it reads no external tables."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from google.cloud import bigquery

from functions.archive.envelope import Envelope
from functions.core.message import Message
from sluice.local.stack import Emulators
from tests.support import samples
from tests.support.datasets import Datasets, fresh_datasets

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


def test_the_columns_of_the_external_table_take_the_lines_and_its_query_answers(datasets: Datasets) -> None:
    snippets = samples.archive_snippets()
    name = f"{datasets.client.project}.{datasets.settings.dataset}.archive"
    columns = snippets["bigquery-table"].partition("`PROJECT.DATASET.archive`")[2].partition("WITH PARTITION")[0]
    datasets.client.query_and_wait(f"CREATE TABLE `{name}` {columns}")
    payload = json.dumps(samples.event("order")).encode()
    messages = [
        Message(payload, {"event_id": "a", "producer": "shop"}, "m-1", NOW, ordering_key="k"),
        Message(b"\xff{", {"event_id": "b"}, "m-2", NOW),
        Message(b"{", {}, "m-3", NOW),
    ]
    lines = msgspec.json.Encoder().encode_lines([Envelope.from_message(message, "order") for message in messages])
    config = bigquery.LoadJobConfig(
        source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON, ignore_unknown_values=True
    )
    datasets.client.load_table_from_file(io.BytesIO(lines), name, job_config=config).result()
    partitioned = f"(SELECT *, DATE '2026-11-23' AS dt, '09' AS hr FROM `{name}`)"
    query = snippets["bigquery-query"].replace("`PROJECT.DATASET.archive`", partitioned)
    rows = sorted(tuple(row) for row in datasets.client.query_and_wait(query))
    assert rows == [
        ("a", NOW, "shop", payload, "o-1"),
        ("b", NOW, None, b"\xff{", None),
        ("m-3", NOW, None, b"{", None),
    ]
