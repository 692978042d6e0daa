"""The targets are computed from the cells of a run."""

import dataclasses
import math
import pathlib
from typing import Any

import msgspec
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import plots
from benchmarks.cells import Cell, LostEvents
from benchmarks.cold_start import Start
from benchmarks.core import Core
from benchmarks.drain import Drained
from benchmarks.machine import Machine
from benchmarks.plan import closed, opened, sustained
from benchmarks.results import FILE, Results, read
from benchmarks.servers import NAMES, Name
from benchmarks.tables import brief, tables
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
        rejected={},
        resent=0,
        generator_busy=0.1,
    )
    return msgspec.structs.replace(made, **changes)


def results(*cells: Cell) -> Results:
    return Results(started="", revision="", seconds=1, machine=Machine.here(), cells=[*cells])


def target(of: Results, what: str) -> Target:
    [matching] = [candidate for candidate in targets(of) if candidate.what.startswith(what)]
    return matching


def test_throughput_is_compared_repetition_by_repetition() -> None:
    cells = [cell(closed(250), "plain", number, events_per_second=100.0 * number) for number in (1, 2, 3)]
    cells += [cell(closed(250), "sluice", number, events_per_second=1_100.0 * number) for number in (1, 2, 3)]
    goal = target(results(*cells), "events/s with 250 in flight")
    assert goal.measured is not None
    assert goal.measured.low == pytest.approx(goal.measured.high) == pytest.approx(11)
    assert goal.is_met


def test_the_cost_is_compared_until_an_event_is_durable() -> None:
    goal = target(read(FILE), "cost")
    assert goal.measured is not None
    assert 1 / 10 < goal.measured.median < 1 / 4


def test_the_highest_rate_is_one_that_was_sustained_every_time() -> None:
    rates = [cell(sustained("sluice"), "sluice", number, rate=rate) for number, rate in ((1, 2_000.0), (2, 1_900.0))]
    assert highest(results(*rates), "sluice") == 1_900
    assert highest(results(msgspec.structs.replace(rates[0], share=0.5)), "sluice") is None


BEHIND = {"share": 0.5, "p99": None}


def test_a_p99_without_an_opponents_is_not_measured() -> None:
    plain, ours = cell(opened(300), "plain", 1, **BEHIND), cell(opened(300), "sluice", 1)
    goal = target(results(plain, ours), "p99 at 300/s")
    assert goal.is_met is None
    assert goal.why_not == "plain function: does not sustain 300/s"
    late = cell(opened(300), "plain", 1, p99=1.5)
    assert target(results(late, ours), "p99 at 300/s").is_met is None


def test_a_p99_is_not_measured_if_the_opponent_lacks_it_once() -> None:
    cells = [cell(opened(300), name, number) for name in ("plain", "sluice") for number in (1, 2)]
    assert target(results(*cells), "p99 at 300/s").is_met
    cells[1] = cell(opened(300), "plain", 2, **BEHIND)
    assert target(results(*cells), "p99 at 300/s").is_met is None


@pytest.mark.parametrize("plain", [{}, BEHIND])
def test_a_p99_is_infinite_where_sluice_does_not_keep_up(plain: dict[str, Any]) -> None:
    cells = [cell(opened(300), "plain", 1, **plain), cell(opened(1_500), "sluice", 1, **BEHIND)]
    goal = target(results(*cells), "p99 at 1 500/s")
    assert goal.measured is not None
    assert goal.measured.median == math.inf
    assert goal.is_met is False


def test_without_a_run_every_target_says_why_it_is_not_measured() -> None:
    for goal in targets(results()):
        assert goal.is_met is None
        assert goal.why_not.endswith((": not run", "were not measured"))


def test_no_value_per_event_without_acknowledged_events() -> None:
    """Zero uploads for an event would meet the target."""
    cells = [cell(opened(300), "plain", 1), cell(opened(300), "sluice", 1, acknowledged=0, uploads=None, cpu=None)]
    assert target(results(*cells), "uploads per event").is_met is None


def test_an_opponent_that_acknowledged_nothing_is_not_outperformed() -> None:
    cells = [cell(closed(250), "plain", 1, events_per_second=0.0), cell(closed(250), "sluice", 1)]
    goal = target(results(*cells), "events/s with 250 in flight")
    assert goal.is_met is None
    assert goal.why_not == "plain function: the value is 0"


def test_an_opponent_that_the_load_generator_limits_is_not_measured() -> None:
    scenario = closed(250, at_once=True)
    cells = [cell(scenario, "empty", 1, generator_busy=0.99), cell(scenario, "sluice", 1)]
    goal = target(results(*cells), "requests/s with 250 in flight")
    assert goal.is_met is None
    assert goal.why_not == "empty function: limited by the load generator"


