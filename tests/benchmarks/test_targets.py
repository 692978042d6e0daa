"""The targets are computed from the cells of a run."""

import math
import pathlib
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.cells import Cell, LostEvents
from benchmarks.cold_start import Start
from benchmarks.core import Core
from benchmarks.machine import Machine
from benchmarks.plan import closed, opened, sustained
from benchmarks.results import Results
from benchmarks.servers import NAMES, Name
from benchmarks.targets import Target, highest, targets


def cell(scenario: str, of: Name, repetition: int, **changes: Any) -> Cell:
    made = Cell(
        scenario=scenario,
        of=of,
        repetition=repetition,
        rate=None,
        events_per_second=100.0,
        share=1.0,
        p50=0.1,
        p99=0.2,
        p999=0.3,
        acknowledged=1000,
        cpu=10.0,
        calls=20_000,
        uploads=10_000,
        upload_bytes=1e6,
        insert_bytes=1e6,
        billed_row_bytes=1e7,
        peak_memory=10**8,
        refused={},
        resent=0,
        generator_busy=0.1,
    )
    return msgspec.structs.replace(made, **changes)


def results(*cells: Cell) -> Results:
    return Results(started="", revision="", seconds=1, machine=Machine.here(), cells=[*cells])


def target(of: Results, what: str) -> Target:
    [found] = [one for one in targets(of) if one.what.startswith(what)]
    return found


def test_throughput_is_compared_repetition_by_repetition() -> None:
    cells = [cell(closed(250), "plain", number, events_per_second=100.0 * number) for number in (1, 2, 3)]
    cells += [cell(closed(250), "sluice", number, events_per_second=1_100.0 * number) for number in (1, 2, 3)]
    found = target(results(*cells), "events/s with 250 in flight")
    assert found.measured is not None
    assert found.measured.low == pytest.approx(found.measured.high) == pytest.approx(11)
    assert found.is_met


def test_an_event_costs_the_share_of_what_its_implementation_needs() -> None:
    cells = [cell(opened(300), "plain", 1), cell(opened(300), "sluice", 1, uploads=200)]
    cells += [cell(sustained("plain"), "plain", 1, rate=320.0), cell(sustained("sluice"), "sluice", 1, rate=2_000.0)]
    found = target(results(*cells), "cost")
    assert found.measured is not None
    assert 0.1 < found.measured.median < 1 / 6
    assert found.is_met


def test_the_highest_rate_is_one_that_was_sustained_every_time() -> None:
    rates = [cell(sustained("sluice"), "sluice", number, rate=rate) for number, rate in ((1, 2_000.0), (2, 1_900.0))]
    assert highest(results(*rates), "sluice") == 1_900
    assert highest(results(msgspec.structs.replace(rates[0], share=0.5)), "sluice") is None


def test_whoever_does_not_follow_is_as_slow_as_can_be() -> None:
    behind = {"share": 0.5, "p99": None}
    plain, ours = cell(opened(300), "plain", 1, **behind), cell(opened(300), "sluice", 1)
    found = target(results(plain, ours, cell(opened(1_500), "sluice", 1, **behind)), "p99 at 1 500/s")
    assert found.measured is not None
    assert found.measured.median == math.inf
    assert found.is_met is False
    assert target(results(plain, ours), "p99 at 300/s").is_met


def test_cold_starts_are_compared_one_by_one() -> None:
    found = results()
    for seconds in (1.0, 2.0):
        for name in NAMES:
            took = seconds * (0.4 if name == "sluice" else 1.0)
            found.starts.append(Start(of=name, compiled=True, event="order", seconds=took, memory=10**8))
            found.starts.append(Start(of=name, compiled=False, event="order", seconds=9.0, memory=10**9))
    start, memory = target(found, "cold start"), target(found, "memory")
    assert start.measured is not None
    assert start.measured.low == start.measured.high == 0.4
    assert start.is_met
    assert memory.is_met


def test_the_core_is_measured_on_what_becomes_rows() -> None:
    found = results()
    found.core = [
        Core(events="mixed", microseconds=[11.0, 12.5, 11.5]),
        Core(events="order", microseconds=[20.0]),
    ]
    core = target(found, "CPU of the pure core")
    assert core.measured is not None
    assert core.measured.median == 11.5
    assert core.is_met


def test_a_lost_event_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> Results:
        raise LostEvents("100 events acknowledged, 99 rows")

    monkeypatch.setattr(command, "run", lost)
    ended = CliRunner().invoke(command.app, ["--quick"])
    assert ended.exit_code == 1
    assert "99 rows" in ended.stderr


def test_a_missed_target_is_exit_code_1_only_where_that_is_asked_for(tmp_path: pathlib.Path) -> None:
    slow = [cell(closed(250), name, 1) for name in NAMES]
    results(*slow).write(tmp_path / "results.json")
    show = ["--show", str(tmp_path / "results.json")]
    assert CliRunner().invoke(command.app, show).exit_code == 0
    assert CliRunner().invoke(command.app, [*show, "--check"]).exit_code == 1


@pytest.mark.parametrize("part", [["--quick"], ["--only", "core"]])
def test_the_page_is_not_written_from_a_part(part: list[str]) -> None:
    assert CliRunner().invoke(command.app, ["--docs", *part]).exit_code == 2
