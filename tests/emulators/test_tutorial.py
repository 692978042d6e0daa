"""Pages as somebody follows them, in a new clone: each command is run as it is written, and prints what they show."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterable

import pytest

from tests.support.docs import ROOT
from tests.support.walk import SECOND_SHELL, Step, Walk, is_shown, too_long

pytestmark = pytest.mark.check


def files(folder: pathlib.Path) -> set[str]:
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if not {"__pycache__", ".venv", ".git"} & set(path.parts)}


def follow(walk: Walk, steps: Iterable[Step]) -> None:
    """Follow some steps, the stack of a second shell running until they remove its data."""
    with contextlib.ExitStack() as second_shell:
        for step in steps:
            if step.title == SECOND_SHELL:
                second_shell.enter_context(walk.in_second_shell(step))
                continue
            if "rm -r .sluice" in step.commands:
                second_shell.close()
            walk.follow(step)


def test_demo_prints_what_readme_shows(tmp_path: pathlib.Path) -> None:
    walk = Walk(ROOT / "README.md", tmp_path)
    for name in ("Makefile", "pyproject.toml", "requirements-local.txt", "tools/environment.sh"):
        (walk.clone / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, walk.clone / name)
    (walk.clone / ".venv" / "local-ready").touch()
    demo, *_ = walk.steps()
    assert demo.commands == ("make demo",)
    walk.follow(demo)
    walk.end()


def test_the_tutorial_leads_to_a_replayed_event(tmp_path: pathlib.Path) -> None:
    walk = Walk(ROOT / "docs" / "tutorial.md", tmp_path)
    before = files(walk.clone)
    walk.write_files()
    (demo, *steps) = walk.steps()
    assert demo.commands == ("make demo",), "another test"
    follow(walk, steps)
    assert sum(bool(step.shown) for step in steps) >= 8
    assert files(walk.clone) == before
    walk.end()


def test_new_event_type_is_tried_as_its_page_says(tmp_path: pathlib.Path) -> None:
    walk = Walk(ROOT / "docs" / "add-an-event-type.md", tmp_path)
    (new, *others) = walk.steps()
    follow(walk, [new])
    walk.write_files()
    follow(walk, others)
    walk.end()


def test_a_producer_gets_a_red_test_and_then_a_green_one(tmp_path: pathlib.Path) -> None:
    walk = Walk(ROOT / "docs" / "test-your-producer.md", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", walk.clone)
    walk.write_files()
    (install, *steps) = walk.steps()
    assert install.commands == ("make .venv/ready",), "what this environment is made with"
    follow(walk, steps)
    walk.end()


def test_shown_lines_are_those_that_are_printed() -> None:
    printed = "a 2026-11-29 10:00:00 UTC\nb 1.5 s\nc  7\n"
    assert is_shown("a 2025-01-01 01:02:03 UTC\nb 0.3 s\nc  7\n", printed)
    assert is_shown("...\nb 0.3 s\n...\n", printed)
    assert is_shown("a 2025-01-01 01:02:03 UTC\n...\nc  7\n", printed)
    for other in ("...\nc 7\n", "b 0.3 s\n...\n", "...\nb 0.3 s\n", "...\nb 3 s\n...\n", "...\nc  7\nd\n"):
        assert not is_shown(other, printed), other


def test_only_a_long_value_makes_a_line_long() -> None:
    assert too_long(f"{'word ' * 17}\nlogs: {'/folder' * 12}\n{'word ' * 16}") == ["word " * 17]
