"""Batch mode: each published event is a row or a dead letter in the end, and archived, after any failure."""

import os
import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

from sluice.local.stack import emulators
from tests.history.records import Recorder
from tests.support import fault_report
from tests.support.background import event_loop
from tests.support.batch_faults import CASES, BatchCase, BatchDeployment, BatchRun, batch_deployment
from tests.support.fault_cases import SEED
from tests.support.fault_report import Seen
from tests.support.requires import missing

SEEN: list[Seen] = []

IN_SHORT = {
    "the archive: SIGKILL after the write",
    "a load file: SIGKILL after the write",
    "the ledger: SIGKILL after the write",
    "starting a load job: SIGKILL before the write",
    "starting a load job: no answer, after the write",
    "deleting load files: connection reset, after the write",
    "two runs: at once",
}
"""Cases that `make test` runs, one for each step between two writes; `make check` runs them all."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchDeployment]:
    if sys.platform != "linux":
        missing("The matrix of faults needs Linux: it finds an instance's workers in /proc")
    folder = tmp_path_factory.mktemp("batch-faults")
    with pytest.MonkeyPatch.context() as patch, event_loop() as run, emulators(folder, stand_in=True) as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        with batch_deployment(running, folder, run, "batch", SEED) as made:
            yield made


def test_short_matrix_is_a_subset_of_the_full_one() -> None:
    assert {case.id for case in CASES} >= IN_SHORT


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.check] * (case.id not in IN_SHORT)) for case in CASES]
)
def test_nothing_is_lost(deployed: BatchDeployment, case: BatchCase, tmp_path: pathlib.Path) -> None:
    run = BatchRun(deployed, SEED + CASES.index(case), Recorder(tmp_path / "history.ndjson", case.id))
    case.run(run)
    seen, history = run.end(case)
    SEEN.append(seen)
    print(seen)  # noqa: T201 - shown by pytest -rP, and where a case fails
    history.check()


def test_reconciliation_of_all_cases_reports_nothing_missing(deployed: BatchDeployment) -> None:
    reconciliation = deployed.books.reconciled()
    assert reconciliation.is_complete, reconciliation.summary()
    assert reconciliation.total.archived >= sum(seen.events for seen in SEEN)


def test_the_table_of_the_matrix_has_each_case() -> None:
    if "UPDATE_DOCS" in os.environ and len(SEEN) == len(CASES):
        fault_report.write("batch matrix", fault_report.table(SEEN))
    rows = re.findall(r"^\| (.+?) \| (.+?) \| \d+", fault_report.section("batch matrix"), re.MULTILINE)
    assert rows == [(case.what, case.name) for case in CASES], "run UPDATE_DOCS=1 .venv/bin/pytest tests/faults"
