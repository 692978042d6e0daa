"""HTTP entry points of the three Cloud Functions: `ingest`, `bootstrap` and `reconcile`.

Each function imports and builds only what it needs itself.
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import functions_framework.aio
from functions_framework.execution_id import execution_context_var
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.ingest import heap
from functions.log import Logs
from functions.settings import Settings

if TYPE_CHECKING:
    from functions.ingest.app import IngestApp
    from functions.reconcile.reconciler import Reconciler
    from functions.reconcile.scheduled import Checkpoints
    from functions.schema.bootstrap import Bootstrap

heap.configure_malloc()
settings = Settings.from_environment()
logs = Logs(settings, execution_context_var.get)
logger = logging.getLogger("functions.main")


@functools.cache
def build_ingest() -> "IngestApp":
    """Build the application of `ingest`, which lives as long as the instance."""
    from functions.ingest.app import IngestApp  # noqa: PLC0415 - the other functions do without its settings and imports

    return IngestApp.build(settings)


def build_bootstrap() -> "Bootstrap":
    """Build what makes the warehouse."""
    from functions.clients import bigquery_client  # noqa: PLC0415
    from functions.schema.bootstrap import Bootstrap  # noqa: PLC0415 - no part of ingest's cold start

    return Bootstrap(bigquery_client(settings), settings)


def build_reconcile() -> "tuple[Reconciler, Checkpoints]":
    """Build what compares the archive with the warehouse, and what knows where the last run ended."""
    from functions.clients import bigquery_client, storage_client  # noqa: PLC0415 - no part of ingest's cold start
    from functions.reconcile.reconciler import Reconciler  # noqa: PLC0415
    from functions.reconcile.scheduled import Checkpoints  # noqa: PLC0415

    storage = storage_client(settings)
    reconciler = Reconciler(bigquery_client(settings), storage, settings)
    return reconciler, Checkpoints(storage, settings.archive_bucket)


@functions_framework.aio.http
async def ingest(request: Request) -> Response:
    """Take one Pub/Sub message: 204 once it is durable, anything else makes Pub/Sub deliver it again."""
    logs.restore()
    return await build_ingest()(request)


@functions_framework.aio.http
def bootstrap(request: Request) -> Response:
    """POST makes the warehouse what `sql/` defines; GET tells what that would change."""
    from functions.schema.bootstrap import SchemaChange  # noqa: PLC0415

    logs.restore()
    match request.method:
        case "POST":
            steps = build_bootstrap().run()
        case "GET":
            steps = build_bootstrap().plan()
        case _:
            return JSONResponse({"error": "GET or POST"}, 405, {"Allow": "GET, POST"})
    changes = {step.change for step in steps}
    for step in steps:
        severity = logging.ERROR if step.change in {SchemaChange.ERROR, SchemaChange.REFUSED} else logging.INFO
        logger.log(severity, "bootstrap", extra={"fields": dataclasses.asdict(step)})
    status = 500 if SchemaChange.ERROR in changes else 409 if SchemaChange.REFUSED in changes else 200
    return JSONResponse({"objects": [dataclasses.asdict(step) for step in steps]}, status)


@functions_framework.aio.http
def reconcile(request: Request) -> Response:
    """POST compares what has arrived since the last run, up to an hour ago, with what became of it."""
    from functions.core.pipeline import utc_now  # noqa: PLC0415
    from functions.reconcile.scheduled import ScheduledReconciliation  # noqa: PLC0415

    logs.restore()
    if request.method != "POST":
        return JSONResponse({"error": "POST"}, 405, {"Allow": "POST"})
    run = ScheduledReconciliation(*build_reconcile(), utc_now())
    if run.skipped:
        start, end = (time.isoformat() for time in run.skipped)
        logger.error("reconciliation skips what arrived too long ago", extra={"fields": {"start": start, "end": end}})
    parts = []
    for part in run:
        severity = logging.INFO if part.is_complete else logging.ERROR
        logger.log(severity, "reconciliation", extra={"fields": part.summary()})
        parts.append(part.summary())
    if not parts:
        logger.info("reconciliation has nothing to compare", extra={"fields": {"until": run.until.isoformat()}})
    if run.is_behind:
        behind = {"until": run.until.isoformat(), "behind_seconds": round(run.behind.total_seconds())}
        logger.error("reconciliation is behind", extra={"fields": behind})
    return JSONResponse({"until": run.until.isoformat(), "parts": parts})


BUILDERS: Mapping[str, Callable[[], object]] = {
    "ingest": build_ingest,
    "bootstrap": build_bootstrap,
    "reconcile": build_reconcile,
}

if build := BUILDERS.get(os.environ.get("FUNCTION_TARGET", "")):  # set by the platform
    build()  # Here a wrong setting fails the deployment, and not the first request.
heap.freeze_gc()
