"""The history has what requests and their answers say of events and load files."""

import base64
import json
from typing import Any

import pytest

from tests.history.records import Answer, Insert, Loaded
from tests.support.recorded_requests import answered, fault

PUSH = {"message": {"data": base64.b64encode(b"{}").decode(), "attributes": {"event_id": "e-1"}}, "deliveryAttempt": 2}
ROWS = {
    "rows": [
        {"insertId": "1", "json": {"ingest": {"event_id": "e-1", "archive_uri": "gs://a/raw/1"}, "event_id": "no"}},
        {"insertId": "2", "json": {"event_id": "e-2", "archive_uri": "gs://a/raw/2"}},
    ]
}
INSERT = "/bigquery/v2/projects/p/datasets/d/tables/orders/insertAll"
JOB = "/bigquery/v2/projects/p/jobs/job"


def record(path: str, body: object, status: int, answer: object = None) -> object:
    return answered(path, json.dumps(body).encode(), status, json.dumps(answer).encode())


def test_a_push_has_the_answer_of_its_event() -> None:
    assert record("/", PUSH, 503) == Answer("e-1", 503)
    assert fault("Pub/Sub", "reset", "/", "POST /", json.dumps(PUSH).encode()).events == ["e-1"]


def test_an_insert_has_the_rows_that_bigquery_has_taken() -> None:
    errors = {"insertErrors": [{"index": 0, "errors": [{"reason": "invalid", "location": "a", "message": "b"}]}]}
    taken = [("e-1", "gs://a/raw/1"), ("e-2", "gs://a/raw/2")]
    assert record(INSERT, ROWS, 200, {"kind": "bigquery#tableDataInsertAllResponse"}) == Insert(
        "orders", taken, {}, 200
    )
    assert record(INSERT, ROWS, 200, errors) == Insert("orders", taken[1:], {"e-1": "invalid"}, 200)
    assert record(INSERT, ROWS, 0) == Insert("orders", (), dict.fromkeys(["e-1", "e-2"], "no answer"), 0)


@pytest.mark.parametrize(
    ("status", "is_loaded"),
    [
        ({"state": "DONE"}, True),
        ({"state": "RUNNING"}, False),
        ({"state": "DONE", "errorResult": {"reason": "invalid"}}, False),
    ],
)
def test_a_job_has_loaded_its_files_once_it_is_done(status: dict[str, Any], *, is_loaded: bool) -> None:
    load = {"sourceUris": ["gs://a/load/orders/1"], "destinationTable": {}}
    job = {"jobReference": {"jobId": "job"}, "configuration": {"load": load}, "status": status}
    assert record(JOB, None, 200, job) == (Loaded("job", ["gs://a/load/orders/1"]) if is_loaded else None)
    assert record(JOB, None, 404, {"error": {}}) is None


def test_other_requests_leave_no_record() -> None:
    assert record("/storage/v1/b/a/o/load%2Fledger.json", None, 200, {}) is None
