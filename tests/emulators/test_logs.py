"""No log line has anything of a payload, an attribute or an address, whatever happens to the event."""

import base64
import json
import pathlib
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from fake_google import scripted
from fake_google.answers import Answer
from functions.clients import bigquery_client, storage_client
from functions.events import event_types
from sluice.local.functions import serving, unpacked
from sluice.local.stack import Stack
from sluice.verify.check import Outcome
from sluice.verify.checks import CHECKS
from sluice.verify.project import Project
from tests.support import cloud_logging, samples
from tests.support.broken_tables import away, other_type
from tests.support.deployed_stack import Deploy
from tests.support.push_requests import NOW, event, wrapped
from tests.support.waiting import PATIENCE, wait_until

CANARY = "canary"
ADDRESS = "203.0.113.77"


@pytest.fixture(scope="module")
def quiet(deploy: Deploy) -> Iterator[Stack]:
    """Functions that log all they have to say."""
    with deploy("quiet", LOG_LEVEL="DEBUG") as stack:
        yield stack


def marked(value: Any) -> Any:
    """The value with a canary in every text that may be any text."""
    match value:
        case dict():
            return {name: marked(item) for name, item in value.items()}
        case list():
            return [marked(item) for item in value]
        case str() if value not in {"ip_address", "event_type"}:
            return f"{CANARY} {value}"
        case _:
            return value


def events() -> Iterator[bytes]:
    """Good and bad ones, of each type and stage, all with canaries."""
    for name, event_type in event_types().items():
        event = samples.event(name) if name in samples.EVENTS else samples.samples(name)[0]
        good = {**event, event_type.time_field: NOW.isoformat(), "unknown": {CANARY: CANARY}, "ip_address": ADDRESS}
        yield json.dumps(good).encode()
        yield json.dumps({**good, event_type.time_field: "1999-01-01T00:00:00Z"}).encode()
        yield json.dumps({**good, event_type.time_field: f"{CANARY} yesterday"}).encode()
        yield json.dumps(marked(event)).encode()
        yield json.dumps({**marked(event), "event_type": name}).encode()
        yield json.dumps({CANARY: good}).encode()
    yield f'{{"{CANARY}": "{ADDRESS}'.encode()
    yield f"{CANARY} {ADDRESS} \xff".encode("latin-1")
    yield json.dumps(CANARY).encode()


def push(stack: Stack, payload: bytes, **message: Any) -> int:
    attributes = {"event_id": str(uuid.uuid4()), "who": f"{CANARY} {ADDRESS}", "schema_version": "1"}
    body = {
        "data": base64.b64encode(payload).decode(),
        "messageId": str(uuid.uuid4()),
        "publishTime": NOW.isoformat(),
        "attributes": attributes,
        **message,
    }
    answer = httpx.post(stack.ingest.url, json={"message": body}, timeout=PATIENCE)
    assert CANARY not in answer.text
    return answer.status_code


@pytest.mark.check
def test_no_log_line_contains_the_content_of_an_event(quiet: Stack) -> None:
    client, dataset = bigquery_client(quiet.settings), quiet.settings.dataset
    sent = list(events())
    assert {push(quiet, payload) for payload in sent} == {204}
    assert push(quiet, sent[0], attributes={"event_id": "e", "schema_version": CANARY}) == 204
    with other_type(client, f"{dataset}.orders"), other_type(client, f"{dataset}.user_activity"):
        assert {push(quiet, payload) for payload in sent} == {204}
    with away(client, f"{dataset}.orders"), away(client, f"{dataset}.dead_letters"):
        assert {push(quiet, payload) for payload in sent} >= {204, 503}
    assert push(quiet, sent[0], publishTime=f"{CANARY} {ADDRESS}") == 400
    assert push(quiet, sent[0], data=f"{CANARY} {ADDRESS}") == 400
    assert push(quiet, sent[0], attributes=[CANARY, ADDRESS]) == 400
    stored = client.query_and_wait(f"SELECT COUNT(*) AS n FROM {dataset}.dead_letters WHERE stage = 'warehouse'")
    assert next(iter(stored)).n > 0
    log = quiet.ingest.child.log.read_text()
    assert '"flush"' in log
    assert '"failed":' in log
    assert CANARY not in log
    assert ADDRESS not in log


