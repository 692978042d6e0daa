"""The command line: help texts are grouped, have examples that parse, and need no heavy package."""

import contextlib
import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from sluice.cli import PANELS, app
from tests.support.help_texts import COMMANDS, examples

HEAVY = (
    "google.api_core",
    "google.auth",
    "google.cloud.bigquery",
    "google.cloud.storage",
    "google.protobuf",
    "grpc",
    "httpx",
    "jinja2",
    "numpy",
    "pyarrow",
    "requests",
    "sqlglot",
    "starlette",
    "urllib3",
)
"""Packages that no help text needs."""


HELPS = [(), ("contract",), ("dead-letters",), *COMMANDS]


@pytest.mark.parametrize("name", HELPS, ids=" ".join)
def test_a_help_text_imports_no_heavy_package(name: tuple[str, ...]) -> None:
    code = f"""
import sys
from sluice.cli import app
try:
    app({[*name, "--help"]!r})
finally:
    print(*sys.modules, file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, "Usage" in ran.stdout) == (0, True), ran.stderr
    modules = ran.stderr.split()
    assert [package for package in HEAVY if package in modules] == []


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_a_help_text_has_examples_that_parse(
    name: tuple[str, ...], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("events.ndjson", "fix.py", "ids.txt"):
        pathlib.Path(file).touch()
    lines = examples(name)
    assert lines
    calls = [call.strip() for line in lines for call in re.split(r"[|>]|&&", line)]
    own = [call for call in calls if call.startswith(f"sluice {' '.join(name)}")]
    assert len(own) == len(lines)
    for call in calls:
        if call.startswith("sluice "):
            arguments = shlex.split(call)[1:]
            names = next(other for other in COMMANDS if tuple(arguments[: len(other)]) == other)
            with contextlib.closing(COMMANDS[names].make_context(names[-1], arguments[len(names) :])):
                pass  # The context checks the name and the value of each option.


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_an_example_fits_into_80_columns(name: tuple[str, ...]) -> None:
    assert [line for line in examples(name) if len(line) > 80 - len("      ")] == []


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_each_option_has_a_help_text(name: tuple[str, ...]) -> None:
    assert [parameter.name for parameter in COMMANDS[name].params if not parameter.help] == []


def on_terminal(*arguments: str) -> str:
    """Return what a command writes to a terminal, without the styles."""
    return re.sub(r"\x1b\[[\d;]*m", "", CliRunner().invoke(app, arguments, env={"TTY_COMPATIBLE": "1"}).output)


def test_the_help_has_a_box_for_each_panel_on_a_terminal() -> None:
    text = on_terminal("--help")
    assert re.findall(r"╭─ (.+?) ─", text) == ["Options", *PANELS]
    listed = re.findall(r"^│ ([a-z][a-z-]*) ", text, re.MULTILINE)
    assert sorted(listed) == sorted({name[0] for name in COMMANDS})


def test_the_help_has_a_heading_for_each_panel_in_a_pipe() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    assert re.findall(r"^(\w.+):$", text, re.MULTILINE) == ["Options", *PANELS]
    listed = re.findall(r"^  ([a-z][a-z-]*)  ", text, re.MULTILINE)
    assert sorted(listed) == sorted({name[0] for name in COMMANDS})


@pytest.mark.parametrize("name", HELPS, ids=" ".join)
def test_a_help_text_in_a_pipe_is_plain_and_complete(name: Sequence[str]) -> None:
    text = CliRunner().invoke(app, [*name, "--help"]).output
    assert text.isascii()
    assert [line for line in text.splitlines() if len(line) > 80 or line != line.rstrip()] == []
    if name in COMMANDS:
        assert "".join(f"      {line}\n" for line in examples(tuple(name))) in text


@pytest.mark.parametrize("arguments", [[], ["sql", "--nonsense"], ["publish"], ["snapshot", "--days", "x"], ["sq"]])
def test_a_wrong_call_in_a_pipe_is_plain_text(arguments: Sequence[str]) -> None:
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 2
    assert ended.stderr.startswith("Usage: ")
    assert ended.stderr.isascii()
    if arguments:
        assert re.fullmatch("Error: .+", ended.stderr.splitlines()[-1])


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_each_command_names_a_wrong_option_in_a_line(name: Sequence[str]) -> None:
    ended = CliRunner().invoke(app, [*name, "--nonsense"])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1].startswith("Error: No such option: --nonsense")


def test_a_wrong_call_has_a_box_on_a_terminal() -> None:
    assert "╭─ Error ─" in on_terminal("sql", "--nonsense")


@pytest.mark.parametrize("name", COMMANDS, ids=" ".join)
def test_a_paragraph_of_a_help_text_wraps_at_the_width(name: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 1_000)
    text = on_terminal(*name, "--help").partition("Usage")[2].partition("╭")[0]
    prose = [line.strip() for line in text.splitlines()[1:] if line.strip() and not line.startswith("     ")]
    assert [line for line in prose if not line.endswith((".", "Examples:"))] == []
