"""The commands `sluice demo` and `sluice up`, which run the local stack."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import time
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from sluice.commands.options import Seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sluice.local.stack import Stack

console = Console(stderr=True)

StandIn = Annotated[
    bool,
    typer.Option("--stand-in", help="Use the built-in stand-in for Pub/Sub even if Google's emulator is installed."),
]


def demo(
    events: Annotated[int, typer.Option(min=100, help="Number of messages to publish.")] = 3_000,
    rate: Annotated[float, typer.Option(min=1, help="Messages per second.")] = 300,
    seed: Seed = 1,
    stand_in: StandIn = False,
) -> None:
    """Run the whole pipeline on this machine and check that no event is lost.

    Examples:
        sluice demo
        sluice demo --events 500 --rate 100

    Exit code 0: every event is accounted for; 1: an event is missing, or the stack did not start.
    """
    from sluice.demo.run import run

    with _stack(stand_in) as stack:
        if not run(Console(), stack, events=events, rate=rate, seed=seed):
            raise typer.Exit(1)


def up(stand_in: StandIn = False) -> None:
    """Run the local stack in the foreground until Ctrl-C.

    The command prints `export` lines with which clients in another shell find the stack.

    Examples:
        sluice up

    Exit code 0: ended by Ctrl-C; 1: a process of the stack did not start, or has ended.
    """
    with _stack(stand_in) as stack, contextlib.suppress(KeyboardInterrupt):
        console.print(f"ingest     {stack.ingest.url}\nbootstrap  {stack.bootstrap.url}\n")
        console.print("For your own client, in another shell:")
        names = {
            "DATASET": stack.settings.dataset,
            "HISTORICAL_DATASET": stack.settings.historical_dataset,
            "LOCATION": stack.settings.location,
            "SLUICE_TOPIC": stack.topic,
            "SLUICE_UNDELIVERABLE": stack.undeliverable,
        }
        for name, value in {**stack.environment, **names}.items():
            print(f"export {name}={value}", flush=True)  # noqa: T201 - for eval
        _wait(stack)


def _wait(stack: Stack) -> NoReturn:
    """Wait for Ctrl-C; end with exit code 1 if a process of the stack ends before."""
    while True:
        for child in stack.children:
            if child.process.poll() is not None:
                console.print(f"[bold red]{child.name} ended with {child.process.returncode}:[/]\n{child.tail()}")
                raise typer.Exit(1)
        time.sleep(0.5)


@contextlib.contextmanager
def _stack(stand_in: bool) -> Iterator[Stack]:
    """Run the local stack in a temporary folder, which is kept if something fails."""
    from sluice.local.process import NotStarted
    from sluice.local.stack import local_stack

    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-"))
    try:
        with console.status("starting the local stack"), contextlib.ExitStack() as starting:
            started = time.monotonic()
            stack = starting.enter_context(local_stack(folder, stand_in=stand_in))
            running = starting.pop_all()
        console.print(f"The local stack is up after {time.monotonic() - started:.1f} s; its logs: {folder}")
        with running:
            # Clients of this process find the emulators as any other client does.
            os.environ.update(stack.environment)
            yield stack
    except NotStarted as error:
        console.print(f"[bold red]The local stack did not start.[/] {error}\nLogs: {folder}")
        raise typer.Exit(1) from error
    except Exception:
        console.print(f"Logs and data are kept: {folder}")
        raise
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
