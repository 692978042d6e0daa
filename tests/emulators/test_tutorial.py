"""Pages as somebody follows them, in a copy of the repository: each command is run as it is written."""

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
NEW_TYPE = (ROOT / "docs" / "add-an-event-type.md").read_text()

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


def commands(page: str = PAGE) -> Iterator[tuple[str, str]]:
    """Title of the block, and command, in the order of the page."""
    for language, title, text in BLOCK.findall(page):
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
    assert re.search(r"ratings .*?│ +3 │", freshness), printed
    for table in ("orders", "inventory", "user_activity"):
        assert re.search(rf"{table} .*?│ +[1-9]\d* │", freshness), freshness
    assert "maximum" in printed["dead-letters show too-good"]
    assert "$.amount" in printed["dead-letters show too-good"]
    replay = f"dead-letters replay --type rating --transform {repair}"
    assert "1 of 1 would pass" in printed[f"{replay} --dry-run"]
    assert "1 of 1 passed" in printed[replay]
    assert "ratings" in printed["trace too-good"]
    assert files(clone) == before


def test_new_event_type_is_tried_as_its_page_says(clone: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (_, new), *shells = commands(NEW_TYPE)
    environment = {**os.environ, "COLUMNS": "200"}
    run(new, clone, environment)
    for _, title, text in BLOCK.findall(NEW_TYPE):
        if "." in title:
            (clone / title).write_text(text)
    (_, up_command), *others = shells
    with running("up", shlex.split(up_command), tmp_path, cwd=clone) as up:
        up.wait_until(lambda: "SLUICE_UNDELIVERABLE" in exported(up.log))
        environment |= exported(up.log)
        printed = {}
        for _, command in others:
            if "trace" not in command:
                printed[command.split()[1]] = run(command, clone, environment)
                continue
            wait_until(lambda: is_traced(command, clone, environment), "the event is a row", pause=1)  # noqa: B023 - at once
            printed["trace"] = run(command, clone, environment)
    assert "1 published" in printed["publish"]
    assert "reviews" in printed["sql"]
    assert re.search(r"^row in \S+\.reviews of ", printed["trace"], re.MULTILINE), printed


def is_traced(command: str, clone: pathlib.Path, environment: Mapping[str, str]) -> bool:
    done = subprocess.run(
        command, shell=True, cwd=clone, env=environment, capture_output=True, timeout=PATIENCE, check=False
    )
    return done.returncode == 0
