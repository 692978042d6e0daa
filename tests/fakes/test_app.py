"""The HTTP application of `ingest`, built as `main.py` builds it: what is answered, and what is logged."""

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from fake_google.answers import error
from fake_google.scripted import Cloud
from functions.ingest.app import IngestApp
from tests.support.push_requests import event, wrapped
from tests.support.settings import settings
from tests.support.waiting import until

_TRACE = "105445aa7843bc8bf206b12000100000"
_HEADERS = [(b"x-cloud-trace-context", f"{_TRACE}/1;o=1".encode())]


def body(event_type: str = "order", **changes: Any) -> bytes:
    return json.dumps(wrapped(event(event_type, **changes), "e-1")).encode()


async def post(app: IngestApp, *chunks: bytes, aborted: bool = False) -> Response:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if aborted else {"type": "http.request"})
    arriving = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(arriving)

    return await app(Request({"type": "http", "method": "POST", "headers": _HEADERS}, receive))


def reason(response: Response) -> str:
    text: str = json.loads(bytes(response.body))["error"]
    return text


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[tuple[str, object]]:
    """Messages and traces of the application's lines."""
    records = [record for record in caplog.records if record.name == "functions.main"]
    return [(record.getMessage(), record.__dict__["trace"]) for record in records if record.levelno == level]


async def test_a_durable_event_is_answered_with_204(cloud: Cloud) -> None:
    app = IngestApp.build(settings(dataset="shop", ip_policy="hash", ip_hash_key="k" * 16, code_version="v7"))
    whole = body("user_activity", ip_address="203.0.113.7")
    response = await post(app, whole[:100], whole[100:])
    assert (response.status_code, bytes(response.body)) == (204, b"")
    [metadata] = cloud.metadata.values()
    assert metadata["user_activity"] == "1"
    [row] = cloud.rows("user_activity")
    assert (len(row["ip_address"]), row["ingest"]["code_version"]) == (64, "v7")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_get_answers_what_it_is_without_a_call(cloud: Cloud, method: str) -> None:
    app = IngestApp.build(settings(code_version="v7", max_in_flight=1))
    response = await app(Request({"type": "http", "method": method, "headers": []}))
    assert (response.status_code, response.media_type) == (200, "text/plain")
    assert bytes(response.body) == b"Sluice ingest, code version v7, takes messages by POST\n"
    assert cloud.calls == []


async def test_rows_and_objects_go_where_the_settings_say(cloud: Cloud) -> None:
    app = IngestApp.build(settings(archive_bucket="raw-events", google_cloud_project="shop-project", dataset="shop"))
    await post(app, body())
    upload, insert = cloud.posted
    assert "/b/raw-events/o?" in upload
    assert insert.startswith("/bigquery/v2/projects/shop-project/datasets/shop/tables/orders/insertAll")


async def test_an_event_older_than_the_retention_is_a_dead_letter(cloud: Cloud) -> None:
    response = await post(IngestApp.build(settings(retention_days=30)), body(order_date="2020-01-01T00:00:00Z"))
    assert (response.status_code, len(cloud.rows("dead_letters"))) == (204, 1)


async def test_what_is_no_message_is_400(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    response = await post(IngestApp.build(settings()), b"hello")
    assert response.status_code == 400
    assert lines(caplog, logging.WARNING) == [(reason(response), f"projects/project/traces/{_TRACE}")]
    assert cloud.calls == []


async def test_overload_is_429(cloud: Cloud) -> None:
    app = IngestApp.build(settings(max_in_flight=1))
    cloud.latency = 0.2
    first = asyncio.create_task(post(app, body()))
    await until(lambda: app.commit.admission.events == 1)
    second = await post(app, body())
    assert second.status_code == 429
    assert "in flight" in reason(second)
    assert (await first).status_code == 204


async def test_what_could_not_be_written_is_503(cloud: Cloud) -> None:
    cloud.on_insert = lambda *_: error(404, "notFound")
    response = await post(IngestApp.build(settings()), body())
    assert response.status_code == 503
    assert "orders" in reason(response)


async def test_a_defect_is_500_and_does_not_quote_the_event(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = IngestApp.build(settings())

    def process(*_: object) -> None:
        raise KeyError("jane@example.com")

    monkeypatch.setattr(app.commit._services, "process", process)
    response = await post(app, body())
    assert response.status_code == 500
    assert lines(caplog, logging.ERROR) == [(reason(response), f"projects/project/traces/{_TRACE}")]
    assert "jane" not in caplog.text + reason(response)


async def test_a_client_that_goes_is_neither_an_error_nor_an_event(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await post(IngestApp.build(settings()), body()[:50], aborted=True)).status_code == 400
    assert (cloud.calls, caplog.records) == ([], [])
