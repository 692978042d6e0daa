"""The commands of `sluice`, and the examples of their help texts."""

import re
from collections.abc import Iterator
from typing import Any

import typer.main

from sluice.cli import app


def _commands(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in group.list_commands(None):
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from _commands(command, *names, name)
        else:
            yield (*names, name), command


COMMANDS = dict(_commands(typer.main.get_command(app)))
"""All commands by their names, those of groups included, in the order of the help."""


def examples(name: tuple[str, ...]) -> list[str]:
    """Return the lines of the examples in a help text."""
    block = re.search(r"^Examples:\n((?:    .+\n?)+)", COMMANDS[name].help, re.MULTILINE)
    return [line.strip() for line in block[1].splitlines()] if block else []
