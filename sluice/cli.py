"""The `sluice` command."""

import contextlib
import functools
import inspect
import itertools
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from functions.files.id_fields import WithoutId
from functions.files.sources import Source, Unreadable
from functions.settings import Settings
from sluice.commands.backfill import backfill
from sluice.commands.beam import beam
from sluice.commands.contract import app as contract
from sluice.commands.cost import cost
from sluice.commands.dead_letters import app as dead_letters
from sluice.commands.erase import erase
from sluice.commands.exit_codes import exit_code_of_errors
from sluice.commands.options import IdFieldPaths, id_fields
from sluice.commands.package import package
from sluice.commands.progress import print_lines_without_id
from sluice.commands.reconcile import reconcile
from sluice.commands.replay import replay
from sluice.commands.smoke import smoke
from sluice.commands.snapshot import restore, snapshot
from sluice.commands.sql import sql
from sluice.commands.trace import trace
from sluice.commands.verify import verify
from sluice.demo.run import run as run_demo
from sluice.local.process import NotStarted
from sluice.local.stack import Stack, local_stack, topic_name
from sluice.publish import FAILURES, Publication, from_lines, paced, shift_to
from sluice.publish import publish as publish_all
from sluice.shop.generator import EVENTS_PER_DAY, Generated, Story
from sluice.shop.timeline import history_until, live, stretch_pace
from sluice.smoke import oldest_midnight

