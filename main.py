"""HTTP entry points of the Cloud Functions: `ingest`, `drain`, `bootstrap`, `reconcile` and `compact`.

Each function imports and builds only what it needs itself.
"""

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import functions_framework.aio
from functions_framework.execution_id import execution_context_var
from starlette.requests import Request
from starlette.responses import Response

from functions.ingest import heap
from functions.log import Logs
from functions.settings import Settings

if TYPE_CHECKING:
    from functions.compact.http import CompactApp
    from functions.drain.http import DrainApp
    from functions.ingest.app import IngestApp
    from functions.reconcile.http import ReconcileApp
    from functions.schema.http import BootstrapApp

heap.configure_malloc()
settings = Settings.from_environment()
logs = Logs(settings, execution_context_var.get)


@functools.cache
def build_ingest() -> "IngestApp":
    """Build the application of `ingest`, which lives as long as the instance."""
    from functions.ingest.app import IngestApp  # noqa: PLC0415 - the other functions need none of its imports

    return IngestApp.build(settings)


@functools.cache
def build_drain() -> "DrainApp":
    """Build the application of `drain`, which lives as long as the instance."""
    from functions.drain.http import DrainApp  # noqa: PLC0415 - no part of ingest's cold start

    return DrainApp.build(settings)


def build_bootstrap() -> "BootstrapApp":
    """Build the application of `bootstrap`, for one request."""
    from functions.schema.http import BootstrapApp  # noqa: PLC0415 - no part of ingest's cold start

    return BootstrapApp.build(settings)


def build_reconcile() -> "ReconcileApp":
    """Build the application of `reconcile`, for one request."""
    from functions.reconcile.http import ReconcileApp  # noqa: PLC0415 - no part of ingest's cold start

    return ReconcileApp.build(settings)


def build_compact() -> "CompactApp":
    """Build the application of `compact`, for one request."""
    from functions.compact.http import CompactApp  # noqa: PLC0415 - no part of ingest's cold start

    return CompactApp.build(settings)


@functions_framework.aio.http
async def ingest(request: Request) -> Response:
    """POST ingests a Pub/Sub message: 204 once it is durable. GET returns what this is, and the version of the code."""
    logs.restore()
    return await build_ingest()(request)


@functions_framework.aio.http
def drain(request: Request) -> Response:
    """POST pulls what has arrived, archives it, and starts load jobs that bring it into the tables."""
    logs.restore()
    return build_drain()(request)


@functions_framework.aio.http
def bootstrap(request: Request) -> Response:
    """POST makes the warehouse what `sql/` defines; GET returns what that would change."""
    logs.restore()
    return build_bootstrap()(request)


@functions_framework.aio.http
def reconcile(request: Request) -> Response:
    """POST compares what has arrived since the last run, up to an hour ago, with what became of it."""
    logs.restore()
    return build_reconcile()(request)


@functions_framework.aio.http
def compact(request: Request) -> Response:
    """POST makes few large objects of the archive's small ones, of the hours that `reconcile` has found complete."""
    logs.restore()
    return build_compact()(request)


BUILDERS: Mapping[str, Callable[[], object]] = {
    "ingest": build_ingest,
    "drain": build_drain,
    "bootstrap": build_bootstrap,
    "reconcile": build_reconcile,
    "compact": build_compact,
}

if build := BUILDERS.get(os.environ.get("FUNCTION_TARGET", "")):  # set by the platform
    build()  # A wrong setting fails the deployment, not the first request.
heap.freeze_gc()
