"""The commands of the local stack: `sluice demo`, `up`, `status`, `down` and `env`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shlex
import shutil
import sys
import tempfile
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from sluice.checkout import command
from sluice.commands.options import Csv, Json, Seed
from sluice.formatting import print_rows, printable
from sluice.local import data_folder
from sluice.local.client_environment import ClientKind, client_variables, shell_lines
from sluice.local.data_folder import DataFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sluice.local.data_folder import RunningStack
    from sluice.local.live_stack import LiveStack
    from sluice.local.status import Status

console = Console(stderr=True)

PORT = 27490
"""First port of the stack of `sluice up`."""

_LOOK_SECONDS = 0.4
"""Seconds between two looks at the processes and the code."""

_RESTART_SECONDS = 10.0
"""Minimum seconds between two starts of the console."""

StandIn = Annotated[
    bool,
    typer.Option("--stand-in", help="Use the built-in stand-in for Pub/Sub even if Google's emulator is installed."),
]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--data-dir",
        envvar=data_folder.VARIABLE,
        help="Folder for data and logs; default: .sluice, here or in a folder above.",
        show_default=False,
    ),
]


def demo(
    events: Annotated[int, typer.Option(min=100, help="Number of messages to publish.")] = 3_000,
    rate: Annotated[float, typer.Option(min=1, help="Messages per second.")] = 300,
    seed: Seed = 1,
    stand_in: StandIn = False,
) -> None:
    """Run the whole pipeline on this machine and check that no event is lost.

    On a terminal it asks at the end whether to keep the stack running, as `sluice up` does, until Ctrl-C. The data go
    with it.

    Examples:
        sluice demo
        sluice demo --events 500 --rate 100

    Exit code 0: every event is accounted for; 1: an event is missing, or the stack did not start.
    """
    from sluice.demo.run import run

    with _demo_folder() as folder, _stack(DataFolder(folder), stand_in) as stack:
        if not run(Console(), stack, events=events, rate=rate, seed=seed):
            raise typer.Exit(1)
        if sys.stdin.isatty() and sys.stdout.isatty() and _confirmed("Keep the stack running?"):
            _show(stack, folder)
            with contextlib.suppress(KeyboardInterrupt):
                _wait(stack, reload=True)


def up(
    port: Annotated[
        int, typer.Option(min=1024, max=65_000, help="First of its seven ports; one that is taken is replaced.")
    ] = PORT,
    data_dir: DataDir = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data of the last stack first.")] = False,
    reload: Annotated[
        bool, typer.Option(help="Serve a change of contracts, handlers or SQL as soon as its file is saved.")
    ] = True,
    stand_in: StandIn = False,
) -> None:
    """Run the local stack in the foreground until Ctrl-C, or `sluice down`.

    The commands find the stack by themselves, in this folder and those below. `sluice env` sets a shell for other
    clients. Tables and archive stay for the next time; messages that the function has not taken yet do not, as the
    emulators of Pub/Sub keep them in memory.

    Examples:
        sluice up
        sluice up --fresh --port 28000

    Exit code 0: ended by Ctrl-C or `sluice down`; 1: a process did not start or has ended, or a stack runs already.
    """
    data = _folder(data_dir)
    with _stack(data, stand_in, port, fresh=fresh) as stack, contextlib.suppress(KeyboardInterrupt):
        _show(stack, data.path)
        _wait(stack, reload=reload)


def status(data_dir: DataDir = None, as_json: Json = False, as_csv: Csv = False) -> None:
    """Show the local stack: what runs, where, since when, and with how much data.

    The CSV has the processes only.

    Examples:
        sluice status
        sluice status --json

    Exit code 0: a stack runs; 1: none does, or one of its processes has ended.
    """
    data = _folder(data_dir)
    stack = _running(data)
    from sluice.local.status import status_of

    state = status_of(stack, data)
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(state).decode())
    else:
        _show_status(state, data.path, as_csv=as_csv)
    if state.ended:
        raise typer.Exit(1)


def _show_status(state: Status, path: pathlib.Path, *, as_csv: bool) -> None:
    stack = state.stack
    processes = [
        (process.name, process.address, process.pid, "ended" if process.name in state.ended else "runs")
        for process in stack.processes
    ]
    names = ("process", "address", "pid", "state")
    if as_csv:
        print_rows(names, processes, as_csv=True)
        return
    typer.echo(f"up since {stack.started:%Y-%m-%d %H:%M:%S} UTC, process {stack.pid}, data and logs in {path}\n")
    if state.broken:
        console = next(process.address for process in stack.processes if process.name == "console")
        typer.echo(f"broken on purpose: {', '.join(state.broken)}; switch it off at {console}/break\n")
    print_rows(names, processes)
    typer.echo()
    print_rows(("table", "rows"), list(state.rows.items()))
    typer.echo(f"\n{state.archive}: {state.objects} objects, {state.archive_bytes} bytes")


def down(data_dir: DataDir = None) -> None:
    """End the local stack. Its data stay.

    Examples:
        sluice down

    Exit code 0: no stack runs any more; 1: it did not end within a minute.
    """
    data = _folder(data_dir)
    pid = data.pid()
    if pid is None:
        console.print(f"no stack runs in {data.path}", soft_wrap=True)
        return
    import signal

    os.kill(pid, signal.SIGTERM)
    os.kill(pid, signal.SIGCONT)  # Ctrl-Z may have stopped it.
    deadline = time.monotonic() + 60
    while data.is_locked():
        if time.monotonic() > deadline:
            console.print(f"[bold red]the stack still runs[/]: process {pid}", soft_wrap=True)
            raise typer.Exit(1)
        time.sleep(0.05)
    console.print(f"the stack has ended; its data stay in {data.path}", soft_wrap=True, highlight=False)


def env(
    kind: Annotated[ClientKind, typer.Option("--for", help="The client that the shell is for.")] = ClientKind.PYTHON,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print the variables with which clients find the local stack, as lines of a shell.

    `eval "$(sluice env)"` sets a shell. docs/your-own-client.md shows each client.

    Examples:
        sluice env
        sluice env --for gcloud

    Exit code 0: a stack runs; 1: none does.
    """
    environment = _running(_folder(data_dir)).environment
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(client_variables(kind, environment)).decode())
    else:
        typer.echo("\n".join(shell_lines(kind, environment)))


