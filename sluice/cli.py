"""The `sluice` command line: its commands by panel of the help."""

from __future__ import annotations

import inspect
import signal
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from sluice.commands import contract, dead_letters
from sluice.commands.backfill import backfill
from sluice.commands.beam import beam
from sluice.commands.bootstrap import bootstrap
from sluice.commands.console import console
from sluice.commands.cost import cost
from sluice.commands.drain import drain
from sluice.commands.erase import erase
from sluice.commands.error_messages import command as command_name
from sluice.commands.exit_codes import errors_as_exit_codes
from sluice.commands.package import package
from sluice.commands.plain_text import PlainCommand, PlainGroup
from sluice.commands.publish import generate, publish
from sluice.commands.reconcile import reconcile
from sluice.commands.replay import replay
from sluice.commands.smoke import smoke
from sluice.commands.snapshot import restore, snapshot
from sluice.commands.sql import sql
from sluice.commands.stack import demo, down, env, status, up
from sluice.commands.tail import tail
from sluice.commands.trace import trace
from sluice.commands.verify import verify
from sluice.local.data_folder import use

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PANELS: Mapping[str, Sequence[Callable[..., None] | typer.Typer]] = {
    "Start here": (demo, up, console, status, down, env, generate, publish),
    "Operate": (bootstrap, smoke, verify, drain, reconcile, trace, dead_letters.app, replay),
    "Data": (sql, tail, backfill, beam, snapshot, restore, erase),
    "Contracts": (contract.app,),
    "Project": (cost, package),
}
"""Commands by panel of `sluice --help`, in the order of the help."""

GROUPS = {contract.app: "contract", dead_letters.app: "dead-letters"}
"""Names of the groups of commands."""


class _InOrderOfPanels(PlainGroup):
    """A group that lists its commands in the order of `PANELS`; Typer would list all groups first."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer does not export its Context's base
        return [
            GROUPS[command] if isinstance(command, typer.Typer) else command.__name__
            for commands in PANELS.values()
            for command in commands
        ]


app = typer.Typer(
    cls=_InOrderOfPanels,
    help="Sluice: events from Pub/Sub into BigQuery and Cloud Storage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _prepare(context: typer.Context) -> None:
    """End on SIGTERM and SIGHUP as on Ctrl-C, so that no child process is left; find the local stack.

    A process that a script starts in the background ignores SIGINT, and so would its children.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    command_name.set(context.invoked_subcommand or "")
    if context.invoked_subcommand != down.__name__:  # It ends a stack whose variables are not known, too.
        with errors_as_exit_codes():
            use()


def _help(command: Callable[..., None]) -> str:
    """Return the help text of a command: paragraphs without line breaks, and examples as they are."""
    paragraphs = escape(inspect.cleandoc(command.__doc__ or "")).split("\n\n")
    return "\n\n".join(text if text.startswith("Examples:") else text.replace("\n", " ") for text in paragraphs)


for panel, commands in PANELS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, cls=PlainGroup, name=GROUPS[command], rich_help_panel=panel)
            for registered in command.registered_commands:
                registered.cls = PlainCommand
                registered.help = registered.callback and _help(registered.callback)
        else:
            app.command(cls=PlainCommand, help=_help(command), rich_help_panel=panel)(errors_as_exit_codes()(command))


if __name__ == "__main__":
    app()
