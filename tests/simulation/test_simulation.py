"""The simulation keeps every promise, repeats itself, and finds the bugs that are planted."""

import math
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import hypothesis.errors
import pytest

from sluice.doc_tables import Table, fill_tables
from tests.simulation import campaign
from tests.simulation.planted import PLANTED
from tests.simulation.seeds import KINDS, run_all

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reliability.md"
SEEDS = 40
MANY_SEEDS = 1_000
SEEDS_OF_A_BUG = 1_000


def _simulation(*arguments: str, status: int = 0) -> list[str]:
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    run = subprocess.run(command, capture_output=True, check=False, text=True)
    assert run.returncode == status, run.stderr
    return run.stdout.splitlines()


def _check_scenarios(first: int, seeds: int) -> None:
    result = run_all(first, seeds)
    assert (result.scenarios, result.failed) == (sum(math.ceil(seeds / step) for step in KINDS.values()), ())
    assert result.faults > seeds


def test_scenarios_keep_every_promise() -> None:
    _check_scenarios(0, SEEDS)


@pytest.mark.check
def test_many_scenarios_keep_every_promise() -> None:
    _check_scenarios(1_000, MANY_SEEDS)


@pytest.mark.check
@pytest.mark.parametrize("kind", campaign.KINDS)
def test_a_seed_always_has_the_same_history(kind: str) -> None:
    history = _simulation("--replay", kind, "3")
    assert len(history) > 10
    assert history == _simulation("--replay", kind, "3")


def test_a_search_for_the_smallest_failure_finds_none() -> None:
    with campaign.simulated(), pytest.raises(hypothesis.errors.NoSuchExample):
        campaign.smallest("archive", 20)


@pytest.mark.check
def test_a_planted_bug_is_shrunk_to_the_simplest_scenario() -> None:
    [number] = (index for index, bug in enumerate(PLANTED) if bug.text.startswith("deletes originals before"))
    *history, plan = _simulation("--planted", str(number), "--shrink", "archive", "--seeds", "20", status=1)
    assert re.match(r"seed \d+, \{'objects': 2, 'bad_events': False, 'late_objects': 0, 'compactions': 1,", plan)
    assert any(" !  " in line for line in history)


@pytest.mark.check
def test_every_planted_bug_is_found() -> None:
    """The first seeds are written into the page with UPDATE_DOCS set: other code has other ones."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        numbers = map(str, range(len(PLANTED)))
        outputs = threads.map(lambda number: _simulation("--planted", number, "--seeds", str(SEEDS_OF_A_BUG)), numbers)
        seeds = [seed for (seed,) in outputs]
    assert [planted.text for planted, seed in zip(PLANTED, seeds, strict=True) if seed == "None"] == []
    if "UPDATE_DOCS" in os.environ:
        rows = [[bug.text, f"`{bug.module}`", bug.kind, seed] for bug, seed in zip(PLANTED, seeds, strict=True)]
        table = Table("planted", "Planted bugs", ("the code", "module", "scenarios", ">first seed"), rows)
        PAGE.write_text(fill_tables(PAGE.read_text(), [table]))


def test_the_page_has_each_planted_bug() -> None:
    section = PAGE.read_text().partition("<!-- planted -->")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| (\w+) \| \d+ \|$", section, re.MULTILINE)
    assert rows == [(bug.text, bug.module, bug.kind) for bug in PLANTED]


def test_no_seeds_are_an_error() -> None:
    assert _simulation("--seeds", "0", status=2) == []
