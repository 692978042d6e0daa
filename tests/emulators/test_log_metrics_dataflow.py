"""The metrics of engine = "dataflow", on the lines that Beam's own workers send in real runs."""

import collections
import json
import pathlib
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from functions.archive.envelope import Envelope
from functions.core.message import Message
from sluice.local.stack import Emulators
from tests.support import monitoring
from tests.support.beam_process import beam
from tests.support.broken_tables import away, other_type
from tests.support.cloud_logging import Entry, extracted, matches, worker_entry
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.push_requests import NOW, event, good_events

pytestmark = pytest.mark.check

METRICS = {
    name: metric
    for name, metric in monitoring.metrics("dataflow").items()
    if metric.filter.startswith('resource.type="dataflow_step"')
}

NOT_MADE_HERE = "dead-letters/enrich"
"""No event is known that an enrichment rejects."""

SEVERITIES = {"WARN": "WARNING"}
"""Severities that have another name in Cloud Logging."""


def lines(datasets: Datasets, place: pathlib.Path, events: Sequence[bytes | dict[str, Any]]) -> list[dict[str, str]]:
    """Return the log lines of the workers of a run over a file, and whether it failed."""
    file = place / f"{uuid.uuid4()}.ndjson"
    messages = [
        Message(event if isinstance(event, bytes) else json.dumps(event).encode(), {}, str(uuid.uuid4()), NOW)
        for event in events
    ]
    file.write_bytes(b"\n".join(msgspec.json.encode(Envelope.from_message(message, None)) for message in messages))
    options = (
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=1",
        f"--input_files={file}",
    )
    environment = {**datasets.environment, "CODE_VERSION": "tests"}
    printed = beam("tests.support.beam_worker_log", options, environment)
    return [json.loads(line) for line in printed.splitlines()]


@pytest.fixture(scope="module")
def recorded(
    running_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, int], list[Entry]]:
    """The expected counts, and the log entries of runs."""
    place = tmp_path_factory.mktemp("monitoring")
    with fresh_datasets(running_emulators) as datasets:
        events: list[bytes | dict[str, Any]] = [
            *(payload for _, payload in good_events()),
            event("order", gift=True),
            b"no JSON",
            event("order", status="lost"),
            event("order", order_date=(NOW - timedelta(days=91)).isoformat()),
        ]
        logged = lines(datasets, place, events)
        with other_type(datasets.client, f"{datasets.settings.dataset}.inventory"):
            logged += lines(datasets, place, [event("inventory", unknown=1)])
        with away(datasets.client, f"{datasets.settings.dataset}.user_activity"):
            failed = lines(datasets, place, [event("user_activity")])
    assert not any("failed" in line for line in logged)
    assert any("failed" in line for line in failed), "a bundle that the runner has to try again"
    expected = collections.Counter(f"rows/{table}" for table, _ in good_events())
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
    return (
        expected,
        [
            worker_entry(line["message"], SEVERITIES.get(line["severity"], line["severity"]), monitoring.NAMES["job"])
            for line in [*logged, *failed]
            if "message" in line
        ],
    )


def test_every_metric_of_flushes_is_made_to_happen(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    counted = {name for name, metric in METRICS.items() if any(matches(metric.filter, line) for line in recorded[1])}
    assert METRICS.keys() - counted == {NOT_MADE_HERE}


@pytest.mark.parametrize("name", sorted(METRICS.keys() - {NOT_MADE_HERE}))
def test_metric_counts_exactly_the_matching_log_lines(recorded: tuple[dict[str, int], list[Entry]], name: str) -> None:
    metric = METRICS[name]
    expected, entries = recorded
    met = [line for line in entries if matches(metric.filter, line)]
    assert metric.extractor is not None
    assert metric.bounds is not None
    numbers = [number for line in met if (number := extracted(line, metric.extractor)) is not None]
    assert len(numbers) == len(met)
    if name in expected:
        assert sum(numbers) == expected[name]
    else:
        assert 0 <= min(numbers) <= max(numbers) < metric.bounds[-1]


def test_a_stage_that_does_not_happen_here_counts_as_any_other(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    metric = METRICS[NOT_MADE_HERE]
    line = next(line for line in recorded[1] if matches(METRICS["dead-letters/decode"].filter, line))
    text = line["jsonPayload"]["message"].replace('"decode":', '"enrich":')
    enriched = worker_entry(text, "WARNING", monitoring.NAMES["job"])
    assert metric.extractor is not None
    assert (matches(metric.filter, enriched), extracted(enriched, metric.extractor)) == (True, 1)
    assert not matches(metric.filter, line)


def test_numbers_quoted_in_an_error_are_not_counted(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    """Errors have the last place in a line, and are JSON in it: their quotation marks are escaped."""
    line = next(line for line in recorded[1] if matches(METRICS["failed"].filter, line))
    errors = json.dumps(['"rows":{"orders":7},"dead_letters":{"decode":7}'])
    quoting = worker_entry(
        line["jsonPayload"]["message"].replace('"errors":[', f'"errors":[{errors[1:-1]},'),
        "ERROR",
        monitoring.NAMES["job"],
    )
    assert quoting != line
    counted = {name for name, metric in METRICS.items() if matches(metric.filter, quoting)}
    assert counted == {name for name, metric in METRICS.items() if matches(metric.filter, line)}


def test_lines_of_another_job_and_of_functions_count_nothing(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    others = [worker_entry(line["jsonPayload"]["message"], "INFO", "sluice-prod-ingest") for line in recorded[1]]
    assert not any(matches(metric.filter, line) for metric in METRICS.values() for line in others)
    functions = monitoring.metrics("functions").values()
    assert not any(matches(metric.filter, line) for metric in functions for line in recorded[1])
