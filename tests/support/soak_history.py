"""The history of a soak: a file that somebody wants, or one that stays only if something is wrong."""

import argparse
import pathlib
import shutil
import tempfile


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the file."""
    parser.add_argument(
        "--history",
        type=_absent_file,
        metavar="FILE",
        help="new file for the history; by default a temporary one, which stays only if something is wrong",
    )


def _absent_file(path: str) -> pathlib.Path:
    file = pathlib.Path(path)
    if file.exists() or not file.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path}: a history is a new file in a folder that exists")
    return file


def new_file(chosen: pathlib.Path | None) -> pathlib.Path:
    """Return the file: the chosen one, or a temporary one."""
    return chosen or pathlib.Path(tempfile.mkdtemp(prefix="sluice-history-")) / "history.ndjson"


def drop(file: pathlib.Path, chosen: pathlib.Path | None) -> None:
    """Delete a temporary file."""
    if chosen is None:
        shutil.rmtree(file.parent)
