"""The HTTP application of `reconcile`: compares what has arrived since the last run, and logs the result."""

import dataclasses
import logging
from typing import Self

from google.cloud.storage import Bucket
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.archive.pending import load_files
from functions.clients import bigquery_client, storage_client
from functions.reconcile.reconciler import Reconciler
from functions.reconcile.scheduled import Checkpoints, ScheduledReconciliation
from functions.settings import Settings
from functions.system import SYSTEM, System

logger = logging.getLogger("functions.main")


@dataclasses.dataclass(frozen=True, slots=True)
class ReconcileApp:
    """Answers POST.

    Attributes:
        reconciler: Compares the archive with the tables.
        checkpoints: The times at which the runs before ended.
        bucket: The bucket of the archive, and of the load files of batch mode.
        system: The machine.
    """

    reconciler: Reconciler
    checkpoints: Checkpoints
    bucket: Bucket
    system: System = SYSTEM

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Build the application for a deployment."""
        storage = storage_client(settings)
        reconciler = Reconciler(bigquery_client(settings), storage, settings)
        bucket = storage.bucket(settings.archive_bucket)
        return cls(reconciler, Checkpoints(storage, settings.archive_bucket), bucket)

    def __call__(self, request: Request) -> Response:
        """Compare what has arrived since the last run, up to an hour ago, with what became of it."""
        if request.method != "POST":
            return JSONResponse({"error": "POST"}, 405, {"Allow": "POST"})
        oldest = min((file.written for file in load_files(self.bucket)), default=None)
        now, clock = self.system.now(), self.system.monotonic
        run = ScheduledReconciliation(self.reconciler, self.checkpoints, now, clock, loaded_until=oldest)
        if run.skipped:
            start, end = (time.isoformat() for time in run.skipped)
            fields = {"start": start, "end": end}
            logger.error("reconciliation skips what arrived too long ago", extra={"fields": fields})
        parts = []
        for part in run:
            severity = logging.INFO if part.is_complete else logging.ERROR
            logger.log(severity, "reconciliation", extra={"fields": part.summary()})
            parts.append(part.summary())
        until = run.until.isoformat()
        if not parts:
            logger.info("reconciliation has nothing to compare", extra={"fields": {"until": until}})
        if run.is_behind:
            behind = {"until": until, "behind_seconds": round(run.behind.total_seconds())}
            logger.error("reconciliation is behind", extra={"fields": behind})
        return JSONResponse({"until": until, "parts": parts})
