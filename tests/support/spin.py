"""Spin, which checks a model in Promela exhaustively: https://spinroot.com."""

import pathlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from tests.support.docs import ROOT
from tests.support.requires import missing

MODELS = ROOT / "tests" / "model"

_MAX_DEPTH = 200_000
"""Maximum steps of an execution. Spin reports one that is longer."""

_INCOMPLETE = ("Search not completed", "max search depth too small", "hash-compact", "bit-state", "out of memory")
"""Texts by which Spin reports that it has not visited all states."""


class Search(NamedTuple):
    """The result of a search.

    Attributes:
        errors: Number of violations; the search ends at the first one.
        states: Number of states that were visited.
        depth: Steps of the longest execution without a repeated state.
        output: All that Spin has printed.
    """

    errors: int
    states: int
    depth: int
    output: str

    @property
    def is_complete(self) -> bool:
        """Return whether all states were visited."""
        return "Full statespace search" in self.output and not any(text in self.output for text in _INCOMPLETE)


def search(model: str, macros: Sequence[str], claim: str, folder: pathlib.Path, *, is_fair: bool = False) -> Search:
    """Search the states of a model for a violation of a claim.

    Args:
        model: Name of the file in `tests/model/`, without its ending.
        macros: Macros that choose the parts of the model: `NAME` or `NAME=VALUE`.
        claim: Name of the `ltl` formula.
        folder: A folder for the verifier.
        is_fair: Whether a process that can always go on does so in the end, which claims about the end need.
    """
    # Spin writes beside the model.
    shutil.copy(MODELS / f"{model}.pml", folder)
    _run([_program("spin"), "-a", *(f"-D{macro}" for macro in macros), f"{model}.pml"], folder)
    kind = [] if is_fair else ["-DSAFETY"]
    _run([_program("gcc"), "-O1", "-w", *kind, "-o", "pan", "pan.c"], folder)
    options = ["-a", "-f"] if is_fair else []
    output = _run(["./pan", *options, "-n", f"-m{_MAX_DEPTH}", "-N", claim], folder)
    return Search(_number(r"errors: (\d+)", output), *_states(output), output)


def _states(output: str) -> tuple[int, int]:
    return _number(r"(\d+) states, stored", output), _number(r"depth reached (\d+)", output)


def _number(pattern: str, output: str) -> int:
    match = re.search(pattern, output)
    assert match, output
    return int(match[1])


def _run(command: Sequence[str], folder: pathlib.Path) -> str:
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    output = process.stdout + process.stderr
    assert process.returncode == 0, output
    return output


def _program(name: str) -> str:
    own = ROOT / ".venv" / "spin" / name
    return (
        str(own)
        if own.exists()
        else shutil.which(name) or missing(f"{name} is missing: `make spin` gets it, or Debian's packages spin and gcc")
    )
