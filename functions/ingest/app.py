"""The HTTP application of `ingest`: takes Pub/Sub messages, and answers when they are durable."""

import dataclasses
import logging
from typing import Self

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from functions import log
from functions.archive.writer import Archive
from functions.core.message import NotAMessage, receive
from functions.core.pipeline import EventPipeline
from functions.ingest import http_client
from functions.ingest.admission import Overloaded
from functions.ingest.batch_writer import NotDurable
from functions.ingest.group_commit import GroupCommit
from functions.ingest.warehouse import Warehouse
from functions.settings import Settings

logger = logging.getLogger("functions.main")

_DURABLE = Response(status_code=204)


@dataclasses.dataclass(frozen=True, slots=True)
class IngestApp:
    """Answers requests that carry a Pub/Sub message each.

    Attributes:
        commit: Makes messages durable.
        project: Project of the traces.
    """

    commit: GroupCommit
    project: str

    @classmethod
    def build(cls, settings: Settings) -> Self:
        """Build the application for a deployment.

        Raises:
            InvalidSettings: `IP_POLICY=hash` without its key.
        """
        project = http_client.project(settings)
        process = EventPipeline.from_settings(settings)
        archive = Archive(http_client.storage_api(), settings.archive_bucket, process.contracts.event_types)
        warehouse = Warehouse(http_client.bigquery_api(), project, settings.dataset)
        return cls(GroupCommit(process, archive, warehouse, settings), project)

    async def __call__(self, request: Request) -> Response:
        """Take one message: 204 once it is durable; any other answer makes Pub/Sub deliver it again."""
        try:
            message = receive(request.headers, await self._body(request))
            await self.commit(message)
        except NotAMessage as error:
            logger.warning("%s", error, extra={"trace": log.trace(request.headers, self.project)})
            return _refuse(400, error)
        except Overloaded as error:
            return _refuse(429, error)
        except NotDurable as error:
            return _refuse(503, error)
        except ClientDisconnect:
            return Response(status_code=400)  # that nobody hears
        except Exception as error:  # The framework would log its message, which may quote the event.
            reason = log.safe_message(error)
            logger.error("%s", reason, extra={"trace": log.trace(request.headers, self.project)})  # noqa: TRY400
            error.__traceback__ = None  # Its frames refer to the event, whose fate refers to the error.
            return JSONResponse({"error": reason}, 500)
        return _DURABLE

    async def _body(self, request: Request) -> bytes:
        """Return the body. `request.body()` would keep it in the request, which lives as long as its event."""

        async def next_chunk() -> tuple[bytes, bool]:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            return message.get("body", b""), message.get("more_body", False)

        length = request.headers.get("content-length")
        return await self.commit.receive(next_chunk, int(length) if length else None)


def _refuse(status: int, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status)
