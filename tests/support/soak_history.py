"""The history of a soak: a file that somebody wants, or one that stays only if it proves something wrong."""

import argparse
import pathlib
import shutil
import tempfile

from tests.history.check import CheckedHistory


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the file."""
    parser.add_argument(
        "--history",
        type=pathlib.Path,
        metavar="FILE",
        help="new file for the history; by default a temporary one, which stays only if an invariant is violated",
    )


def new_file(chosen: pathlib.Path | None) -> pathlib.Path:
    """Return the file: the chosen one, or a temporary one."""
    return chosen or pathlib.Path(tempfile.mkdtemp(prefix="sluice-history-")) / "history.ndjson"


def drop(history: CheckedHistory, file: pathlib.Path, chosen: pathlib.Path | None) -> None:
    """Delete a temporary file whose history has no violation."""
    if chosen is None and not history.violations:
        shutil.rmtree(file.parent)
