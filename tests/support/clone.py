"""A copy of the repository in which a test may change files, with the command line of this environment."""

import pathlib
import shutil
import sys

ROOT = pathlib.Path(__file__).parents[2]

_FOLDERS = ("dataflow", "docs", "functions", "jsonschemas", "sluice", "sql", "terraform", "tests")


def clone(folder: pathlib.Path) -> pathlib.Path:
    """Make the copy, with `sluice` and `pytest` in its `.venv/bin`; return its folder."""
    for name in _FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".terraform*"))
    for name in ("main.py", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name, module in (("sluice", "sluice.cli"), ("pytest", "pytest")):
        program = folder / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    return folder
