"""Pages as somebody follows them, in a copy of the repository: each command is run as it is written."""

import contextlib
import os
import pathlib
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping

import pytest

from sluice.local import data_folder
from sluice.local.process import running
from tests.support.clone import clone
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check

ROOT = pathlib.Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text()
NEW_TYPE = (ROOT / "docs" / "add-an-event-type.md").read_text()

BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SECOND_SHELL = "second-shell"


def commands(page: str = PAGE) -> Iterator[tuple[str, str]]:
    """Title of the block, and command, in the order of the page."""
    for language, title, text in BLOCK.findall(page):
        if language == "sh":
            yield from ((title, line) for line in text.splitlines())


def own_environment() -> dict[str, str]:
    """The environment of a shell that has no variables of a stack."""
    return {name: value for name, value in os.environ.items() if name != data_folder.VARIABLE} | {"COLUMNS": "200"}


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


def test_the_tutorial_leads_to_a_replayed_event(tmp_path: pathlib.Path) -> None:
    folder = clone(tmp_path / "clone")
    before = files(folder)
    [(repair, text)] = [(title, text) for language, title, text in BLOCK.findall(PAGE) if language == "python"]
    (folder / repair).write_text(text)
    environment = own_environment()
    printed: dict[str, str] = {}
    with contextlib.ExitStack() as second_shell:
        for title, command in commands():
            if title == SECOND_SHELL:
                up = second_shell.enter_context(
                    running("up", shlex.split(command), tmp_path, environment, cwd=folder, inherits=False)
                )
                up.wait_until((folder / ".sluice" / "stack.json").exists)
                continue
            if "ingestion_freshness" in command:
                wait_for_the_last_event(folder, environment)
            if not command.startswith(("make ", "git ")):
                printed[command.removeprefix(".venv/bin/sluice ")] = run(command, folder, environment)
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
    assert files(folder) == before


def test_new_event_type_is_tried_as_its_page_says(tmp_path: pathlib.Path) -> None:
    folder = clone(tmp_path / "clone")
    (_, new), *shells = commands(NEW_TYPE)
    environment = own_environment()
    run(new, folder, environment)
    for _, title, text in BLOCK.findall(NEW_TYPE):
        if "." in title:
            (folder / title).write_text(text)
    (_, up_command), *others = shells
    with running("up", shlex.split(up_command), tmp_path, environment, cwd=folder, inherits=False) as up:
        up.wait_until((folder / ".sluice" / "stack.json").exists)
        printed = {}
        for _, command in others:
            if "trace" not in command:
                printed[command.split()[1]] = run(command, folder, environment)
                continue
            wait_until(lambda: is_traced(command, folder, environment), "the event is a row", pause=1)  # noqa: B023 - at once
            printed["trace"] = run(command, folder, environment)
    assert "1 published" in printed["publish"]
    assert "reviews" in printed["sql"]
    assert re.search(r"^row in \S+\.reviews of ", printed["trace"], re.MULTILINE), printed


def is_traced(command: str, clone: pathlib.Path, environment: Mapping[str, str]) -> bool:
    done = subprocess.run(
        command, shell=True, cwd=clone, env=environment, capture_output=True, timeout=PATIENCE, check=False
    )
    return done.returncode == 0
