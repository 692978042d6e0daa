"""The generated part of `docs/cli.md`: every command, from its own help."""

import inspect
import itertools
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import typer

from sluice.cli import app

FILE = pathlib.Path(__file__).parents[1] / "docs" / "cli.md"

MARK = "<!-- From here on generated from the commands' help, by UPDATE_DOCS=1 make test -->\n"

type _Untyped = Any
"""A command, a parameter or a context, whose classes typer does not export."""


def update() -> str:
    """Return the page with its generated part as it should be."""
    head, _, _ = FILE.read_text(encoding="utf-8").partition(MARK)
    return f"{head}{MARK}\n" + "\n\n".join(_sections()) + "\n"


def _sections() -> Iterator[str]:
    """Yield a heading for each help panel, and a section for each command."""
    root: _Untyped = typer.main.get_command(app)
    commands = [root.commands[name] for name in root.list_commands(root.context_class(root))]
    for panel, members in itertools.groupby(commands, _panel):
        yield f"## {panel}"
        for command in members:
            yield from _command(f"sluice {command.name}", command)


def _panel(command: _Untyped) -> str:
    return str(command.rich_help_panel)


def _command(name: str, command: _Untyped) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    yield f"### {name}"
    yield from _paragraphs(command.help or "")
    members = getattr(command, "commands", None)
    if members is None:
        usage = command.get_usage(context).removeprefix("Usage: ")
        yield f"```text\n{re.sub(r'\s+', ' ', usage)}\n```"
        rows = [_row(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            yield "\n".join(["| | |", "|---|---|", *rows])
    for member in (members or {}).values():
        yield from _command(f"{name} {member.name}", member)


def _row(parameter: _Untyped, context: _Untyped) -> str:
    """Return a row of the table: the option with its value, and its help with default and range."""
    names, text = parameter.get_help_record(context)
    escaped = re.sub(r"\s+", " ", text).replace("|", r"\|").replace("<", "&lt;")
    return f"| `{names.replace('|', '\\|')}` | {escaped} |"


def _paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; the lines of the examples are a block."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        title, *lines = paragraph.splitlines()
        if title == "Examples:":
            yield title
            yield f"```text\n{inspect.cleandoc('\n'.join(['', *lines]))}\n```"
        else:
            yield paragraph.replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(update())
