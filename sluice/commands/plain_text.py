"""Help texts and errors of the command line: as Typer shows them on a terminal, and plain text for files and pipes."""

from __future__ import annotations

import inspect
from typing import Any

from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

_EXAMPLES = "Examples:\n"


def _markup_mode(*, stderr: bool = False) -> Any:  # noqa: ANN401 - a type that Typer does not export
    """Return how Typer writes to a stream: with boxes and colours only if it is a terminal."""
    return "rich" if Console(stderr=stderr).is_terminal else None


class _PlainHelp:
    """Writes the help text of a command or group: on a terminal directly, otherwise into Typer's formatter."""

    help: str | None
    rich_markup_mode: Any

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - types that Typer does not export
        """Write the help text."""
        self.rich_markup_mode = _markup_mode()
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the description."""
        text = Text.from_markup(inspect.cleandoc(self.help or "")).plain
        formatter.write_paragraph()
        with formatter.indentation():  # \b: the lines of the examples stay as they are.
            formatter.write_text(text.replace(_EXAMPLES, f"\b\n{_EXAMPLES}"))


class PlainCommand(_PlainHelp, TyperCommand):
    """A command whose help text has boxes and colours only on a terminal."""


class PlainGroup(_PlainHelp, TyperGroup):
    """A group whose help text and errors, and those of its commands, have boxes and colours only on a terminal."""

    def main(self, *args: Any, **more: Any) -> Any:  # noqa: ANN401
        """Run the command, and write its errors."""
        self.rich_markup_mode = _markup_mode(stderr=True)
        return super().main(*args, **more)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write a section for each panel of commands."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            description = Text.from_markup(command.get_short_help_str(limit=1_000)).plain
            panels.setdefault(command.rich_help_panel or "Commands", []).append((name, description))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)