def test_the_highest_rate_is_proven_in_each_repetition() -> None:
    cells = [cell(sustained("sluice"), "sluice", number, rate=2_000.0) for number in (1, 2)]
    other = [cell(opened(300), "sluice", number) for number in (1, 2, 3)]
    assert highest(results(*cells), "sluice") == 2_000
    assert highest(results(*cells, *other), "sluice") is None
    failed = cell(sustained("sluice"), "sluice", 3, rate=1_900.0, **BEHIND)
    assert highest(results(*cells, failed, *other), "sluice") is None


def test_tables_show_missing_measurements() -> None:
    cells = [cell(opened(300), "plain", 1, **BEHIND), cell(opened(300), "sluice", 1)]
    shown = {table.name: table for table in [*tables(results(*cells)), brief(results(*cells))]}
    row = next(row for row in shown["targets"].rows if row[0].startswith("p99 at 300/s"))
    assert row[2:] == ("-", "not measured: plain function: does not sustain 300/s")
    assert [row[1:] for row in shown["brief"].rows] == [
        ("not measured", "not measured"),
        ("not measured", "not measured"),
        ("does not sustain 300/s", "100 ms, 200 ms"),
    ]
    assert [row[-1].split(":")[0] for row in shown["cost"].rows] == ["not measured", "not measured"]


def test_brief_table_names_the_machine() -> None:
    measured = results()
    measured.machine = Machine("A processor", 2, 8, "Linux", "3.13.0", pinned=True)
    measured.started, measured.revision = "2026-11-28T08:00:00+00:00", "abc"
    note = "Measured on A processor, 2 cores, Python 3.13.0, 2026-11-28, revision abc: `make bench`."
    assert brief(measured).markdown().endswith(f"|\n\n{note}\n")
    measured.machine = dataclasses.replace(measured.machine, cores=1, pinned=False)
    assert "A processor, 1 core, of which the function has none alone, Python" in brief(measured).note


def test_a_rate_that_the_load_generator_limits_is_a_lower_bound() -> None:
    limited = cell(sustained("empty"), "empty", 1, rate=20_000.0, generator_busy=0.99)
    shown = {table.name: table.rows for table in tables(results(limited))}
    assert ("highest sustained rate, empty function", "at least 20 000/s") in shown["machine"]
    assert shown["open"][0][-1] == "yes, limited by the load generator"


def test_cost_plot_shows_missing_measurements() -> None:
    axes = Figure().add_subplot()
    plots._cost(results(cell(opened(300), "plain", 1)), axes)
    assert [text.get_text() for text in axes.texts] == ["not measured"]


def test_cold_starts_are_compared_individually() -> None:
    measured = results()
    for seconds in (1.0, 2.0):
        for name in NAMES:
            took = seconds * (0.4 if name == "sluice" else 1.0)
            measured.starts.append(Start(of=name, compiled=True, event="order", seconds=took, memory=10**8))
            measured.starts.append(Start(of=name, compiled=False, event="order", seconds=9.0, memory=10**9))
    start, memory = target(measured, "cold start"), target(measured, "memory")
    assert start.measured is not None
    assert start.measured.low == start.measured.high == 0.4
    assert start.is_met
    assert memory.is_met
    measured.starts.append(Start(of="sluice", compiled=True, event="order", seconds=0.1, memory=1))
    assert target(measured, "cold start").is_met is None


def test_core_target_uses_the_mixed_events() -> None:
    measured = results()
    measured.core = [
        Core(events="mixed", microseconds=[11.0, 12.5, 11.5]),
        Core(events="order", microseconds=[20.0]),
    ]
    core = target(measured, "CPU of the pure core")
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


def checked(measured: Results, file: pathlib.Path, *options: str) -> int:
    """Return the exit code of a check of results."""
    measured.write(file)
    return CliRunner().invoke(command.app, ["--show", str(file), *options]).exit_code


def test_a_missed_target_is_exit_code_1_only_with_check(tmp_path: pathlib.Path) -> None:
    slow = results()
    slow.core = [Core(events="mixed", microseconds=[13.0])]
    assert checked(slow, tmp_path / "results.json", "--only", "core") == 0
    assert checked(slow, tmp_path / "results.json", "--only", "core", "--check") == 1


def test_unmeasured_target_fails_a_check_that_includes_it(tmp_path: pathlib.Path) -> None:
    measured = results()
    measured.core = [Core(events="mixed", microseconds=[11.0])]
    measured.drain = [Drained(events="orders of 500 bytes", message_bytes=500, microseconds=[50.0])]
    assert checked(measured, tmp_path / "results.json") == 0
    assert checked(measured, tmp_path / "results.json", "--only", "core", "--check") == 0
    assert checked(measured, tmp_path / "results.json", "--check") == 1


@pytest.mark.parametrize("part", [["--quick"], ["--only", "core"]])
def test_the_page_is_not_written_from_a_part(part: list[str]) -> None:
    assert CliRunner().invoke(command.app, ["--docs", *part]).exit_code == 2
