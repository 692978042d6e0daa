"""The metrics of `terraform/monitoring/metrics.yaml`, on the lines of real runs.

What does not happen by itself is made to: a table that is not as its definition, a table that is away, too much in
flight. Only the line of a failed attempt of Cloud Scheduler is written after its documentation.
"""

import collections
import concurrent.futures
import gzip
import pathlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from functions.archive import layout
from functions.archive.envelope import Envelope
from functions.clients import bigquery_client, storage_client
from functions.core.dead_letters import Stage
from functions.core.message import Message
from functions.reconcile.findings import Reconciliation
from functions.reconcile.scheduled import Checkpoints, Part, recent_hours
from sluice.local.functions import serving
from sluice.local.stack import Emulators, Stack
from tests.support import monitoring, samples
from tests.support.broken_tables import away, other_type
from tests.support.cloud_logging import Entry, entry, extracted, matches, value
from tests.support.deployed_stack import Deploy
from tests.support.push_requests import NOW, event, good_events, post, wrapped
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.check

METRICS = monitoring.metrics()

INGEST, BOOTSTRAP, RECONCILE, COMPACT = (
    monitoring.NAMES[name] for name in ("ingest", "bootstrap", "reconcile", "compact")
)

NOT_MADE_HERE = {
    "dead-letters/enrich": "no event is known that an enrichment rejects",
    "bootstrap-schedule-failures": "Cloud Scheduler has no emulator",
    "reconcile-schedule-failures": "Cloud Scheduler has no emulator",
    "compact-schedule-failures": "Cloud Scheduler has no emulator",
    "reconcile-behind": "no run here has an hour's work left after 25 minutes",
}


def run(stack: Stack) -> collections.Counter[str]:
    """Send events of every fate; how many of each metric there must be."""
    client, dataset = bigquery_client(stack.settings), stack.settings.dataset
    expected = collections.Counter(f"rows/{table}" for table, _ in good_events())
    events: list[bytes | dict[str, Any]] = [
        *(payload for _, payload in good_events()),
        event("order", gift=True),
        b"no JSON",
        event("order", status="lost"),
        event("order", order_date=(NOW - timedelta(days=91)).isoformat()),
    ]
    statuses = [post(stack, payload)[1].status_code for payload in events]
    with other_type(client, f"{dataset}.inventory"):
        statuses.append(post(stack, event("inventory", unknown=1))[1].status_code)
    with away(client, f"{dataset}.user_activity"):
        failed = httpx.post(stack.ingest.url, json=wrapped(event("user_activity"), str(uuid.uuid4())), timeout=PATIENCE)
    assert set(statuses) == {204}
    assert failed.status_code == 503
    # No message at all: a line that no metric counts.
    assert httpx.post(stack.ingest.url, content=b"hello").status_code == 400
    expected.update(
        {
            "events": len(events) + 2,
            "rows/orders": 1,
            "dead-letters/decode": 1,
            "dead-letters/contract": 1,
            "dead-letters/time_bounds": 1,
            "dead-letters/warehouse": 1,
            "unknown-fields": 1,
            "failed": 1,
        }
    )
    return expected


