"""A copy of the repository in which a test may change files, with the command line of this environment."""

import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).parents[2]

_FOLDERS = ("dataflow", "docs", "functions", "jsonschemas", "sluice", "sql", "tests")


def clone(folder: pathlib.Path) -> pathlib.Path:
    """Make the copy, and `.venv/bin/sluice` in it; return its folder."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("main.py", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    sluice = folder / ".venv" / "bin" / "sluice"
    sluice.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec {sys.executable} -m sluice.cli "$@"\n')
    sluice.chmod(0o755)
    return folder
