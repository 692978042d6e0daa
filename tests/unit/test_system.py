"""The functions take the time from `functions/system.py` only. A contract of import-linter has the rest."""

import ast
import pathlib
from collections.abc import Iterator

import pytest

FUNCTIONS = pathlib.Path(__file__).parents[2] / "functions"
FOLDERS = ("archive", "compact", "core", "drain", "events", "ingest", "reconcile")
OTHER_CLOCKS = {"now", "today", "utcnow"}


def _clocks(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in OTHER_CLOCKS
            and ast.unparse(node.value)
            in {
                "date",
                "datetime",
            }
        ):
            yield f"{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_function_reads_another_clock(folder: str) -> None:
    modules = sorted((FUNCTIONS / folder).glob("*.py"))
    assert modules
    assert {module.name: clocks for module in modules if (clocks := [*_clocks(module.read_text())])} == {}


def test_another_clock_would_be_seen() -> None:
    assert [*_clocks("from datetime import datetime\nprint(datetime.now(None))")] == ["2: datetime.now"]
