"""The drill of docs/disaster-recovery.md: lose a region while events arrive, and rebuild it without losing an event.

A region takes its functions and its datasets with it: here the processes are killed, and both datasets are deleted. The
topic and its subscription are global and stay, as does the archive, which here stands for that of a dual region. The
publisher goes on all the time.

    python -m tools.drill --events 2000 --rate 100
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
from google.cloud import bigquery
from rich.console import Console

from functions.archive import layout
from functions.clients import bigquery_client
from functions.settings import Settings
from sluice.demo.check import read_warehouse
from sluice.formatting import print_rows
from sluice.local.stack import Emulators, Stack, delivering, deployed, emulators
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated, Scenario
from sluice.shop.timeline import history_until
from sluice.smoke import oldest_midnight

LOST, NEW = "drill-lost", "drill-new"
"""Names of the two stacks: of the region that is lost, and of the one that takes its place."""

BAD_SHARE = 0.03
DUPLICATE_SHARE = 0.02

_SEED = 1

_PATIENCE = 300.0
"""Maximum seconds of one wait. After the ack deadline, a message that the lost region held is delivered again."""

_PAUSE = 0.5
"""Seconds between two looks into the tables."""


class NotRecovered(Exception):
    """The drill failed; says what is missing, or which command failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Drill:
    """Result of the drill.

    Attributes:
        accepted: Events that Pub/Sub accepted, before and after the loss.
        durable: Accepted events that were in the tables of the lost region, or in its archive only.
        missing: Ids that are neither rows nor dead letters in the new region. Their number is the RPO in events.
        backfilled: Rows and dead letters that came from the archive of the lost region.
        first_row_seconds: Seconds from the loss to the first new event in a table of the new region, without `apply`.
        backfill_seconds: Seconds that the backfill took.
        recovered_seconds: Seconds from the loss until each event was there.
    """

    accepted: int
    durable: int
    missing: frozenset[str]
    backfilled: int
    first_row_seconds: float
    backfill_seconds: float
    recovered_seconds: float

    def show(self) -> None:
        """Print the numbers for people."""
        rows = [
            ("events that Pub/Sub accepted", self.accepted),
            ("of these durable when the region was lost", self.durable),
            ("lost for good (RPO)", len(self.missing)),
            ("seconds from the loss to the first new event in a table", f"{self.first_row_seconds:.1f}"),
            ("rows and dead letters from the archive", self.backfilled),
            ("seconds of the backfill", f"{self.backfill_seconds:.1f}"),
            ("seconds from the loss until all was there (RTO)", f"{self.recovered_seconds:.1f}"),
        ]
        print_rows(("what", "number"), rows, title="The region was lost, and rebuilt from its archive")


