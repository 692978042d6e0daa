"""Each published event is a row or a dead letter in the end, with its bytes in the archive, after any failure."""

import os
import pathlib
import re
from datetime import timedelta

import pytest

from tests.history.records import Recorder
from tests.support import fault_report
from tests.support.fault_cases import CASES, SEED, SKEW, Case, Form, Run
from tests.support.fault_harness import Deployment
from tests.support.fault_report import Seen

SEEN: list[Seen] = []

IN_SHORT = {
    "BigQuery: 500 backendError, after the write",
    "BigQuery: no answer",
    'BigQuery: rows "stopped"',
    'BigQuery: rows "invalid"',
    "BigQuery: dead letters are not taken",
    "BigQuery: the emulator is killed and started again",
    "Cloud Storage: connection reset, after the write",
    "Cloud Storage: answer half written",
    "The function: SIGKILL between the archive and the tables",
    "The function: SIGTERM under load",
    "The function: two instances at once, one of them killed",
    "Pub/Sub: acknowledgements get lost",
    "Pub/Sub: poisonous messages among good ones",
}
"""Cases that `make test` runs, at least one of each way to lose an event; `make check` runs them all."""


def test_short_matrix_is_a_subset_of_the_full_one() -> None:
    assert {case.id for case in CASES} >= IN_SHORT


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.check] * (case.id not in IN_SHORT)) for case in CASES]
)
def test_nothing_is_lost(deployed: Deployment, form: Form, case: Case, tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path / "history.ndjson", case.id)
    run = Run(deployed, form, SEED + CASES.index(case), recorder, may_be_rejected=case.rejects)
    case.run(run)
    seen, history = run.end(case)
    SEEN.append(seen)
    print(seen)  # noqa: T201 - shown by pytest -rP, and where a case fails
    history.check()
    assert history.totals.rejected or not case.rejects, "no event was rejected"


def test_reconciliation_of_all_cases_reports_nothing_missing(deployed: Deployment) -> None:
    reconciliations = [deployed.books.reconciled(clock) for clock in (timedelta(), SKEW, -SKEW)]
    assert [reconciliation.summary() for reconciliation in reconciliations if not reconciliation.is_complete] == []
    assert sum(reconciliation.total.archived for reconciliation in reconciliations) >= sum(seen.events for seen in SEEN)


def test_the_table_of_the_matrix_has_each_case() -> None:
    if "UPDATE_DOCS" in os.environ and len(SEEN) == len(CASES):
        fault_report.write("matrix", fault_report.table(SEEN))
    rows = re.findall(r"^\| (.+?) \| (.+?) \| \d+", fault_report.section("matrix"), re.MULTILINE)
    assert rows == [(case.what, case.name) for case in CASES], "run UPDATE_DOCS=1 .venv/bin/pytest tests/faults"
