"""The product's own clients see each fault; behind the proxy is a server that accepts everything."""

import dataclasses
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fake_google import scripted
from fake_google.scripted import Cloud
from functions.archive import layout
from functions.archive.writer import Archive
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.ingest.http_client import bigquery_api, storage_api
from functions.ingest.warehouse import InsertResult, InsertRow, Warehouse
from functions.settings import Settings
from tests.history.records import Fault as RecordedFault
from tests.history.records import Insert, Recorder, Upload, read_records
from tests.support import fault_proxy as faults
from tests.support.background import event_loop
from tests.support.fault_proxy import BIGQUERY, STORAGE, Fault, Proxy, Rule, insert, upload
from tests.support.samples import NOW, event, message
from tests.support.waiting import FACTOR, wait_until

ROWS = [InsertRow(f"e-{index}", {"n": index}) for index in range(4)]
SETTINGS = Settings(archive_bucket="archive", google_cloud_project="project")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with scripted.running() as running:
        yield running


@pytest.fixture
def proxy(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    proxy = Proxy({BIGQUERY: [cloud.url], STORAGE: [cloud.url]}, seed=7)
    with event_loop() as run:
        run(proxy.__aenter__())
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", proxy.url(BIGQUERY))
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url(STORAGE))
        yield proxy
        run(proxy.__aexit__())


def insert_rows(timeout: float = 3.0 * FACTOR) -> InsertResult:
    return Warehouse(bigquery_api(), "project", "events").insert("orders", ROWS, timeout)


BEFORE = [
    faults.status(500, "backendError"),
    faults.status(503, "backendError"),
    faults.status(403, "rateLimitExceeded"),
]
BEFORE += [faults.silence(), faults.reset()]
AFTER = [faults.status(503, "backendError", after=True), faults.silence(after=True), faults.reset(after=True)]
AFTER += [faults.half_written(), faults.slow()]


@pytest.mark.parametrize("fault", [*BEFORE, *AFTER], ids=lambda fault: fault.name)
def test_insert_is_retried_and_arrives_twice_after_a_lost_response(cloud: Cloud, proxy: Proxy, fault: Fault) -> None:
    with proxy.breaking(insert(fault, times=1)):
        assert insert_rows() == InsertResult({}, {})
        wait_until(lambda: len(cloud.inserts) == (2 if fault in AFTER else 1), "what comes late has come")
    ids = [row["insertId"] for _, rows in cloud.inserts for row in rows]
    assert len(ids) == len(set(ids)) == (8 if fault in AFTER else 4)
    assert dict(proxy.counts.faults) == {f"BigQuery: {fault.name}": 1}
    assert (proxy.counts.repeated, proxy.counts.requests[BIGQUERY]) == (1, 2)


@pytest.mark.parametrize(
    "fault", [faults.status(503, "backendError", after=True), faults.half_written()], ids=lambda fault: fault.name
)
def test_upload_retried_after_a_lost_response_is_the_same_object(cloud: Cloud, proxy: Proxy, fault: Fault) -> None:
    outcome = EventPipeline.from_settings(SETTINGS)(message(event("order")), NOW)
    assert isinstance(outcome, Row)
    archive = Archive(storage_api(), "archive", {"order"})
    with proxy.breaking(upload(fault, times=1)):
        archive.write("raw/one", [outcome], timeout=3.0 * FACTOR)
    assert (cloud.calls, list(cloud.objects)) == (["upload", "upload"], ["raw/one"])
    assert (proxy.counts.repeated, proxy.counts.faults.total()) == (1, 1)


def test_row_errors_have_positions_and_the_others_are_inserted(cloud: Cloud, proxy: Proxy) -> None:
    with proxy.breaking(insert(faults.row_errors("invalid", 0.5), times=1)):
        assert set(insert_rows().rejected) == {0, 1}
    with proxy.breaking(insert(faults.row_errors("stopped", 1.0), times=2)):
        assert insert_rows() == InsertResult({}, {})
    assert [row["n"] for row in cloud.rows("orders")] == [2, 3, 0, 1, 2, 3]


def test_the_history_has_what_has_reached_the_services(cloud: Cloud, proxy: Proxy, tmp_path: pathlib.Path) -> None:
    proxy.recorder = Recorder(tmp_path / "history.ndjson", "a test")
    outcome = EventPipeline.from_settings(SETTINGS)(message(event("order")), NOW)
    name = layout.object_name(NOW, "0" * 12, 1)
    uri = layout.address("archive", name)
    ids = ["e-1", "e-2", "e-3"]
    rows = [InsertRow(event_id, {"ingest": {"event_id": event_id, "archive_uri": uri}}) for event_id in ids]
    with proxy.breaking(upload(faults.reset(), times=1), insert(faults.row_errors("invalid", 0.5), times=1)):
        Archive(storage_api(), "archive", {"order"}).write(name, [outcome], timeout=3.0 * FACTOR)
        Warehouse(bigquery_api(), "project", "events").insert("orders", rows, 3.0 * FACTOR)
    _, reset, uploaded, invalid, inserted = read_records(proxy.recorder.file)
    assert isinstance(reset, RecordedFault)
    assert (reset.fault, reset.events) == ("connection reset", ["e-1"])
    assert uploaded == Upload(uri, {"e-1": ""}, 200, at=uploaded.at)
    assert isinstance(invalid, RecordedFault)
    assert (invalid.service, invalid.events) == (BIGQUERY, ids)
    assert inserted == Insert("orders", [("e-3", uri)], {}, 200, at=inserted.at)


def test_fault_applies_to_matching_requests_by_count_or_share() -> None:
    def hits(**which: Any) -> int:
        rule = insert(faults.reset(), "orders", **which)
        draw = Proxy({}, seed=3)._draw
        lines = ["POST /bigquery/v2/projects/p/datasets/d/tables/orders/insertAll"] * 1000
        lines += ["POST /bigquery/v2/projects/p/datasets/d/tables/inventory/insertAll", "GET /tables/orders"]
        for line in lines:
            rule.befalls(BIGQUERY, line, draw)
        assert not rule.befalls(STORAGE, lines[0], draw)
        return rule.hits

    assert (hits(times=3), hits()) == (3, 1000)
    assert hits(share=0.03) == hits(share=0.03)
    assert 15 < hits(share=0.03) < 50
    assert dataclasses.asdict(Rule(faults.reset(), BIGQUERY))["hits"] == 0


def test_held_request_is_signalled_and_a_lost_server_disconnects(cloud: Cloud, proxy: Proxy) -> None:
    reached = threading.Event()
    with proxy.breaking(insert(faults.silence(after=True, reached=reached), times=1)):
        insert_rows()
    assert reached.is_set()
    proxy.upstreams = {BIGQUERY: []}
    with pytest.raises(Exception, match="Connection"):
        insert_rows(0.5)
    assert proxy.counts.lost[BIGQUERY] >= 1
