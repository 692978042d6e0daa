"""The whole of it, for a few seconds."""

import json
import os
import pathlib
import re
import subprocess
import sys

import msgspec
import pytest

from benchmarks import page, plots
from benchmarks.results import FILE, Results, read
from benchmarks.tables import brief, tables
from tests.support.docs import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


@pytest.mark.check
def test_a_quick_run_measures_all_three_and_loses_nothing(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(file)]
    wide = {**os.environ, "COLUMNS": "250"}
    run = subprocess.run(command, cwd=ROOT, env=wide, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    results = read(file)
    assert {cell.of for cell in results.cells} == {start.of for start in results.starts} == {"plain", "sluice", "empty"}
    assert all(cell.acknowledged and not cell.rejected for cell in results.cells)
    assert results.ceiling is not None
    assert results.ceiling.requests_per_second > 0
    assert results.backfill is not None
    assert "events/s with 250 in flight" in re.sub(r"\s+", " ", run.stdout)
    written = page.fill_tables(page.FILE.read_text(), tables(results))
    assert page.fill_tables(written, tables(results)) == written
    assert [drawn.stat().st_size > 10_000 for drawn in plots.draw(results, tmp_path)] == [True] * 4


def test_the_page_shows_the_results_that_are_kept() -> None:
    text = page.FILE.read_text()
    assert page.fill_tables(text, tables(read(FILE))) == text, "run .venv/bin/python -m benchmarks --docs --show FILE"
    text = page.README.read_text()
    assert page.fill_tables(text, [brief(read(FILE))]) == text, "run .venv/bin/python -m benchmarks --docs --show FILE"


def test_every_plot_of_the_pages_is_there() -> None:
    text = page.FILE.read_text() + page.OVERLOAD.read_text()
    shown = re.findall(r"\]\((performance/\w+\.png)\)", text)
    assert {(page.FILE.parent / name).resolve() for name in shown} == {*plots.FOLDER.glob("*.png")}


def test_a_page_without_a_place_for_a_table_is_an_error() -> None:
    results = json.dumps({"started": "", "revision": "", "seconds": 1, "machine": _MACHINE})
    drawn = tables(msgspec.json.decode(results, type=Results))
    with pytest.raises(ValueError, match="no marker for"):
        page.fill_tables("nothing", drawn)


_MACHINE = {"cpu": "", "cores": 2, "memory_gib": 1, "system": "", "python": "", "pinned": True}