def quoting(status: int, reason: str, *, rows: bool = False) -> Callable[[str, dict[str, Any]], Answer]:
    """A fake of BigQuery whose rejections, of a request or of its rows, repeat what it was sent."""

    def answer(_: str, body: dict[str, Any]) -> Answer:
        message = f"Could not convert value: {json.dumps(body)}"
        errors = [{"reason": reason, "message": message, "location": "total_amount"}]
        if rows:
            return 200, {"insertErrors": [{"index": index, "errors": errors} for index in range(len(body["rows"]))]}
        return status, {"error": {"code": status, "message": message, "errors": errors}}

    return answer


@pytest.mark.check
@pytest.mark.parametrize(
    ("rejection", "message"),
    [
        (quoting(400, "invalid"), "BadRequest: 400 invalid"),
        (quoting(413, "uploadTooLarge"), "dead_letters rejected a row"),
        (quoting(403, "accessDenied"), "Forbidden: 403 accessDenied"),
        (quoting(404, "notFound"), "NotFound: 404 notFound"),
        (quoting(500, "internalError"), "InternalServerError: 500 internalError"),
        (quoting(503, "backendError"), "ServiceUnavailable: 503 backendError"),
        (quoting(200, "invalid", rows=True), "dead_letters rejected a row: $.total_amount invalid"),
        (quoting(200, "stopped", rows=True), "orders: stopped"),
        (quoting(200, "timeout", rows=True), "orders: timeout"),
    ],
)
def test_no_log_line_contains_values_quoted_by_bigquery(
    rejection: Callable[[str, dict[str, Any]], Answer], message: str, tmp_path: pathlib.Path
) -> None:
    with scripted.running() as google:
        google.on_insert = rejection
        environment = {
            "BIGQUERY_EMULATOR_HOST": google.url,
            "STORAGE_EMULATOR_HOST": google.url,
            "ARCHIVE_BUCKET": "archive",
            "GOOGLE_CLOUD_PROJECT": "project",
            "FLUSH_TIMEOUT": "2",
            "LOG_LEVEL": "DEBUG",
        }
        with serving("ingest", tmp_path, environment, "quoted") as function:
            event = {**samples.event("order"), "order_date": NOW.isoformat(), "note": f"{CANARY} {ADDRESS}"}
            body = {
                "data": base64.b64encode(json.dumps(event).encode()).decode(),
                "messageId": "m-1",
                "publishTime": NOW.isoformat(),
                "attributes": {"event_id": "e-1"},
            }
            answer = httpx.post(function.url, json={"message": body}, timeout=PATIENCE)
            function.child.wait_until(lambda: '"flush"' in function.child.log.read_text())
            log = function.child.log.read_text()
    assert answer.status_code == 503
    assert message in log
    assert CANARY not in log + answer.text
    assert ADDRESS not in log + answer.text


def test_unexpected_error_is_logged_without_the_event(tmp_path: pathlib.Path) -> None:
    code = unpacked(tmp_path / "code")
    app, right = code / "functions" / "ingest" / "stages.py", "await commit(message)"
    text = app.read_text()
    assert text.count(right) == 1
    app.write_text(text.replace(right, "raise ValueError(message)"))
    environment = {"ARCHIVE_BUCKET": "archive", "GOOGLE_CLOUD_PROJECT": "project", "LOG_LEVEL": "DEBUG"}
    nowhere = dict.fromkeys(("BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"), "http://127.0.0.1:1")
    with serving("ingest", tmp_path, environment | nowhere, "unforeseen", code=code) as function:
        attributes = {"event_id": CANARY}
        body = {"data": "e30=", "messageId": "m-1", "publishTime": NOW.isoformat(), "attributes": attributes}
        answer = httpx.post(function.url, json={"message": body}, timeout=PATIENCE)
        function.child.wait_until(lambda: "ValueError" in function.child.log.read_text())
        log = function.child.log.read_text()
    assert answer.status_code == 500
    assert "stages.py" in log
    assert CANARY not in log + answer.text


