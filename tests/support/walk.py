"""A page as a newcomer follows it: a new clone, an empty home, no variables, and no terminal.

A `text` block below a block of shell is what its commands print. A line `...` stands for lines that are left out.
"""

import contextlib
import os
import pathlib
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import NamedTuple

from sluice.local.process import Child, running
from tests.support.clone import clone
from tests.support.docs import blocks
from tests.support.waiting import FACTOR, PATIENCE

SECOND_SHELL = "second-shell"
"""Title of a block whose command keeps running."""

PLACE = "/home/you/sluice"
"""The folder of the clone, in what the pages show."""

_STEP = re.compile(r"^```sh(?: title=(\S+))?\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
_WIDTH = 80
_LONG_VALUE = 40
_VALUE = re.compile(r'"[^"]*"|\S+')
_LEFT_OUT = "..."

_READERS = re.compile(r"sluice (sql|trace|dead-letters (list|show)) ")
"""Commands that show what arrives some moments after it was published."""

_READER_SECONDS = 30 * FACTOR

_DIFFERENT = (
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"DATE[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z| UTC)?", "TIME"),
    (r"\braw/\S+", "OBJECT"),
    (r"\b[0-9a-f]{7,40}(-dirty)?\b", "ID"),
    (r"\bmessage \d+", "message N"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\b(\d+) of \1\b", "N of N"),
    (r"\d+\.\d+", "N"),
)
"""Patterns of what differs from one run to the next: times, ids, ports, a number of all events, which depends on the
time of day, and durations and sizes, which have decimals."""


class Step(NamedTuple):
    """A block of shell.

    Attributes:
        title: Title of the block.
        commands: Its lines.
        shown: What they print, as the page has it; empty if it does not show it.
    """

    title: str
    commands: tuple[str, ...]
    shown: str


def _step(block: re.Match[str]) -> Step:
    return Step(block[1] or "", tuple(block[2].splitlines()), block[3] or "")


def normalised(text: str) -> list[str]:
    """Return the lines of an output without what differs from one run to the next."""
    for pattern, name in _DIFFERENT:
        text = re.sub(pattern, name, text)
    return [line.rstrip() for line in text.rstrip().splitlines()]


def is_shown(shown: str, printed: str) -> bool:
    """Return whether an output is what the page shows of it."""
    parts: list[list[str]] = [[]]
    for line in normalised(shown):
        if line == _LEFT_OUT:
            parts.append([])
        else:
            parts[-1].append(re.escape(line) + "\n")
    pattern = "(?:.*\n)*?".join("".join(part) for part in parts)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in normalised(printed))) is not None


def too_long(text: str) -> list[str]:
    """Return the lines that are wider than 80 columns, unless one long value makes them so."""
    return [
        line for line in text.splitlines() if len(line) > _WIDTH and max(map(len, _VALUE.findall(line))) <= _LONG_VALUE
    ]


class Walk:
    """Follows a page.

    Args:
        page: The page.
        folder: An empty folder.
    """

    def __init__(self, page: pathlib.Path, folder: pathlib.Path) -> None:
        self._page, self._folder = page, folder
        self.clone = clone(folder / "clone")
        self.environment = {"HOME": str(folder / "home"), "PATH": os.defpath, "LC_ALL": "C"}
        pathlib.Path(self.environment["HOME"]).mkdir()
        for command in (
            "init --quiet",
            "add .",
            "-c user.name=you -c user.email=you@example.com commit --quiet -m new",
        ):
            self.run(f"git {command}")
        self._differing: dict[Step, str] = {}

    def write_files(self) -> None:
        """Write the files whose blocks have a name."""
        for _, title, text in blocks(self._page):
            if "." in title:
                (self.clone / title).write_text(text)

    def steps(self) -> Iterator[Step]:
        """Yield the blocks of shell."""
        yield from map(_step, _STEP.finditer(self._page.read_text()))

    @contextlib.contextmanager
    def in_second_shell(self, step: Step) -> Iterator[Child]:
        """Run the command of a block, `sluice up`, while the context lasts, and compare what it has printed."""
        [command] = step.commands
        with running(
            "up", shlex.split(command), self._folder, self.environment, cwd=self.clone, inherits=False
        ) as child:
            child.wait_until((self.clone / ".sluice" / "stack.json").exists)
            yield child
            self._compare(step, child.log.read_text())

    def follow(self, step: Step) -> str:
        """Run the commands of a block, compare what they print with what the page shows, and return it."""
        deadline = time.monotonic() + _READER_SECONDS
        printed = "".join(map(self.run, step.commands))
        while not is_shown(step.shown, printed) and time.monotonic() < deadline and self._only_reads(step):
            time.sleep(1)
            printed = "".join(map(self.run, step.commands))
        self._compare(step, printed)
        return printed

    def run(self, command: str) -> str:
        """Run a line of shell, which must succeed, and return what it prints."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.clone,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        printed = done.stdout.decode()
        assert done.returncode == 0, f"{command}: {printed}"
        return printed

    def end(self) -> None:
        """Check that no block differs, or with UPDATE_DOCS write those that do into the page.

        Raises:
            AssertionError: A block differs, or the commands left something in the home.
        """
        names = [path.name for path in pathlib.Path(self.environment["HOME"]).iterdir()]
        assert not names, names
        if "UPDATE_DOCS" in os.environ:
            self._page.write_text(_STEP.sub(self._updated, self._page.read_text()))
            return
        for step, printed in self._differing.items():
            raise AssertionError(f"{step.commands} prints, where the page shows something else:\n{printed}")

    def _updated(self, block: re.Match[str]) -> str:
        """Return a block with what its commands print; one that shows only a part of it has to be cut again by hand."""
        step = _step(block)
        printed = self._differing.get(step, step.shown)
        return block[0].removesuffix(f"{step.shown}```") + f"{printed.rstrip()}\n```" if step.shown else block[0]

    @staticmethod
    def _only_reads(step: Step) -> bool:
        return all(map(_READERS.search, step.commands))

    def _compare(self, step: Step, printed: str) -> None:
        printed = printed.replace(str(self.clone), PLACE)
        assert not (lines := too_long(printed)), (step.commands, lines)
        if step.shown and not is_shown(step.shown, printed):
            self._differing[step] = printed
