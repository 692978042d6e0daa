"""Health of a deployment by the APIs of its project: the messages that wait, and the runs of batch mode."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from fake_google.http_server import Connection, Request, response, serving
from functions.archive.pending import LoadFile
from functions.drain.pending_loads import PendingLoad
from functions.reconcile.findings import HourCounts
from functions.reconcile.scheduled import Checkpoint
from functions.settings import Settings
from sluice.console.batch_mode import answers, runs_of
from sluice.console.health import Waiting, latest, waiting_of
from sluice.console.health_answer import read
from sluice.verify.project import Project, Unknown

PLACE = "projects/shop/locations/us-central1"
SUBSCRIPTIONS = "projects/shop/subscriptions"
TOPIC = "projects/shop/topics/undeliverable"

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SERVICES = [
    {
        "name": f"{PLACE}/services/sluice-prod-{name}",
        "uri": f"https://{name}.a.run.app",
        "template": {"containers": [{"env": [{"name": "ARCHIVE_BUCKET", "value": "shop-archive"}]}]},
    }
    for name in ("ingest", "drain")
]
PUSHED = {
    "name": f"{SUBSCRIPTIONS}/sluice-prod-ingest",
    "topic": "projects/shop/topics/events",
    "pushConfig": {"pushEndpoint": "https://ingest.a.run.app"},
    "deadLetterPolicy": {"deadLetterTopic": TOPIC},
}
UNDELIVERABLE = {"name": f"{SUBSCRIPTIONS}/sluice-prod-dead-letters", "topic": TOPIC}


@contextlib.contextmanager
def project(values: Mapping[str, int] | None, *, runs: Sequence[datetime] | None = None) -> Iterator[Project]:
    """A project whose metrics have these values by subscription; None rejects requests for metrics.

    `drain` has run at the times of `runs`; for None there is no such function.
    """

    def answer(request: Request, connection: Connection) -> None:
        path, query = request.path.decode(), request.query.decode()
        content: dict[str, Any] = {}
        status = 200
        if path.endswith("/services"):
            content = {"services": SERVICES[: 1 if runs is None else 2]}
        elif path.endswith("entries:list"):
            report = {"messages": 7.0, "errors": []}
            content = {"entries": [{"timestamp": f"{run:%FT%TZ}", "jsonPayload": report} for run in runs or ()]}
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


def states(runs: Sequence[datetime] | None, *pending: PendingLoad) -> dict[str, str]:
    """Return the states of the answers about batch mode by question."""
    with project({}, runs=runs) as deployment:
        given = answers(NOW, read(lambda: runs_of(deployment)), read(lambda: list(pending)))
    return {answer.question.split()[0]: answer.state for answer in given}


def load(minutes: int, failures: int = 0) -> PendingLoad:
    """Return a file that has waited for some minutes."""
    file = LoadFile.new("orders", NOW - timedelta(minutes=minutes), "x", 1)
    return PendingLoad("orders", (file,), None, failures, NOW + timedelta(hours=1) if failures else None)


def every(minutes: int, newest: int) -> list[datetime]:
    """Return the times of four runs, of which the newest was some minutes ago."""
    return [NOW - timedelta(minutes=newest + minutes * number) for number in range(4)]


def test_an_overdue_run_is_named_by_its_interval() -> None:
    assert states(None) == {}
    assert states([]) == {"Does": "problem", "What": "ok"}
    assert [states(every(1, newest))["Does"] for newest in (1, 21, 22)] == ["ok", "ok", "problem"]
    assert [states(every(30, newest))["Does"] for newest in (1, 125, 126)] == ["ok", "ok", "problem"]
    started_by_hand = sorted([*every(30, 1), NOW - timedelta(minutes=3)], reverse=True)
    assert states([NOW - timedelta(minutes=100) + (time - NOW) for time in started_by_hand])["Does"] == "ok"


def test_load_files_that_wait_too_long_are_a_problem() -> None:
    runs = every(1, 1)
    assert [states(runs, load(minutes))["What"] for minutes in (1, 30, 31)] == ["ok", "ok", "problem"]
    assert states(every(20, 1), load(59), load(1)) == {"Does": "ok", "What": "ok"}
    assert states(runs, load(1, failures=2))["What"] == "problem"
    assert states(None, load(1)) == {"What": "problem"}, "after a switch back nobody loads it"


def test_a_repeated_comparison_replaces_older_ones() -> None:
    def comparison(start: int, end: int) -> Checkpoint:
        day = datetime(2026, 11, 29, tzinfo=UTC)
        return Checkpoint(day.replace(hour=start), day.replace(hour=end), HourCounts())

    repeated, before, overlapping, first = comparison(8, 10), comparison(6, 8), comparison(7, 9), comparison(6, 6)
    assert latest([repeated, overlapping, before, first]) == [repeated, before]