def run(console: Console, on: Emulators, folder: pathlib.Path, *, events: int, rate: float) -> Drill:
    """Lose a region and rebuild it.

    Args:
        console: Says what happens.
        on: The emulators, which this process finds by its environment. The names of the stacks are used once on them.
        folder: Logs.
        events: Number of messages to publish.
        rate: Messages per second.

    Raises:
        NotRecovered: A command failed, or the new region stopped getting events.
        NotStarted: A process did not start.
    """
    with contextlib.ExitStack() as stacks, ThreadPoolExecutor(1) as background:
        lost = stacks.enter_context(_region(on, folder, LOST))
        messages = _messages(events, lost.settings)
        ids = {message.attributes["event_id"] for message in messages}
        publications = (Publication(message.data, message.attributes) for message in messages)
        publishing = background.submit(publish, publications, lost.topic, rate=rate)
        _wait(lambda: len(_ids(lost)) >= len(ids) // 3, publishing)
        durable = _lose(lost)
        lost_at = time.monotonic()
        console.print(f"The region is lost: its functions are killed, and its tables, with {durable} events, are gone.")

        new = stacks.enter_context(_region(on, folder, NEW))
        stacks.enter_context(delivering(on, f"{LOST}-ingest", new.ingest.url, folder, f"{LOST}-to-{NEW}"))
        _wait(lambda: _ids(new), publishing)
        first_row_seconds = time.monotonic() - lost_at
        console.print(
            f"{first_row_seconds:.1f} s later events arrive in the new region. The archive brings the others."
        )

        source = layout.address(lost.settings.archive_bucket, layout.PREFIX)
        backfill = _backfill(new, source)
        _wait(lambda: _ids(new) >= ids, publishing)
        recovered_seconds = time.monotonic() - lost_at
        publishing.result()
        if missing := _backfill(new, source, "--dry-run").loaded:
            raise NotRecovered(f"the archive of the lost region has {missing} events that are not in the tables")
        _sluice(new, "reconcile", "--from", "1h")
        return Drill(
            len(ids),
            durable,
            frozenset(ids - _ids(new)),
            backfill.loaded,
            first_row_seconds,
            backfill.seconds,
            recovered_seconds,
        )


@contextlib.contextmanager
def _region(on: Emulators, folder: pathlib.Path, name: str) -> Iterator[Stack]:
    dataset = name.replace("-", "_")
    with deployed(on, folder, {"DATASET": dataset, "HISTORICAL_DATASET": f"{dataset}_historical"}, name) as stack:
        try:
            yield stack
        finally:
            _drop(bigquery_client(stack.settings), stack.settings)


def _messages(events: int, settings: Settings) -> list[Generated]:
    now = datetime.now(UTC)
    scenario = Scenario(_SEED, BAD_SHARE, DUPLICATE_SHARE)
    return list(history_until(scenario, events, now, oldest_midnight(now, settings.retention_days)))


def _ids(stack: Stack) -> set[str]:
    accounts = read_warehouse(bigquery_client(stack.settings), stack.settings.dataset)
    return accounts.accepted | accounts.dead


def _wait(condition: Callable[[], object], publishing: Future[int]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if publishing.done():
            publishing.result()
        if time.monotonic() > deadline:
            raise NotRecovered(f"nothing more arrived within {_PATIENCE:.0f} s")
        time.sleep(_PAUSE)


def _lose(stack: Stack) -> int:
    """Take from a region what its loss takes, and return how many events were in its tables."""
    *_, ingest, bootstrap, relay = stack.children
    for child in (ingest, bootstrap):
        child.signal(signal.SIGKILL)
    relay.stop()  # Pub/Sub is not of the region: only its push ends here
    durable = len(_ids(stack))
    _drop(bigquery_client(stack.settings), stack.settings)
    return durable


def _drop(client: bigquery.Client, settings: Settings) -> None:
    for dataset in (settings.dataset, settings.historical_dataset):
        client.delete_dataset(dataset, delete_contents=True, not_found_ok=True)


class _Backfilled(msgspec.Struct):
    """Output of `sluice backfill --json`."""

    rows: dict[str, int]
    dead_letters: dict[str, int]
    seconds: float

    @property
    def loaded(self) -> int:
        return sum(self.rows.values()) + sum(self.dead_letters.values())


def _backfill(stack: Stack, *arguments: str) -> _Backfilled:
    return msgspec.json.decode(_sluice(stack, "backfill", "--json", *arguments), type=_Backfilled)


def _sluice(stack: Stack, *arguments: str) -> str:
    """Run a command in an environment, and return its standard output.

    Raises:
        NotRecovered: It failed.
    """
    # With a short timeout of flushes a reconciliation compares what came just now, too.
    environment = {**os.environ, **stack.environment, "FLUSH_TIMEOUT": "0.01"}
    command = [sys.executable, "-m", "sluice.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode:
        raise NotRecovered(f"sluice {' '.join(arguments)} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the drill from the command line; ends with 1 where an event is lost."""
    parser = argparse.ArgumentParser(description="Lose a region on this machine, and rebuild it from its archive.")
    parser.add_argument("--events", type=int, default=2_000, help="messages to publish")
    parser.add_argument("--rate", type=float, default=100, help="messages per second")
    given = parser.parse_args(arguments)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="sluice-drill-") as name:
        folder = pathlib.Path(name)
        with emulators(folder) as on:
            os.environ.update(on.environment)
            drill = run(console, on, folder, events=given.events, rate=given.rate)
    drill.show()
    if drill.missing:
        console.print(f"[bold red]{len(drill.missing)} events are lost.[/]")
        sys.exit(1)
    console.print("[bold green]No event that Pub/Sub accepted is lost.[/]")


if __name__ == "__main__":
    main()