PLATFORM = [
    {},
    {"LOG_EXECUTION_ID": "false"},
    {"LOG_EXECUTION_ID": ""},
    {"FUNCTION_SIGNATURE_TYPE": "cloudevent"},
]
"""Variables that differ from the platform's; `gcloud functions deploy --trigger-topic` sets the last one."""

CLOUD_EVENT = {
    "ce-id": "1",
    "ce-specversion": "1.0",
    "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
    "ce-source": "//pubsub.googleapis.com/projects/project/topics/events",
}


@pytest.mark.check
@pytest.mark.parametrize("variables", PLATFORM, ids=str)
@pytest.mark.parametrize(
    ("target", "message"), [("ingest", "flush"), ("bootstrap", "bootstrap"), ("reconcile", "reconciliation")]
)
def test_each_function_answers_and_logs_whatever_the_platform_sets(
    quiet: Stack, tmp_path: pathlib.Path, target: str, message: str, variables: dict[str, str]
) -> None:
    """functions-framework configures logging anew where `LOG_EXECUTION_ID` is true, as Cloud Functions sets it.

    With a trigger, Eventarc sends the push as a CloudEvent in binary mode.
    """
    body = wrapped(event("order"), str(uuid.uuid4())) if target == "ingest" else None
    headers = {"function-execution-id": "abc"}
    if variables.get("FUNCTION_SIGNATURE_TYPE") == "cloudevent":
        headers |= CLOUD_EVENT
    with serving(target, tmp_path, {**quiet.environment, **variables}, target) as function:
        answer = httpx.post(function.url, json=body, headers=headers, timeout=PATIENCE)
        assert answer.is_success, answer.text

        def entries() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in function.child.log.read_text().splitlines() if line.startswith("{")]
            return [line for line in lines if line["message"].startswith(message)]

        wait_until(lambda: bool(entries()), "the function logs", function.child.tail)
    # A flush is of many requests.
    expected = None if message == "flush" else "abc"
    assert {entry["logging.googleapis.com/labels"].get("execution_id") for entry in entries()} == {expected}
    assert {entry["severity"] for entry in entries()} <= {"INFO", "ERROR"}


class Logged(Project):
    """A deployment of which there is nothing but the lines of its functions."""

    def __init__(self, logs: dict[str, pathlib.Path]) -> None:
        self.logs = logs

    engine = "functions"

    def service(self, function: str) -> dict[str, Any]:
        return {"name": function}

    def lines(self, log_filter: str, since: timedelta, most: int = 1) -> list[dict[str, Any]]:
        lines = [(line, name) for name, log in self.logs.items() for line in log.read_text().splitlines()]
        entries = [dict(cloud_logging.entry(line, name)) for line, name in lines if line.startswith("{")]
        newest = sorted(entries, key=lambda entry: str(entry["timestamp"]), reverse=True)
        return [entry for entry in newest if cloud_logging.matches(log_filter, entry)][:most]


def test_sluice_verify_reads_the_log_lines_of_the_functions(quiet: Stack, tmp_path: pathlib.Path) -> None:
    checks = {check.title: check for check in CHECKS}
    with (
        serving("ingest", tmp_path, quiet.environment, "ingest") as ingest,
        serving("reconcile", tmp_path, quiet.environment, "reconcile") as reconcile,
    ):
        body = wrapped(event("order"), str(uuid.uuid4()))
        assert httpx.post(ingest.url, json=body, timeout=PATIENCE).is_success
        for checkpoint in storage_client(quiet.settings).list_blobs(
            quiet.settings.archive_bucket, prefix="reconciled/"
        ):
            checkpoint.delete()  # so that there is something to compare
        assert httpx.post(reconcile.url, timeout=PATIENCE).is_success
        project = Logged({"ingest": ingest.child.log, "reconcile": reconcile.child.log})
        for title in ("ingest logs its flushes", "The last reconciliation found no missing event"):
            finding = checks[title].run(project, 0, sleep=lambda _: None)
            assert finding.outcome == Outcome.OK, finding
