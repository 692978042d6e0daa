"""The HTTP application of `ingest`: takes Pub/Sub messages, and answers when they are durable."""

import dataclasses
import logging
from typing import Self

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from functions import log
from functions.archive.writer import Archive
from functions.core.message import NotAMessage
from functions.core.pipeline import EventPipeline
from functions.ingest import http_client
from functions.ingest.admission import Overloaded
from functions.ingest.batch_writer import NotDurable
from functions.ingest.flush import FlushServices, ProcessingFailed
from functions.ingest.group_commit import GroupCommit
from functions.ingest.stages import ingest_event
from functions.ingest.threads import Threads
from functions.ingest.warehouse import Warehouse
from functions.settings import Settings
from functions.system import SYSTEM, System

logger = logging.getLogger("functions.main")

_DURABLE = Response(status_code=204)


@dataclasses.dataclass(frozen=True, slots=True)
class IngestApp:
    """Answers requests that carry a Pub/Sub message each.

    Attributes:
        commit: Makes messages durable.
        project: Project of the traces.
        code_version: What GET answers with.
    """

    commit: GroupCommit
    project: str
    code_version: str

    @classmethod
    def build(cls, settings: Settings, system: System = SYSTEM) -> Self:
        """Build the application for a deployment.

        Args:
            settings: The settings of the deployment.
            system: The machine.

        Raises:
            InvalidSettings: `IP_POLICY=hash` without its key.
        """
        project = http_client.project(settings)
        process = EventPipeline.from_settings(settings)
        archive = Archive(http_client.storage_api(system), settings.archive_bucket, process.contracts.event_types)
        warehouse = Warehouse(http_client.bigquery_api(system), project, settings.dataset)
        services = FlushServices(process, archive, warehouse, Threads(system.pool), system)
        return cls(GroupCommit(services, settings), project, settings.code_version)

    async def __call__(self, request: Request) -> Response:  # noqa: PLR0911 - one for each answer
        """Ingest one message: 204 once it is durable. After any other answer Pub/Sub delivers it again.

        GET and HEAD carry no message: 200, also while the function is overloaded.
        """
        if request.method in {"GET", "HEAD"}:
            return PlainTextResponse(f"Sluice ingest, code version {self.code_version}, takes messages by POST\n")

        async def next_chunk() -> tuple[bytes, bool]:
            # `request.body()` would keep the body in the request, which lives as long as its event.
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            return message.get("body", b""), message.get("more_body", False)

        try:
            await ingest_event(request.headers, next_chunk, self.commit.admission, self.commit, self.commit.system.now)
        except NotAMessage as error:
            logger.warning("%s", error, extra={"trace": log.trace(request.headers, self.project)})
            return _reject(400, error)
        except Overloaded as error:
            return _reject(429, error)
        except NotDurable as error:
            return _reject(503, error)
        except ClientDisconnect:
            return Response(status_code=400)  # The client has gone.
        except Exception as error:  # The framework would log its message, which may quote the event.
            reason = str(error) if isinstance(error, ProcessingFailed) else log.safe_message(error)
            logger.error("%s", reason, extra={"trace": log.trace(request.headers, self.project)})  # noqa: TRY400
            return JSONResponse({"error": reason}, 500)
        return _DURABLE


def _reject(status: int, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status)
