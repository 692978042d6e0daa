"""The costs of the pipeline on Apache Beam are measured in a few seconds, and the page shows them."""

import pathlib
import statistics

import msgspec
import pytest
from typer.testing import CliRunner

from benchmarks import beam, page
from benchmarks.beam import FILE, TITLES, BeamResults, tables, targets
from sluice.cost import dataflow
from tests.support.requires import missing


@pytest.fixture
def results() -> BeamResults:
    return msgspec.json.decode(FILE.read_bytes(), type=BeamResults)


@pytest.mark.check
def test_a_quick_run_measures_all_ways_and_writes_all_events(tmp_path: pathlib.Path) -> None:
    if not (beam.ENVIRONMENT / "ready").exists():
        missing(beam.HOW_TO_GET)
    file = tmp_path / "results.json"
    run = CliRunner().invoke(beam.app, ["--quick", "--json", str(file)])
    assert run.exit_code == 0, run.output
    results = msgspec.json.decode(file.read_bytes(), type=BeamResults)
    assert results.rows.keys() == results.all.keys() == TITLES.keys()
    assert results.environment.packages > 100
    assert all(few < many for few, many in results.memory.values())


def test_without_beam_nothing_is_measured(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "ENVIRONMENT", tmp_path)
    assert "run `make beam`" in CliRunner().invoke(beam.app, []).output
    assert CliRunner().invoke(beam.app, ["--check"]).exit_code == 1


def test_the_page_shows_the_results_that_are_kept(results: BeamResults) -> None:
    text = page.BEAM.read_text()
    assert page.fill_tables(text, tables(results)) == text, "run .venv/bin/python -m benchmarks.beam --docs"


def test_a_stage_meets_its_targets_or_misses_them(results: BeamResults) -> None:
    fast = msgspec.structs.replace(results, rows={way: [25.0] for way in TITLES} | {"plain": [20.0]})
    assert [target.is_met for target in targets(fast)] == [True] * 6


def test_the_model_of_costs_counts_with_the_kept_results(results: BeamResults, tmp_path: pathlib.Path) -> None:
    assert beam.of(results) == dataflow.read(), "run .venv/bin/python -m benchmarks.beam --docs"
    assert max(results.rows, key=lambda way: statistics.median(results.rows[way])) == beam.LIKE_DATAFLOW
    dataflow.read().write(tmp_path / "beam.json")
    assert (tmp_path / "beam.json").read_bytes() == dataflow.FILE.read_bytes()


def test_the_page_says_which_target_the_kept_results_miss(results: BeamResults) -> None:
    missed = [target.what for target in targets(results) if not target.is_met]
    assert missed == ["from a Pub/Sub message to encoded rows, the same, handed over: CPU against the plain loop"]
    assert "**One target is missed**: small bundles that are handed over" in " ".join(page.BEAM.read_text().split())


def test_a_stage_that_is_too_slow_misses_its_targets(results: BeamResults) -> None:
    slow = msgspec.structs.replace(results, rows={way: [60.0] for way in TITLES} | {"plain": [40.0]})
    assert [target.is_met for target in targets(slow)] == [False] * 6