@pytest.fixture(scope="module")
def recorded(
    deploy: Deploy, running_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, int], list[Entry]]]:
    """The expected counts, and all log entries of a run of the functions."""
    folder = tmp_path_factory.mktemp("monitoring")
    with deploy("monitoring") as stack:
        expected = run(stack)
        taken, expected["rejected"] = flood(stack, folder)
        expected["events"] += taken
        expected["rows/orders"] += taken
        # The bootstrap ran once, well. This one finds its datasets in another place, and fails.
        elsewhere = {**stack.environment, "LOCATION": "europe-west1"}
        with serving("bootstrap", folder, elsewhere, "elsewhere") as bootstrap:
            rejected = httpx.post(bootstrap.url, timeout=PATIENCE)
        assert rejected.status_code == 409
        expected["bootstrap-failures"] = sum(step["change"] == "rejected" for step in rejected.json()["objects"])
        with serving("reconcile", folder, stack.environment, "reconcile") as reconcile:
            expected["missing"], expected["unreadable"] = 1, 1
            bucket = storage_client(stack.settings).bucket(stack.settings.archive_bucket)
            arrived, _ = recent_hours(datetime.now(UTC))
            recently = layout.first_name_at(arrived)
            lost = Envelope.from_message(Message(b"{}", {}, "lost", NOW), None)
            bucket.blob(f"{recently}-lost.ndjson.gz").upload_from_string(gzip.compress(msgspec.json.encode(lost)))
            bucket.blob(f"{recently}-torn.ndjson.gz").upload_from_string(b"torn")
            expected["conflicts"] = 2
            orders = [
                event("order", status=status, order_date=arrived.isoformat()) for status in ("pending", "shipped")
            ]
            rows = [samples.process(samples.message(order, event_id="o-1"), NOW) for order in orders]
            uri = f"gs://{bucket.name}/{recently}-conflicts.ndjson.gz"
            insert = bigquery_client(stack.settings).insert_rows_json
            assert insert(f"{stack.settings.dataset}.orders", [row.record(uri) for row in rows]) == []
            [part] = httpx.post(reconcile.url, timeout=PATIENCE).json()["parts"]
            assert (part["missing_events"], part["conflicts"]) == (["lost"], 2)
        with serving("compact", folder, stack.environment, "compact") as compact:
            expected["compaction-failures"] = 1
            hour = recent_hours(datetime.now(UTC) - timedelta(days=2))[0]
            torn = [layout.object_name(hour, "0a1b2c3d4e5f", number) for number in range(2)]
            for name in torn:
                bucket.blob(name).upload_from_string(b"torn")
            complete = Reconciliation(until=hour + timedelta(hours=1))
            Checkpoints(bucket.client, bucket.name).add(Part(hour, complete))
            [result] = httpx.post(compact.url, timeout=PATIENCE).json()["hours"]
            assert torn[0] in result["error"]
        logs = [
            (stack.ingest.child.log, INGEST),
            (reconcile.child.log, RECONCILE),
            (compact.child.log, COMPACT),
            (folder / "small.log", INGEST),
            (stack.bootstrap.child.log, BOOTSTRAP),
            (bootstrap.child.log, BOOTSTRAP),
        ]
        yield expected, [entry for log, service in logs for entry in entries(log, service)]


def flood(stack: Stack, folder: pathlib.Path) -> tuple[int, int]:
    """Send more at once than a function with little capacity accepts; return the numbers accepted and rejected."""
    with serving("ingest", folder, {**stack.environment, "MAX_IN_FLIGHT": "1"}, "small") as small:

        def send(_: int) -> int:
            return httpx.post(small.url, json=wrapped(event("order"), str(uuid.uuid4())), timeout=PATIENCE).status_code

        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(send, range(20)))
        # Events rejected after the last flush are in the log line of the next.
        answers.append(send(0))
        while answers[-1] == 429:
            answers.append(send(0))
    assert set(answers) == {204, 429}
    return answers.count(204), answers.count(429)


def entries(log: pathlib.Path, service: str) -> list[Entry]:
    """The structured lines of a log."""
    return [entry(line, service) for line in log.read_text().splitlines() if line.startswith("{")]


