"""Switching from functions to Dataflow and back under load loses nothing, and the views show each event once.

As in docs/scale.md, one subscription changes hands. The relay is its push, and BundleBasedDirectRunner is Dataflow.
"""

import pathlib

import pytest

from sluice.local.names import PROJECT
from sluice.local.process import running
from sluice.local.stack import Emulators, Stack, delivering
from tests.support.beam_process import ENVIRONMENT, HOW_TO_GET, ROOT
from tests.support.deployed_stack import Deploy, Warehouse
from tests.support.producer import TABLES, Producer, assert_nothing_lost, end, wait_for_all
from tests.support.requires import missing
from tests.support.waiting import wait_until

pytestmark = pytest.mark.check

ENOUGH = 60
"""Rows of an engine after which the subscription changes hands."""


def rows_by(warehouse: Warehouse, code_version: str) -> int:
    """Return the number of rows that a version of the code has written."""
    selects = [f"SELECT COUNTIF(ingest.code_version = '{code_version}') AS n FROM `{{dataset}}.{t}`" for t in TABLES]
    counts = warehouse.query(" UNION ALL ".join(selects))
    return sum(count.n for count in counts)


def switched(stack: Stack, on: Emulators, folder: pathlib.Path, producer: Producer, warehouse: Warehouse) -> None:
    """Give the subscription from push to Beam and back, as soon as each of them has written enough rows."""
    subscription = "switched-ingest"
    by_function, by_beam = "function", "beam"
    wait_until(lambda: rows_by(warehouse, by_function) > ENOUGH, "the function writes rows", pause=0.5)
    end(stack.children[-1])  # the relay: no more push
    options = [
        "--runner=BundleBasedDirectRunner",
        f"--input_subscription=projects/{PROJECT}/subscriptions/{subscription}",
        "--id_label=",  # only Dataflow has it
    ]
    command = [str(ENVIRONMENT / "bin" / "python"), "-m", "tests.support.beam_drain", *options]
    environment = {**stack.environment, "CODE_VERSION": by_beam, "PYTHONPATH": str(ROOT)}
    with running("beam", command, folder, environment, cwd=ROOT) as beam:
        producer.publish_again()
        wait_until(lambda: rows_by(warehouse, by_beam) > ENOUGH, "Beam writes rows", beam.tail, pause=0.5)
        end(beam)
    before = rows_by(warehouse, by_function)
    with delivering(on, subscription, stack.ingest.url, folder, "push-again"):
        producer.publish_again()
        wait_until(lambda: rows_by(warehouse, by_function) > before + ENOUGH, "the function writes again", pause=0.5)
        producer.stop()
        wait_for_all(producer, warehouse)


def test_engine_switch_under_load_loses_and_duplicates_no_event(
    deploy: Deploy, running_emulators: Emulators, tmp_path: pathlib.Path
) -> None:
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    with deploy("switched", CODE_VERSION="function") as stack:
        warehouse, producer = Warehouse(stack), Producer(stack.topic)
        try:
            switched(stack, running_emulators, tmp_path, producer, warehouse)
        finally:
            producer.stop()
        assert_nothing_lost(producer, warehouse)
