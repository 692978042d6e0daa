"""Batch mode: what is published is archived and loaded, and each message is acknowledged once it is durable."""

from collections.abc import Iterator

import pytest

from sluice.local.stack import Emulators
from tests.support.drained import Drained, drained


@pytest.fixture
def batch(running_emulators: Emulators) -> Iterator[Drained]:
    with drained(running_emulators) as opened:
        yield opened


def test_all_events_are_loaded_once_and_archived(batch: Drained) -> None:
    events = batch.publish(500)
    report = batch.drain()
    assert (report.errors, report.messages, report.is_empty) == ([], 500, True)
    batch.settle()
    expected = sorted(event.attributes["event_id"] for event in events)
    assert sorted(sum(batch.ids().values(), [])) == expected
    archived = [envelope.event_id for lines in batch.datasets.objects().values() for envelope in lines]
    assert sorted(archived) == expected
    assert batch.load_objects() == ["load/ledger.json"]
