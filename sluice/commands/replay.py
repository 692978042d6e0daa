"""The command `sluice replay`."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from functions.events import event_types
from sluice.commands.command_settings import check_subscription, command_settings
from sluice.commands.options import (
    Csv,
    DryRun,
    IdleSeconds,
    Json,
    Rate,
    Subscription,
    Undeliverable,
    check_order,
    parse_past_time,
    parse_time,
)
from sluice.local.names import UNDELIVERABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from functions.files.sources import Lines
    from sluice.backfill.run import Listener


def replay(
    start: Annotated[
        datetime | None,
        typer.Option(
            "--from", parser=parse_past_time, metavar="TIME", help="Start of the arrival times: a time, or 24h, 7d ago."
        ),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", parser=parse_time, metavar="TIME", help="End of the arrival times; default: now."),
    ] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Replay only events of this type from the archive.")
    ] = None,
    undeliverable: Undeliverable = False,
    subscription: Subscription = UNDELIVERABLE,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum messages of --undeliverable.")] = None,
    patience: IdleSeconds = 10,
    rate: Rate = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Replay events from the archive by arrival time, or messages that Pub/Sub could not deliver.

    Events that are already in their table are skipped. The table `replays` records what was replayed. A message of
    Pub/Sub is acknowledged when its event is durable; all other messages are returned, in a dry run all of them.

    Examples:
        sluice replay --from 24h --type order --dry-run
        sluice replay --from 2026-11-23T20:00:00Z --to 2026-11-23T21:00:00Z
        sluice replay --undeliverable --limit 100

    Exit code 0: all events are loaded; 1: an event could not be read or loaded; 2: an option or a setting is wrong;
    130: interrupted.
    """
    if undeliverable == (start is not None):
        raise typer.BadParameter("give either --from, for the archive, or --undeliverable", param_hint="--from")
    if undeliverable and (end or event_type):
        raise typer.BadParameter("--to and --type apply to the archive only", param_hint="--undeliverable")
    check_order(start, end)
    if event_type and event_type not in event_types():
        names = ", ".join(sorted(event_types()))
        raise typer.BadParameter(
            f"event type {event_type} does not exist; event types are {names}", param_hint="--type"
        )
    started, settings, now = time.monotonic(), command_settings(), datetime.now(UTC)
    if undeliverable:
        check_subscription(subscription)
    from functions.clients import storage_client
    from sluice.backfill.builder import BackfillBuilder
    from sluice.commands import progress
    from sluice.replay import undeliverable as dead_letter_subscription
    from sluice.replay.archived import OfType, arrived
    from sluice.replay.ledger import Ledger, ReplaySource

    builder = BackfillBuilder.connect(settings, now, dry_run=dry_run)
    listeners: list[Listener] = []
    if not dry_run:
        source = ReplaySource.UNDELIVERABLE if undeliverable else ReplaySource.ARCHIVE
        listeners.append(Ledger.of_backfill(builder, source))
    with contextlib.ExitStack() as leases:
        sources: Sequence[Lines]
        if start is None:
            messages = leases.enter_context(dead_letter_subscription.Undeliverable(subscription, patience, limit))
            if not dry_run:
                listeners.append(messages)
            sources, total = [messages], None
        else:
            objects = arrived(storage_client(settings), settings.archive_bucket, start, end or now)
            sources = [OfType(source, event_type) for source in objects] if event_type else objects
            total = sum(source.size for source in objects)
        report = progress.run(builder.build(*listeners, rate=rate), sources, total, of_events=undeliverable)
    done = progress.FinishedBackfill(report, len(sources), time.monotonic() - started, dry_run)
    if as_json:
        done.print_json()
    else:
        done.show(as_csv=as_csv)
    done.end()
