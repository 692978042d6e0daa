"""docs/tutorial.md as somebody follows it, in a copy of the repository: each command is run as it is written."""

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

BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SECOND_SHELL = "second-shell"


def commands() -> Iterator[tuple[str, str]]:
    """Title of the block, and command, in the order of the page."""
    for language, title, text in BLOCK.findall(PAGE):
        if language == "sh":
            yield from ((title, line) for line in text.splitlines())


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
    environment = {name: value for name, value in os.environ.items() if name != data_folder.VARIABLE}
    environment["COLUMNS"] = "200"
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
    assert re.search(r"ratings .*?│ +3 │", freshness), printed
    for table in ("orders", "inventory", "user_activity"):
        assert re.search(rf"{table} .*?│ +[1-9]\d* │", freshness), freshness
    assert "maximum" in printed["dead-letters show too-good"]
    assert "$.amount" in printed["dead-letters show too-good"]
    replay = f"dead-letters replay --type rating --transform {repair}"
    assert "1 of 1 would pass" in printed[f"{replay} --dry-run"]
    assert "1 of 1 passed" in printed[replay]
    assert "ratings" in printed["trace too-good"]
    assert files(folder) == before
