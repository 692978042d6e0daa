"""The command `sluice package`."""

import pathlib
from typing import Annotated

import typer
from rich.console import Console

from sluice.package import ROOT, build

_console = Console(stderr=True, soft_wrap=True, highlight=False)


def package(
    output: Annotated[
        pathlib.Path,
        typer.Option(
            dir_okay=False, help="File to write; default: dist/sluice.zip in the repository.", show_default=False
        ),
    ] = ROOT / "dist/sluice.zip",
    list_: Annotated[bool, typer.Option("--list", help="Print the names of the files in the zip.")] = False,
) -> None:
    """Build the zip to deploy: the functions and the files that they read.

    The same files give the same bytes on every machine, so the digest of the zip identifies a version.

    Examples:
        sluice package
        sluice package --output dist/sluice.zip --list

    Exit code 0: the zip is written; 1: it could not be written.
    """
    try:
        built = build(output)
    except OSError as error:
        _console.print(f"[bold red]Not written:[/] {error}")
        raise typer.Exit(1) from error
    if list_:
        print("\n".join(built.names))  # noqa: T201
    _console.print(f"{built.file}: {len(built.names)} files, {built.size / 1024:.0f} KiB, sha256 {built.digest}")
