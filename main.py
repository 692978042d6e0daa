"""The Cloud Functions: `ingest`, and around it `bootstrap` and `reconcile`."""

import dataclasses
import logging

import functions_framework.aio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from functions import google_api, heap, log
from functions.admission import Overloaded
from functions.archive import Archive
from functions.commit import GroupCommit, NotDurable
from functions.message import NotAMessage, receive
from functions.process import Process, utc_now
from functions.settings import Settings
from functions.warehouse import Warehouse

heap.give_back()
settings = Settings.from_environment()
log.configure(settings)
logger = logging.getLogger("functions.main")

project = google_api.project(settings)
process = Process.from_settings(settings)
commit = GroupCommit(
    process,
    Archive(google_api.storage_api(), settings.archive_bucket, process.contracts.event_types),
    Warehouse(google_api.bigquery_api(), project, settings.dataset),
    settings,
)

_DURABLE = Response(status_code=204)
heap.settle()


@functions_framework.aio.http
async def ingest(request: Request) -> Response:
    """Take one Pub/Sub message: 204 once it is durable, anything else makes Pub/Sub deliver it again."""
    try:
        message = receive(request.headers, await _body(request))
        await commit(message)
    except NotAMessage as error:
        logger.warning("%s", error, extra={"trace": log.trace(request.headers, project)})
        return _refuse(400, error)
    except Overloaded as error:
        return _refuse(429, error)
    except NotDurable as error:
        return _refuse(503, error)
    except ClientDisconnect:
        return Response(status_code=400)  # that nobody hears
    except Exception as error:  # The framework would log its message, which may quote the event.
        told = log.reason(error)
        logger.error("%s", told, extra={"trace": log.trace(request.headers, project)})  # noqa: TRY400
        error.__traceback__ = None  # Its frames refer to the event, whose fate refers to the error.
        return JSONResponse({"error": told}, 500)
    return _DURABLE


async def _body(request: Request) -> bytes:
    """The body; unlike `request.body()` it leaves nothing in the request, which lives as long as its event."""

    async def next_chunk() -> tuple[bytes, bool]:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message.get("body", b""), message.get("more_body", False)

    length = request.headers.get("content-length")
    return await commit.receive(next_chunk, int(length) if length else None)


def _refuse(status: int, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status)


@functions_framework.aio.http
def bootstrap(request: Request) -> Response:
    """POST makes the warehouse what `sql/` defines; GET tells what that would change."""
    from functions.bootstrap import Bootstrap, Change  # noqa: PLC0415 - no part of ingest's cold start
    from functions.clients import bigquery_client  # noqa: PLC0415

    warehouse = Bootstrap(bigquery_client(settings), settings)
    match request.method:
        case "POST":
            steps = warehouse.run()
        case "GET":
            steps = warehouse.plan()
        case _:
            return JSONResponse({"error": "GET or POST"}, 405, {"Allow": "GET, POST"})
    changes = {step.change for step in steps}
    for step in steps:
        severity = logging.ERROR if step.change in {Change.ERROR, Change.REFUSED} else logging.INFO
        logger.log(severity, "bootstrap", extra={"fields": dataclasses.asdict(step)})
    status = 500 if Change.ERROR in changes else 409 if Change.REFUSED in changes else 200
    return JSONResponse({"objects": [dataclasses.asdict(step) for step in steps]}, status)


@functions_framework.aio.http
def reconcile(request: Request) -> Response:
    """POST compares what arrived in the hours before the last one with what became of it."""
    from functions.clients import bigquery_client, storage_client  # noqa: PLC0415 - no part of ingest's cold start
    from functions.reconciliation import Reconciler, recent_hours  # noqa: PLC0415

    if request.method != "POST":
        return JSONResponse({"error": "POST"}, 405, {"Allow": "POST"})
    start, end = recent_hours(utc_now())
    found = Reconciler(bigquery_client(settings), storage_client(settings), settings)(start, end)
    summary = {"start": start.isoformat(), "end": end.isoformat(), **found.summary()}
    logger.log(logging.INFO if found.is_complete else logging.ERROR, "reconciliation", extra={"fields": summary})
    return JSONResponse(summary)
