"""`sluice package`."""

import pathlib
from typing import Annotated

import typer
from rich.console import Console

from sluice.package import ROOT, build

_console = Console(stderr=True, soft_wrap=True, highlight=False)


def package(
    output: Annotated[pathlib.Path, typer.Option(dir_okay=False, help="Where to write it.")] = ROOT / "dist/sluice.zip",
    list_: Annotated[bool, typer.Option("--list", help="Print the names of its files.")] = False,
) -> None:
    """Build the zip that is deployed: the functions and what they read, nothing else.

    The same files make the same bytes on every machine, so its digest names a version. Exit code 1: not written; says
    why.
    """
    try:
        built = build(output)
    except OSError as error:
        _console.print(f"[bold red]No package:[/] {error}")
        raise typer.Exit(1) from error
    if list_:
        print("\n".join(built.names))  # noqa: T201
    _console.print(f"{built.file}: {len(built.names)} files, {built.size / 1024:.0f} KiB, sha256 {built.digest}")
