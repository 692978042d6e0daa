"""The metrics of batch mode, on the lines of real runs of `drain`."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sluice.local.functions import serving
from sluice.local.stack import Emulators
from tests.support import monitoring
from tests.support.broken_tables import other_type
from tests.support.cloud_logging import Entry, entry, extracted, matches
from tests.support.drained import drained
from tests.support.push_requests import encode, event, good_events
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.check

DRAIN = monitoring.NAMES["drain"]

METRICS = {name: metric for name, metric in monitoring.metrics("batch").items() if f'"{DRAIN}"' in metric.filter}

NOT_MADE_HERE = {
    "dead-letters/enrich": "no event is known that an enrichment rejects",
    "dead-letters/time_bounds": "the other stages show how it is counted",
    "drain-schedule-failures": "Cloud Scheduler has no emulator",
    "failed": "Cloud Storage takes all chunks here",
}


@pytest.fixture(scope="module")
def recorded(
    running_emulators: Emulators, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[dict[str, int], list[Entry]]]:
    """The expected sums, and the log entries of two runs, of which the second one finds a load job that has failed."""
    folder = tmp_path_factory.mktemp("drain")
    events: list[bytes | dict[str, Any]] = [
        *(payload for _, payload in good_events()),
        event("order", gift=True),
        b"no JSON",
        event("order", status=1),
    ]
    with drained(running_emulators) as batch:
        environment = {
            **running_emulators.environment,
            **batch.datasets.environment,
            "SUBSCRIPTION": str(batch.settings.subscription),
        }
        with serving("drain", folder, environment, "drain") as function:
            for payload in events:
                batch.publish_data(encode(payload), str(uuid.uuid4()))
            with other_type(batch.datasets.client, f"{batch.settings.dataset}.orders"):
                reports = [httpx.post(function.url, timeout=PATIENCE).json() for _ in range(2)]
        assert [report["messages"] for report in reports] == [len(events), 0]
        assert [report["loads"]["failed_jobs"] for report in reports] == [0, 1]
        tables = {f"rows/{table}": 1 + (table == "orders") for table, _ in good_events()}
        expected = {"events": len(events), "unknown-fields": 1, "failed-loads": 1, "drain-errors": 1, **tables}
        expected |= {"dead-letters/decode": 1, "dead-letters/contract": 1, "dead-letters/warehouse": 1}
        lines = [line for line in function.child.log.read_text().splitlines() if line.startswith("{")]
        yield expected, [entry(line, DRAIN) for line in lines]


def test_every_metric_of_drain_is_made_to_happen(recorded: tuple[dict[str, int], list[Entry]]) -> None:
    counted = {name for name, metric in METRICS.items() if any(matches(metric.filter, line) for line in recorded[1])}
    assert counted ^ METRICS.keys() == NOT_MADE_HERE.keys()


@pytest.mark.parametrize("name", sorted(METRICS.keys() - NOT_MADE_HERE.keys()))
def test_metric_of_drain_has_the_numbers_of_its_lines(recorded: tuple[dict[str, int], list[Entry]], name: str) -> None:
    metric, (expected, lines) = METRICS[name], recorded
    met = [line for line in lines if matches(metric.filter, line)]
    if metric.extractor is None or metric.bounds is None:
        assert len(met) == expected[name]
        return
    numbers = [number for line in met if (number := extracted(line, metric.extractor)) is not None]
    assert len(numbers) == len(met)
    assert 0 <= min(numbers) <= max(numbers) < metric.bounds[-1]
    if name in expected:
        assert sum(numbers) == expected[name]