app = typer.Typer(
    help="Sluice: events from Pub/Sub into BigQuery and Cloud Storage.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(contract, name="contract")
app.add_typer(dead_letters, name="dead-letters")
console = Console(stderr=True)

StandIn = Annotated[
    bool, typer.Option("--stand-in", help="Use our stand-in for Pub/Sub even where Google's emulator is installed.")
]
Topic = Annotated[
    str,
    typer.Option(help="Topic to publish to, as projects/PROJECT/topics/TOPIC.", envvar="SLUICE_TOPIC"),
]
Seed = Annotated[int, typer.Option(help="Which shop, and which story; event ids are other ones in each run.")]
Share = Annotated[float, typer.Option(min=0, max=1)]

LOCAL_TOPIC = topic_name()

_DAY = 86_400
_RATE = 50.0
"""Messages per second of `sluice generate`, where `--rate` does not say otherwise."""

for command in (backfill, beam, erase, reconcile, replay, sql, snapshot, restore, smoke, verify, trace, cost):
    app.command()(exit_code_of_errors()(command))
app.command()(package)


@app.callback()
def _terminate_like_interrupt() -> None:
    """End on SIGTERM, and when the terminal is closed, as on Ctrl-C, so that no child is left behind.

    A process that a script starts in the background ignores SIGINT, and so would all that it starts.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def _stack(stand_in: bool) -> Iterator[Stack]:
    """Run the local stack in a temporary folder, which is kept if something fails."""
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


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=100, help="Messages to publish.")] = 3_000,
    rate: Annotated[float, typer.Option(min=1, help="Messages per second.")] = 300,
    seed: Seed = 1,
    stand_in: StandIn = False,
) -> None:
    """Run everything once on this machine, and prove that no event got lost.

    Exit code 0: everything adds up; 1: it does not.
    """
    with _stack(stand_in) as stack:
        if not run_demo(Console(), stack, events=events, rate=rate, seed=seed):
            raise typer.Exit(1)


@app.command()
def up(stand_in: StandIn = False) -> None:
    """Run the local stack in the foreground until Ctrl-C."""
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
        _watch(stack)


def _watch(stack: Stack) -> NoReturn:
    """Wait for Ctrl-C; end with 1 if a child ends before."""
    while True:
        for child in stack.children:
            if child.process.poll() is not None:
                console.print(f"[bold red]{child.name} ended with {child.process.returncode}:[/]\n{child.tail()}")
                raise typer.Exit(1)
        time.sleep(0.5)


@app.command()
def publish(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="NDJSON, one event a line, gzip or not; - for standard input.")
    ],
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Messages per second; default: as fast as they are accepted.")
    ] = None,
    shift_to_now: Annotated[
        bool, typer.Option(help="Move the newest event to now and all others by the same distance.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Publish the first lines only.")] = None,
    id_field: IdFieldPaths = None,
    topic: Topic = LOCAL_TOPIC,
) -> None:
    """Publish the events of a file.

    Exit code 0: all are published; 1: not all, or some have no id; 2: an option is wrong.
    """
    # The unbuffered file gives each line as soon as it is there, and is what a source expects.
    source = Source(getattr(file, "name", "standard input"), 0, lambda: getattr(file, "raw", file))
    lines = itertools.islice(source.lines(), limit)
    fields, without_id = id_fields(id_field), WithoutId()
    shifted = shift_to(datetime.now(UTC), lines) if shift_to_now else lines
    _publish(from_lines(shifted, fields, without_id), topic, rate)
    if without_id.count:
        print_lines_without_id("Not published:", without_id)
        raise typer.Exit(1)


@app.command()
@exit_code_of_errors()
def generate(
    seed: Seed = 1,
    bad_share: Share = 0.0,
    duplicate_share: Share = 0.0,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Messages per second; default: 50, or 3 000 a day of a story.", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    stdout: Annotated[
        bool,
        typer.Option(
            "--stdout",
            help="Write NDJSON to standard output instead, without attributes. With --limit, it is a story of the last"
            " days that ends now, and is written at once.",
        ),
    ] = False,
    topic: Topic = LOCAL_TOPIC,
) -> None:
    """Publish endless realistic events of a simulated shop as they happen, until Ctrl-C.

    No event is ahead of the clock, or older than RETENTION_DAYS: of a story that would take longer, more happens a day.
    """
    if bad_share + duplicate_share >= 1:
        raise typer.BadParameter("--bad-share and --duplicate-share must be below 1 together")
    story = functools.partial(Story, seed, bad_share, duplicate_share)
    if stdout and limit is not None:
        _write(_until_now(story(EVENTS_PER_DAY if rate is None else round(rate * _DAY)), limit))
        return
    rate = rate or _RATE
    messages = itertools.islice(live(story(round(rate * _DAY))), limit)
    if stdout:
        _write(paced(messages, rate))
    else:
        _publish((Publication(message.data, message.attributes) for message in messages), topic, rate)


def _until_now(story: Story, count: int) -> Iterator[Generated]:
    """Yield a story that ends now and has no event older than the retention."""
    retention_days = Settings.from_environment({"ARCHIVE_BUCKET": "unused", **os.environ}).retention_days
    now = datetime.now(UTC)
    earliest = oldest_midnight(now, retention_days)
    a_day = stretch_pace(story, count, earliest, now).events_per_day
    if a_day > story.events_per_day:
        console.print(f"{a_day} events a day instead of {story.events_per_day}: RETENTION_DAYS is {retention_days}.")
    with console.status("looking for the start of the story"):
        return history_until(story, count, now, earliest)


def _write(messages: Iterable[Generated]) -> None:
    for message in messages:
        sys.stdout.buffer.write(message.data + b"\n")
        sys.stdout.buffer.flush()


def _publish(publications: Iterable[Publication], topic: str, rate: float | None) -> None:
    columns = (SpinnerColumn(), TextColumn("{task.completed} published"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("published", total=None)
        try:
            publish_all(publications, topic, rate=rate, published=lambda: progress.advance(task))
        except Unreadable as error:
            console.print(f"[bold red]Cannot read the events.[/] {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from error
        except FAILURES as error:
            console.print(f"[bold red]Not published to {topic}:[/] {type(error).__name__}: {error}", soft_wrap=True)
            if "PUBSUB_EMULATOR_HOST" not in os.environ:
                console.print("For the local stack, run the export lines that `sluice up` prints.")
            raise typer.Exit(1) from error


def _paragraphs(text: str) -> str:
    """Return a help text without the line breaks inside its paragraphs: the terminal's width decides where they are."""
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in inspect.cleandoc(text).split("\n\n"))


for registered in (*app.registered_commands, *contract.registered_commands, *dead_letters.registered_commands):
    registered.help = _paragraphs(registered.callback.__doc__ or "") if registered.callback else None


if __name__ == "__main__":
    app()
