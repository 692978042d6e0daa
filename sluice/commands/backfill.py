"""The command `sluice backfill`."""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime

from sluice.commands.command_settings import command_settings
from sluice.commands.exit_codes import print_error
from sluice.commands.options import (
    Csv,
    DryRun,
    FilePatterns,
    IdFieldPaths,
    Json,
    SchemaVersion,
    check_version,
    id_fields,
)


def backfill(
    sources: FilePatterns,
    schema_version: SchemaVersion = None,
    id_field: IdFieldPaths = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Load past events from files or from the archive, each once.

    An event goes into the live or the historical table, depending on its date. An event that cannot become a row
    becomes a dead letter. Events that are already loaded are skipped, so an interrupted run is resumed by running the
    command again. The event id is that of the envelope, or the value of --id-field, or derived from the line.

    Examples:
        sluice backfill events.ndjson --dry-run
        sluice backfill 'exports/*.ndjson.gz' --id-field '$.order_id'
        sluice backfill gs://BUCKET/raw/dt=2026-11-23

    Exit code 0: all events are loaded; 1: an event could not be read or loaded, or has no id; 2: an option or a setting
    is wrong; 130: interrupted.
    """
    started = time.monotonic()
    check_version(schema_version)
    fields = id_fields(id_field)
    settings, now = command_settings(), datetime.now(UTC)
    from functions.clients import storage_client
    from functions.files.sources import find
    from sluice.backfill.builder import BackfillBuilder
    from sluice.backfill.events import EventReader
    from sluice.commands import progress

    storage = functools.cache(lambda: storage_client(settings))
    read = EventReader.from_settings(settings, now, schema_version, fields)
    files = find(sources, storage)
    builder = BackfillBuilder.connect(settings, now, dry_run=dry_run, read=read, on_failure=_report_unavailable)
    report = progress.run(builder.build(), files, sum(source.size for source in files))
    done = progress.FinishedBackfill(report, len(files), time.monotonic() - started, dry_run)
    if as_json:
        done.print_json()
    else:
        done.show(as_csv=as_csv)
    done.end()


def _report_unavailable(error: Exception) -> None:
    print_error("Cannot find out which events BigQuery already has:", error)
