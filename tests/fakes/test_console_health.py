"""The messages that wait in a subscription, by the APIs of a project."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from fake_google.http_server import Connection, Request, response, serving
from functions.reconcile.findings import HourCounts
from functions.reconcile.scheduled import Checkpoint
from functions.settings import Settings
from sluice.console.health import Waiting, latest, waiting_of
from sluice.verify.project import Project, Unknown

PLACE = "projects/shop/locations/us-central1"
SUBSCRIPTIONS = "projects/shop/subscriptions"
TOPIC = "projects/shop/topics/undeliverable"

SERVICE = {
    "name": f"{PLACE}/services/sluice-prod-ingest",
    "uri": "https://ingest.a.run.app",
    "template": {"containers": [{"env": [{"name": "ARCHIVE_BUCKET", "value": "shop-archive"}]}]},
}
PUSHED = {
    "name": f"{SUBSCRIPTIONS}/sluice-prod-ingest",
    "topic": "projects/shop/topics/events",
    "pushConfig": {"pushEndpoint": "https://ingest.a.run.app"},
    "deadLetterPolicy": {"deadLetterTopic": TOPIC},
}
UNDELIVERABLE = {"name": f"{SUBSCRIPTIONS}/sluice-prod-dead-letters", "topic": TOPIC}


@contextlib.contextmanager
def project(values: Mapping[str, int] | None) -> Iterator[Project]:
    """A project whose metrics have these values by subscription; None rejects requests for metrics."""

    def answer(request: Request, connection: Connection) -> None:
        path, query = request.path.decode(), request.query.decode()
        content: dict[str, Any] = {}
        status = 200
        if path.endswith("/services"):
            content = {"services": [SERVICE]}
        elif path.endswith("/subscriptions"):
            content = {"subscriptions": [PUSHED, UNDELIVERABLE]}
        elif values is None:
            content, status = {"error": {"message": "Permission monitoring.timeSeries.list denied"}}, 403
        else:
            points = [{"value": {"int64Value": str(value)}} for name, value in values.items() if name in query]
            content = {"timeSeries": [{"points": [point]} for point in points]}
        connection.answer(response(json.dumps(content).encode(), status))

    settings = Settings(archive_bucket="shop-archive", google_cloud_project="shop")
    with serving(answer) as url, requests.Session() as session:
        yield Project(session, settings, "shop", f"{url}/{{api}}")


def test_metrics_say_what_waits() -> None:
    with project({"sluice-prod-ingest": 42, "sluice-prod-dead-letters": 3}) as deployment:
        assert waiting_of(deployment) == Waiting(timedelta(seconds=42), undelivered=3)
    with project({}) as deployment:
        assert waiting_of(deployment) == Waiting(timedelta(), undelivered=0)


def test_a_missing_permission_is_named() -> None:
    with project(None) as deployment, pytest.raises(Unknown, match=r"monitoring answers 403: .*timeSeries.list denied"):
        waiting_of(deployment)


def test_a_repeated_comparison_replaces_older_ones() -> None:
    def comparison(start: int, end: int) -> Checkpoint:
        day = datetime(2026, 11, 29, tzinfo=UTC)
        return Checkpoint(day.replace(hour=start), day.replace(hour=end), HourCounts())

    repeated, before, overlapping, first = comparison(8, 10), comparison(6, 8), comparison(7, 9), comparison(6, 6)
    assert latest([repeated, overlapping, before, first]) == [repeated, before]