def _folder(path: pathlib.Path | None) -> DataFolder:
    return DataFolder(path) if path else data_folder.find()


def _running(data: DataFolder) -> RunningStack:
    if stack := data.running():
        return stack
    if pid := data.pid():
        text = f"the stack in {data.path}, process {pid}, is not up: it starts or ends; try again"
    else:
        text = f"no stack runs in {data.path}: start `sluice up`"
    console.print(text, soft_wrap=True)
    raise typer.Exit(1)


def _confirmed(question: str) -> bool:
    """Ask a question; Ctrl-C and Ctrl-D mean no."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        typer.echo(err=True)
        return False


def _show(stack: LiveStack, folder: pathlib.Path) -> None:
    """Show where the stack is, and what to type in a shell in the same folder without variables."""
    program = command()
    if data_folder.find({}).path != folder:
        program = f"{data_folder.VARIABLE}={shlex.quote(str(folder))} {program}"
    for name, address in stack.addresses.items():
        console.print(f"{name:<10} {address}")
    console.print(
        f"\nIn another shell:\n"
        f"  {program} generate --rate 50   endless events into it\n"
        f"  {program} sql                  questions to its tables\n"
        f'  eval "$({program} env)"        for clients of your own',
        highlight=False,
        soft_wrap=True,
    )


def _wait(stack: LiveStack, *, reload: bool) -> NoReturn:
    """Wait for Ctrl-C; end with exit code 1 if a process of the stack ends before. The console is started again."""
    reported: set[int] = set()
    while True:
        for child in stack.children:
            if (code := child.exit_code()) is None:
                continue
            if child.process.pid not in reported:
                ended = f"{child.name} ended with {code}:"
                console.print(Text.assemble((ended, "bold red"), printable(f"\n{child.tail()}")), soft_wrap=True)
                reported.add(child.process.pid)
                child.stop()  # `status` sees that it has ended.
            if child.name != "console":
                raise typer.Exit(1)
            if time.perf_counter() - child.started > _RESTART_SECONDS:
                stack.restart_console()
        if reload and (changed := stack.code.changed()):
            _reload(stack, changed)
        time.sleep(_LOOK_SECONDS)


def _reload(stack: LiveStack, changed: Sequence[str]) -> None:
    from sluice.local.process import NotStarted

    started = time.monotonic()
    files = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    try:
        stack.deploy()
    except NotStarted as error:
        text = Text.assemble(("Not reloaded, the code of before goes on: ", "bold red"), printable(f"{files}\n{error}"))
        console.print(text, soft_wrap=True)
    else:
        console.print(f"reloaded in {time.monotonic() - started:.1f} s: {files}", soft_wrap=True, highlight=False)
        for change in stack.changes:
            console.print(f"  {change}", soft_wrap=True, highlight=False, markup=False)


class _Stages:
    """The stages of a start, and how long each took.

    Args:
        show: Is called with the name of each stage.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._begun: dict[str, float] = {}

    def begin(self, stage: str) -> None:
        """Begin a stage, which ends the one before."""
        self._begun[stage] = time.monotonic()
        self._show(stage)

    def __str__(self) -> str:
        """Return the seconds of all stages until now, and of each."""
        times = [*self._begun.values(), time.monotonic()]
        seconds = (
            f"{stage} {end - start:.1f}" for stage, (start, end) in zip(self._begun, pairwise(times), strict=True)
        )
        return f"{times[-1] - times[0]:.1f} s ({', '.join(seconds)})"


@contextlib.contextmanager
def _demo_folder() -> Iterator[pathlib.Path]:
    """Return a folder for data, which is kept if something fails: `.sluice`, unless there are data of a stack."""
    own = data_folder.find().path
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-")) if own.exists() else own
    try:
        yield folder
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception:
        console.print(f"Logs and data are kept: {folder}", soft_wrap=True)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stack(
    data: DataFolder, stand_in: bool, first_port: int | None = None, *, fresh: bool = False
) -> Iterator[LiveStack]:
    """Run the local stack; clients of this process find it, as those of any other do."""
    from sluice.local.live_stack import live_stack
    from sluice.local.process import NotStarted

    try:
        with contextlib.ExitStack() as ending:
            with console.status("starting the local stack") as spinner:
                stages = _Stages(lambda stage: spinner.update(f"starting the local stack: {stage}"))
                ending.enter_context(data.locked())
                if fresh:
                    data.clear()
                stack = ending.enter_context(live_stack(data, stages.begin, first_port=first_port, stand_in=stand_in))
            console.print(f"The stack is up after {stages}.\nData and logs: {data.path}", soft_wrap=True)
            os.environ.update(stack.environment)
            yield stack
    except NotStarted as error:
        text = Text.assemble(("The local stack did not start. ", "bold red"), printable(f"{error}\nLogs: {data.path}"))
        console.print(text, soft_wrap=True)
        raise typer.Exit(1) from error
    except (data_folder.StackRuns, data_folder.NoDataFolder, PermissionError) as error:
        console.print(Text.assemble(("Nothing was started: ", "bold red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
