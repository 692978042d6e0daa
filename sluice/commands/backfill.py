"""`sluice backfill`: what a person sees of it."""

import functools
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from functions.archive.writer import Archive
from functions.clients import bigquery_client, storage_client
from functions.core.contracts import FILE_NAME, FOLDER
from functions.files.sources import find
from functions.ingest.http_client import storage_api
from functions.settings import Settings
from sluice.backfill.events import EventReader
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import FAILURES, Backfill
from sluice.commands import progress
from sluice.commands.exit_codes import print_error
from sluice.commands.options import IdFieldPaths, id_fields


def backfill(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders, globs, gs://BUCKET/PREFIX: NDJSON of events or of the archive, compressed or not.",
            show_default=False,
        ),
    ],
    schema_version: Annotated[
        int | None, typer.Option(min=1, help="Contract of the events that are in no envelope; default: the newest.")
    ] = None,
    id_field: IdFieldPaths = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Process everything, write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write the counts as JSON to standard output.")] = False,
) -> None:
    """Load events of the past: by their date into the live or the historical tables, each once.

    What cannot become a row becomes a dead letter. What is there already is left alone, so a run that was interrupted
    goes on when it is started again. An event's id is that of its envelope, or of --id-field, or what its line says.

    Exit code 0: all is there; 1: something could not be read or loaded, or has no id; 2: an option or a setting is
    wrong; 130: interrupted.
    """
    started = time.monotonic()
    if schema_version and schema_version not in (versions := _versions()):
        text = f"no contract has version {schema_version}; there are {', '.join(map(str, sorted(versions)))}"
        raise typer.BadParameter(text, param_hint="--schema-version")
    fields = id_fields(id_field)
    settings = Settings.from_environment()
    storage = functools.cache(lambda: storage_client(settings))
    read = EventReader.from_settings(settings, datetime.now(UTC), schema_version, fields)
    files = find(sources, storage)
    jobs = _open(settings, dry_run=dry_run)
    archive = None if dry_run else Archive(storage_api(), settings.archive_bucket, read.process.contracts.event_types)
    report = progress.run(Backfill(read, jobs, archive), files, sum(source.size for source in files))
    done = progress.Done(report, len(files), time.monotonic() - started, dry_run)
    if as_json:
        done.print_json()
    else:
        done.show()
    done.end()


def _versions() -> set[int]:
    """Return the versions that there are, of whichever event type."""
    return {int(name["version"]) for file in FOLDER.iterdir() if (name := FILE_NAME.fullmatch(file.name))}


def _open(settings: Settings, *, dry_run: bool) -> LoadJobs | None:
    try:
        return LoadJobs.open(bigquery_client(settings), settings)
    except FAILURES as error:
        if not dry_run:
            raise
        print_error("BigQuery does not say what is there already:", error)
        return None
