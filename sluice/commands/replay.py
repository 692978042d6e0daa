"""`sluice replay`: what a person sees of it."""

import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from functions.archive.writer import Archive
from functions.clients import bigquery_client, storage_client
from functions.events import event_types
from functions.files.sources import Lines
from functions.ingest.http_client import storage_api
from functions.settings import Settings
from sluice.backfill.events import EventReader
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import Backfill, Listener, Settled
from sluice.commands import progress
from sluice.commands.options import DryRun, Json, Rate, check_order, parse_past_time, parse_time
from sluice.local.stack import undeliverable_name
from sluice.replay.archived import OfType, arrived
from sluice.replay.ledger import Ledger, ReplaySource, current_user
from sluice.replay.undeliverable import Undeliverable


def replay(
    start: Annotated[
        datetime | None,
        typer.Option(
            "--from", parser=parse_past_time, metavar="TIME", help="What arrived then or later: a time, or 24h, 7d ago."
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", parser=parse_time, metavar="TIME", help="End of the arrival times; default: now."),
    ] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Of the archive, events of this type only.")] = None,
    undeliverable: Annotated[
        bool, typer.Option("--undeliverable", help="What Pub/Sub gave up on, from the dead-letter subscription.")
    ] = False,
    subscription: Annotated[
        str,
        typer.Option(
            help="Of --undeliverable, as projects/PROJECT/subscriptions/SUBSCRIPTION.", envvar="SLUICE_UNDELIVERABLE"
        ),
    ] = undeliverable_name(),
    limit: Annotated[int | None, typer.Option(min=1, help="Of --undeliverable: so many messages at most.")] = None,
    patience: Annotated[
        float, typer.Option(min=0.5, help="Of --undeliverable: seconds without a message that are the end.")
    ] = 10,
    rate: Rate = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring back events of the archive by their time of arrival, or those that Pub/Sub could not deliver.

    What is in its table already is left alone; what comes back is written down in the table `replays`. A message of
    Pub/Sub is acknowledged when its event is durable; all others are given back, in a dry run all of them.

    Exit code 0: all is there; 1: something could not be read or loaded; 2: an option or a setting is wrong; 130:
    interrupted.
    """
    if undeliverable == (start is not None):
        raise typer.BadParameter("give --from, and --to, for the archive, or --undeliverable", param_hint="--from")
    if undeliverable and (end or event_type):
        raise typer.BadParameter("--to and --type are for the archive", param_hint="--undeliverable")
    check_order(start, end)
    if event_type and event_type not in event_types():
        names = ", ".join(sorted(event_types()))
        raise typer.BadParameter(f"there is no event type {event_type}; there are {names}", param_hint="--type")
    started, settings, now = time.monotonic(), Settings.from_environment(), datetime.now(UTC)
    client, storage = bigquery_client(settings), storage_client(settings)
    read = EventReader.from_settings(settings, now)
    jobs = LoadJobs.open(client, settings)
    archive = None if dry_run else Archive(storage_api(), settings.archive_bucket, read.process.contracts.event_types)
    listeners: list[Listener] = []
    if not dry_run:
        source = ReplaySource.UNDELIVERABLE if undeliverable else ReplaySource.ARCHIVE
        listeners.append(Ledger(client, jobs, settings, source, now, current_user(client)))
    with contextlib.ExitStack() as leases:
        sources: Sequence[Lines]
        if start is None:
            messages = leases.enter_context(Undeliverable(subscription, patience, limit))
            if not dry_run:
                listeners.append(messages)
            sources, total = [messages], None
        else:
            objects = arrived(storage, settings.archive_bucket, start, end or now)
            sources = [OfType(source, event_type) for source in objects] if event_type else objects
            total = sum(source.size for source in objects)
        run = Backfill(read, jobs, archive, call_in_order(listeners), rate)
        report = progress.run(run, sources, total, of_events=undeliverable)
    done = progress.Done(report, len(sources), time.monotonic() - started, dry_run)
    if as_json:
        done.print_json()
    else:
        done.show()
    done.end()


def call_in_order(listeners: Sequence[Listener]) -> Listener:
    """Return a listener that calls others in their order; an error of one ends the call."""

    def call_all(settled: Sequence[Settled]) -> None:
        for listener in listeners:
            listener(settled)

    return call_all