def test_every_metric_is_made_to_happen(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    counted = {name for name, metric in METRICS.items() if any(matches(metric.filter, line) for line in recorded[1])}
    assert counted ^ METRICS.keys() == NOT_MADE_HERE.keys()


@pytest.mark.parametrize("name", sorted(METRICS.keys() - NOT_MADE_HERE.keys()))
def test_metric_counts_exactly_the_matching_log_lines(recorded: tuple[dict[str, int], list[Entry]], name: str) -> None:
    metric = METRICS[name]
    expected, lines = recorded
    met = [line for line in lines if matches(metric.filter, line)]
    if metric.extractor is None:
        assert len(met) == expected[name]
        return
    numbers = [number for line in met if (number := extracted(line, metric.extractor)) is not None]
    assert len(numbers) == len(met)
    assert min(numbers) >= 0
    if name in expected:
        assert sum(numbers) == expected[name]
    else:
        # Times: every flush that came so far, and milliseconds that are within the buckets.
        flushes = [line for line in lines if value(line, "jsonPayload.message") == "flush"]
        assert metric.bounds is not None
        assert 0 < len(numbers) <= len(flushes)
        assert max(numbers) < metric.bounds[-1]


def test_each_number_of_a_flush_line_is_measured_or_not_on_purpose(
    recorded: tuple[dict[str, int], list[Entry]],
) -> None:
    """A field that is new in the line must be decided upon."""
    measured = {metric.value.split(".")[1] for metric in METRICS.values() if metric.value}
    flush = next(line for line in recorded[1] if value(line, "jsonPayload.message") == "flush")
    fields = flush["jsonPayload"].keys() - {"logger", "message"}
    # Overload shows in the metrics of events that were rejected, or are not durable.
    unmeasured = {"archive_uri", "errors", "message_bytes", "archive_bytes", "overloaded", "in_flight_limit"}
    unmeasured |= {"rounded_numbers"}  # A producer's matter, which no operator acts upon.
    assert fields - measured == unmeasured


def test_each_stage_has_a_metric() -> None:
    assert {f"dead-letters/{stage}" for stage in Stage} <= METRICS.keys()


def test_the_lines_of_another_environment_count_nothing(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    lines: list[dict[str, Any]] = [
        {**line, "resource": {"type": "cloud_run_revision", "labels": {"service_name": "sluice-prod-ingest"}}}
        for line in recorded[1]
    ]
    assert not any(matches(metric.filter, line) for metric in METRICS.values() for line in lines)


def test_metric_of_the_enrich_stage_counts_its_dead_letters(
    recorded: tuple[dict[str, int], list[Entry]],
) -> None:
    line = next(line for line in recorded[1] if matches(METRICS["dead-letters/decode"].filter, line))
    enriched = {**line, "jsonPayload": {**line["jsonPayload"], "dead_letters": {"enrich": 2}}}
    metric = METRICS["dead-letters/enrich"]
    assert metric.extractor is not None
    assert (matches(metric.filter, enriched), extracted(enriched, metric.extractor)) == (True, 2)
    assert not matches(metric.filter, line)


def test_a_run_that_ends_behind_counts_and_is_no_finding(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    entry = next(line for line in recorded[1] if matches(METRICS["missing"].filter, line))
    behind = {**entry, "jsonPayload": {**entry["jsonPayload"], "message": "reconciliation is behind"}}
    assert matches(METRICS["reconcile-behind"].filter, behind)
    assert not matches(METRICS["reconcile-behind"].filter, entry)
    assert not matches(METRICS["missing"].filter, behind)


def attempt(severity: str, job: str) -> Entry:
    """The end of a scheduled attempt (https://cloud.google.com/scheduler/docs/logging)."""
    return {
        "logName": "projects/project/logs/cloudscheduler.googleapis.com%2Fexecutions",
        "resource": {"type": "cloud_scheduler_job", "labels": {"job_id": job, "location": "us-central1"}},
        "severity": severity,
        "httpRequest": {"status": 500 if severity == "ERROR" else 200},
        "jsonPayload": {"@type": "type.googleapis.com/google.cloud.scheduler.logging.AttemptFinished"},
    }


@pytest.mark.parametrize("function", ["bootstrap", "reconcile", "compact"])
def test_only_failed_scheduled_runs_are_counted(function: str) -> None:
    text = METRICS[f"{function}-schedule-failures"].filter
    job = monitoring.NAMES[f"{function}_job"]
    assert matches(text, attempt("ERROR", job))
    assert not matches(text, attempt("INFO", job))
    assert not matches(text, attempt("ERROR", "another"))
