"""The stand-ins count what the real clients send."""

import gzip
import io
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from benchmarks import stand_in
from benchmarks.stand_in import StandIn
from fake_google.metered import EventIds
from fake_google.service_queue import Capacity, Disturbance
from functions.archive.writer import Archive
from functions.core.dead_letters import DeadLetter, Stage
from functions.core.message import Message
from functions.ingest.http_client import storage_api
from sluice.cost.prices import MIN_ROW_BYTES
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture(scope="module")
def running() -> Iterator[StandIn]:
    with stand_in.running() as cloud:
        yield cloud


@pytest.fixture
def cloud(running: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    running.reset(0, 0)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", running.url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", running.url)
    return running


def insert(table: str, *rows: Mapping[str, object]) -> None:
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    client = bigquery.Client(project="project", credentials=credentials)
    errors = client.insert_rows_json(f"project.events.{table}", rows, row_ids=[str(n) for n, _ in enumerate(rows)])
    assert errors == []


def test_rows_are_counted_by_table_whatever_they_quote(cloud: StandIn) -> None:
    insert("orders", {"id": 1}, {"id": 2, "note": '"insertId": "x"'}, {"id": 3})
    insert("inventory", {"id": 4})
    counts = cloud.counts()
    assert counts.rows == {"orders": 3, "inventory": 1}
    assert counts.inserts == counts.calls == 2


def test_small_rows_are_billed_as_a_kilobyte_and_large_rows_by_size(cloud: StandIn) -> None:
    insert("orders", *({"id": n} for n in range(10)))
    assert cloud.counts().billed_row_bytes == 10 * MIN_ROW_BYTES
    cloud.reset(0, 0)
    insert("orders", {"text": "x" * 10_000})
    assert cloud.counts().billed_row_bytes == pytest.approx(10_000, rel=0.01)


def test_rows_of_a_compressed_request_are_counted(cloud: StandIn) -> None:
    body = json.dumps({"rows": [{"insertId": "1", "json": {}}, {"insertId": "2", "json": {}}]}).encode()
    url = f"{cloud.url}/bigquery/v2/projects/project/datasets/events/tables/orders/insertAll"
    sent = gzip.compress(body)
    assert httpx.post(url, content=sent, headers={"content-encoding": "gzip"}).status_code == 200
    counts = cloud.counts()
    assert counts.rows == {"orders": 2}
    assert counts.insert_bytes == len(sent)


def bucket() -> StorageClient:
    return StorageClient(project="project").bucket("archive")


def test_an_upload_in_one_request_is_an_object(cloud: StandIn) -> None:
    bucket().blob("raw/object").upload_from_string(b"x" * 1000, if_generation_match=0)
    counts = cloud.counts()
    assert counts.uploads == 1
    assert 1000 < counts.upload_bytes < 2000


def test_a_resumable_upload_in_parts_is_one_object(cloud: StandIn) -> None:
    blob = bucket().blob("raw/object", chunk_size=256 * 1024)
    blob.upload_from_file(io.BytesIO(b"x" * 1_000_000), checksum=None)  # whose answer has to have it
    counts = cloud.counts()
    assert counts.uploads == 1
    assert counts.calls >= 5
    assert counts.upload_bytes > 1_000_000


def test_an_answer_takes_as_long_as_was_set(cloud: StandIn) -> None:
    cloud.reset(insert_ms=200, upload_ms=100)
    started = time.perf_counter()
    insert("orders", {"id": 1})
    inserted = time.perf_counter()
    bucket().blob("raw/object").upload_from_string(b"x")
    assert inserted - started >= 0.2
    assert time.perf_counter() - inserted >= 0.1
    assert cloud.in_flight() == 0


@pytest.fixture
def limited(cloud: StandIn) -> StandIn:
    cloud.limit(Capacity(servers=1), Capacity(servers=1))
    return cloud


def test_distinct_rows_and_objects_are_counted_by_id(limited: StandIn) -> None:
    archive = Archive(storage_api(), "archive", {"order"})
    outcomes = [dead_letter(event_id) for event_id in ("a", "b")]
    archive.write("raw/object", outcomes, PATIENCE)
    archive.write("raw/object", outcomes, PATIENCE)
    insert("orders", {"id": 1}, {"id": 2})
    insert("orders", {"id": 1}, {"id": 2}, {"id": 3})
    written = limited.written()
    assert (written.objects, written.distinct_objects, written.archived) == (2, 1, 2)
    assert (written.rows, written.distinct_rows) == (5, 3)
    assert limited.event_ids() == EventIds(rows={"0", "1", "2"}, archived={"a", "b"})


def dead_letter(event_id: str) -> DeadLetter:
    message = Message(
        data=b"{}", attributes={"event_id": event_id}, message_id="1", publish_time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    return DeadLetter(message, Stage.DECODE, [], datetime.now(UTC), "test")


def test_a_request_is_served_though_its_client_has_gone(limited: StandIn) -> None:
    limited.disturb({"BigQuery": Disturbance(is_stalled=True)})
    url = f"{limited.url}/bigquery/v2/projects/project/datasets/events/tables/orders/insertAll"
    body = {"rows": [{"insertId": "1", "json": {}}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=body, timeout=httpx.Timeout(PATIENCE, read=0.1))
    wait_until(lambda: limited.written().queued_inserts == 1, "the request is queued")
    assert limited.written().rows == 0
    limited.disturb({"BigQuery": Disturbance()})
    wait_until(lambda: limited.written().rows == 1, "the row is written")
    assert limited.written().abandoned == 1
