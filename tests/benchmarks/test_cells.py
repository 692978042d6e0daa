"""A cell shows what was measured, and nothing where nothing was."""

import dataclasses
from array import array
from collections.abc import Sequence

import pytest

from benchmarks import cells
from benchmarks.cells import Cell, Scenario, WorkerReplaced
from benchmarks.load import Closed, Driven, Open
from benchmarks.plan import QUICK
from benchmarks.runs import _Bench
from benchmarks.servers import Server
from fake_google.metered import Counts

LOAD = Closed(8, 1.0)
DRIVEN = Driven(1.0, 4, 4, 4, 4, 0, {}, 0, 1, array("d", [0.1, 0.2, 0.3, 0.4]), 0.5)


class Cloud:
    """A stand-in that has counted so many rows."""

    def __init__(self, rows: int) -> None:
        self._counts = Counts(inserts=1, uploads=1, rows={"orders": rows})

    def reset(self, insert_ms: float, upload_ms: float) -> None:
        pass

    def counts(self) -> Counts:
        return self._counts

    def in_flight(self) -> int:
        return 0


class Processes:
    """The processes of a function."""

    def __init__(self, pids: Sequence[list[int]] = ([1, 2],), error: type[OSError] | None = None) -> None:
        self._pids = [*pids]
        self._error = error

    @property
    def pids(self) -> list[int]:
        return self._pids.pop(0) if len(self._pids) > 1 else self._pids[0]

    def cpu(self) -> float:
        return 1.0

    def forget_peak(self) -> None:
        if self._error:
            raise self._error

    def peak(self) -> int:
        return 2**20


def run(driven: Driven, processes: Processes | None = None, rows: int = 4, load: Closed | Open = LOAD) -> Cell:
    scenario = Scenario("a scenario", load, 0, 0)
    server = Server("sluice", "", processes or Processes())  # type: ignore[arg-type]
    return cells.run(scenario, server, lambda *_: driven, Cloud(rows), 1)  # type: ignore[arg-type]


def test_a_cell_that_acknowledged_nothing_has_no_values_for_an_event() -> None:
    nothing = dataclasses.replace(DRIVEN, answered=0, acknowledged=0, latencies=array("d"), rejected={503: 4})
    cell = run(nothing)
    assert (cell.cpu, cell.uploads, cell.calls, cell.billed_row_bytes) == (None, None, None, None)
    assert (cell.events_per_second, cell.p50) == (0.0, None)


def test_rejected_requests_count_as_the_slowest() -> None:
    rejecting = dataclasses.replace(DRIVEN, sent=8, rejected={503: 4})
    cell = run(rejecting)
    assert (cell.p50, cell.p99) == (0.4, None)
    assert (run(DRIVEN).p50, run(DRIVEN).p99) == (0.2, 0.4)


def test_a_worker_that_was_replaced_has_no_cpu() -> None:
    with pytest.raises(WorkerReplaced, match="a scenario, sluice"):
        run(DRIVEN, Processes([[1, 2], [1, 3]]))


def test_a_peak_that_cannot_be_reset_is_not_measured() -> None:
    assert run(DRIVEN).peak_memory == 2**20
    assert run(DRIVEN, Processes(error=PermissionError)).peak_memory is None


def test_a_repetition_without_a_proven_rate_is_in_the_results() -> None:
    """It has the cell of the last rate, which says that it was not sustained."""
    rates = []

    class Bench(_Bench):
        def _at(self, rate: float, server: Server, probe: int) -> Cell:
            rates.append(rate)
            return run(dataclasses.replace(DRIVEN, arrived=100), load=Open(rate, 1.0))

    server = Server("sluice", "", Processes())  # type: ignore[arg-type]
    bench = Bench(QUICK, [server], lambda *_: DRIVEN, Cloud(4), str)  # type: ignore[arg-type]
    cell = bench._proven({"sluice": 100.0}, server, 1)
    assert not cell.is_sustained
    assert rates == pytest.approx([100.0, 95.0, 90.25, 85.7375])
