"""The two Cloud Functions: `ingest` and `bootstrap`."""

import dataclasses
import logging

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions import log
from functions.archive import Archive
from functions.bootstrap import Bootstrap, Change
from functions.clients import bigquery_client, storage_client
from functions.commit import GroupCommit, NotDurable, Overloaded
from functions.message import NotAMessage, receive
from functions.process import Process, utc_now
from functions.settings import Settings
from functions.warehouse import Warehouse

settings = Settings.from_environment()
log.configure(settings)
logger = logging.getLogger("functions.main")

bigquery = bigquery_client(settings)
process = Process.from_settings(settings)
commit = GroupCommit(
    Archive(storage_client(settings), settings.archive_bucket, process.contracts.event_types),
    Warehouse(bigquery, settings.dataset),
    settings,
)


@functions_framework.aio.http
async def ingest(request: Request) -> Response:
    """Take one Pub/Sub message: 204 once it is durable, anything else makes Pub/Sub deliver it again."""
    try:
        message = receive(request.headers, await request.body())
        outcome = process(message, utc_now())
        await commit(outcome)
    except NotAMessage as error:
        logger.warning("%s", error, extra={"trace": log.trace(request.headers, bigquery.project)})
        return _refuse(400, error)
    except Overloaded as error:
        return _refuse(429, error)
    except NotDurable as error:
        return _refuse(503, error)
    return Response(status_code=204)


def _refuse(status: int, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status)


@functions_framework.aio.http
def bootstrap(request: Request) -> Response:
    """POST makes the dataset and tables that are missing, GET tells which these are."""
    ddl = Bootstrap(bigquery, settings)
    match request.method:
        case "POST":
            steps = ddl.run()
        case "GET":
            steps = ddl.plan()
        case _:
            return JSONResponse({"error": "GET or POST"}, 405, {"Allow": "GET, POST"})
    for step in steps:
        severity = logging.ERROR if step.change is Change.ERROR else logging.INFO
        logger.log(severity, "bootstrap", extra={"fields": dataclasses.asdict(step)})
    failed = any(step.change is Change.ERROR for step in steps)
    return JSONResponse({"objects": [dataclasses.asdict(step) for step in steps]}, 500 if failed else 200)
