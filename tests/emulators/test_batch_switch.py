"""Switching from push to batch mode and back under load loses nothing, and the views show each event once.

As in docs/batch.md, one subscription changes hands. The relay is its push, and a loop of runs is Cloud Scheduler.
"""

import dataclasses
import pathlib
import threading

import msgspec
import pytest

from functions.drain.drain import Drain
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators, Stack, delivering
from tests.support.deployed_stack import Deploy, Warehouse
from tests.support.producer import Producer, assert_nothing_lost, end, wait_for_all
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check

SUBSCRIPTION = "batchswitch-ingest"
ENOUGH = 100
"""Messages of a receiver after which the subscription changes hands."""


@dataclasses.dataclass
class Schedule:
    """Runs of `drain`, one after the other, until it is stopped."""

    drain: Drain
    messages: int = 0
    errors: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            report = self.drain()
            self.messages += report.messages
            self.errors += report.errors

    def stop(self) -> None:
        """Let the last run end."""
        self._stopped.set()
        self._thread.join(PATIENCE)


def switched(stack: Stack, on: Emulators, folder: pathlib.Path, producer: Producer, warehouse: Warehouse) -> None:
    """Give the subscription from push to batch mode and back, as soon as each has taken enough messages."""
    wait_until(lambda: warehouse.stored() > ENOUGH, "the function writes rows", pause=0.5)
    end(stack.children[-1])  # the relay: no more push
    settings = msgspec.structs.replace(stack.settings, subscription=f"projects/{PROJECT}/subscriptions/{SUBSCRIPTION}")
    drain = Drain.build(settings)
    schedule = Schedule(drain)
    producer.publish_again()
    wait_until(lambda: schedule.messages > ENOUGH, "batch mode has written enough", lambda: schedule, pause=0.2)
    schedule.stop()
    assert schedule.errors == []
    with delivering(on, SUBSCRIPTION, stack.ingest.url, folder, "push-again"):
        producer.publish_again()
        before = warehouse.stored()
        wait_until(lambda: warehouse.stored() > before + ENOUGH, "the function writes again", pause=0.5)
        producer.stop()
        # `sluice drain --loads-only`
        wait_until(lambda: drain.loads.advance().pending_files == 0, "the last load files are loaded", pause=0.2)
        wait_for_all(producer, warehouse)


def test_batch_switch_under_load_loses_and_duplicates_no_event(
    deploy: Deploy, running_emulators: Emulators, tmp_path: pathlib.Path
) -> None:
    with deploy("batchswitch") as stack:
        warehouse, producer = Warehouse(stack), Producer(stack.topic)
        try:
            switched(stack, running_emulators, tmp_path, producer, warehouse)
        finally:
            producer.stop()
        assert_nothing_lost(producer, warehouse)
