"""The HTTP application of `compact`: compacts the hours of the archive that are complete, and logs the result."""

import dataclasses
import logging
from typing import Self

from google.cloud.storage import Client as StorageClient
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.archive.compaction import THREADS, HourCompaction
from functions.clients import storage_client
from functions.compact.scheduled import Progress, ScheduledCompaction
from functions.events import event_types
from functions.reconcile.scheduled import Checkpoints
from functions.settings import Settings
from functions.system import SYSTEM, System

logger = logging.getLogger("functions.main")


@dataclasses.dataclass(frozen=True, slots=True)
class CompactApp:
    """Answers POST.

    Attributes:
        storage: Client of the archive's project.
        bucket: Name of the archive's bucket.
        system: The machine.
    """

    storage: StorageClient
    bucket: str
    system: System = SYSTEM

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Build the application for a deployment."""
        return cls(storage_client(settings, THREADS), settings.archive_bucket)

    def __call__(self, request: Request) -> Response:
        """Compact the hours that a reconciliation has found complete since the last run."""
        if request.method != "POST":
            return JSONResponse({"error": "POST"}, 405, {"Allow": "POST"})
        run = ScheduledCompaction(
            HourCompaction(self.storage, self.bucket, event_types(), self.system),
            Checkpoints(self.storage, self.bucket),
            Progress(self.storage, self.bucket),
            self.system.monotonic,
        )
        hours = []
        for result in run:
            severity = logging.ERROR if result.error else logging.INFO
            logger.log(severity, "compaction", extra={"fields": result.summary()})
            hours.append(result.summary())
        until = run.until.isoformat() if run.until else None
        if not hours:
            logger.info("compaction has nothing to compact", extra={"fields": {"until": until}})
        return JSONResponse({"until": until, "hours": hours})
