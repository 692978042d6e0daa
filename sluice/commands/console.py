"""The command `sluice console`."""

from __future__ import annotations

import socket
from typing import Annotated

import typer

from sluice.commands.command_settings import command_settings
from sluice.local import data_folder

PORT = 27496
"""Port of the console: that of the local stack's own, which never runs at the same time."""


def console(
    port: Annotated[int, typer.Option(min=1024, max=65_535, help="Port on the loopback interface.")] = PORT,
) -> None:
    """Serve web pages that show the stream, the failures and the warehouse, until Ctrl-C.

    The pages only read, with your own credentials, and listen on this machine only. An open live page queries BigQuery
    every 10 seconds, which is billed at least 10 MB for each table. The local stack has a console of its own: then its
    address is printed.

    Examples:
        sluice console
        sluice console --port 8080

    Exit code 0: ended by Ctrl-C, or the local stack's address is printed; 1: the port is taken, or Google Cloud rejects
    a request; 2: a setting is wrong.
    """
    settings = command_settings()
    stack = data_folder.find().running()
    if stack and not data_folder.other_selection(stack):
        typer.echo(next(process.address for process in stack.processes if process.name == "console"))
        return
    from sluice.console.server import serve
    from sluice.console.sources import Sources
    from sluice.queries import short_retry

    sources = Sources(settings, None)
    sources.bigquery.get_dataset(settings.dataset, retry=short_retry())  # An error is better here than on each page.
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        typer.secho(f"port {port} is taken: choose another with --port ({error.strerror})", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"http://127.0.0.1:{port}")
    serve(sources, listening)
