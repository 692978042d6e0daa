"""docs/tutorial.md as somebody follows it, in a copy of the repository: each command is run as it is written."""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from sluice.local.process import running
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()

BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

FOLDERS = ("docs", "functions", "jsonschemas", "sluice", "sql", "tests")
SECOND_SHELL = "second-shell"


@pytest.fixture
def clone(tmp_path: pathlib.Path) -> pathlib.Path:
    """A clone in which everything is installed."""
    folder = tmp_path / "clone"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("main.py", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    sluice = folder / ".venv" / "bin" / "sluice"
    sluice.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec {sys.executable} -m sluice.cli "$@"\n')
    sluice.chmod(0o755)
    return folder


def commands() -> Iterator[tuple[str, str]]:
    """Title of the block, and command, in the order of the page."""
    for language, title, text in BLOCK.findall(PAGE):
        if language == "sh":
            yield from ((title, line) for line in text.splitlines())


def exported(log: pathlib.Path) -> dict[str, str]:
    """The variables of the export lines that `sluice up` has printed."""
    return dict(re.findall(r"^export (\w+)=(.*)$", log.read_text(), re.MULTILINE))


def files(folder: pathlib.Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not {"__pycache__", ".venv"} & set(path.parts)}


def run(command: str, clone: pathlib.Path, environment: Mapping[str, str]) -> str:
    """Run a line of shell, which must succeed, and return what it prints."""
    done = subprocess.run(
        command, shell=True, cwd=clone, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def wait_for_the_last_event(clone: pathlib.Path, environment: Mapping[str, str]) -> None:
    listing = ".venv/bin/sluice dead-letters list"
    wait_until(lambda: "too-good" in run(listing, clone, environment), "the last event is there", pause=1)


def test_the_tutorial_leads_to_a_replayed_event(clone: pathlib.Path, tmp_path: pathlib.Path) -> None:
    before = files(clone)
    [(repair, text)] = [(title, text) for language, title, text in BLOCK.findall(PAGE) if language == "python"]
    (clone / repair).write_text(text)
    environment = {**os.environ, "COLUMNS": "200"}
    printed: dict[str, str] = {}
    with contextlib.ExitStack() as second_shell:
        for title, command in commands():
            if title == SECOND_SHELL:
                up = second_shell.enter_context(running("up", shlex.split(command), tmp_path, cwd=clone))
                up.wait_until(lambda: "SLUICE_UNDELIVERABLE" in exported(up.log))  # noqa: B023 - it is called at once
                environment |= exported(up.log)
                continue
            if "ingestion_freshness" in command:
                wait_for_the_last_event(clone, environment)
            if not command.startswith(("make ", "git ")):
                printed[command.removeprefix(".venv/bin/sluice ")] = run(command, clone, environment)
    assert "300 published" in printed["publish shop.ndjson"]
    freshness = printed["sql ingestion_freshness"]
    assert re.search(r"ratings .*? 3 ", freshness), printed
    for table in ("orders", "inventory", "user_activity"):
        assert re.search(rf"{table} .*? [1-9]\d* ", freshness), freshness
    assert "maximum" in printed["dead-letters show too-good"]
    assert "$.amount" in printed["dead-letters show too-good"]
    replay = f"dead-letters replay --type rating --transform {repair}"
    assert "1 of 1 would pass" in printed[f"{replay} --dry-run"]
    assert "1 of 1 passed" in printed[replay]
    assert "ratings" in printed["trace too-good"]
    assert files(clone) == before
