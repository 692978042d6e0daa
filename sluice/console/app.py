"""The web application of the console: its pages, its actions, and the stream of its traffic."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sluice.commands.error_messages import message
from sluice.console.answers import QueryParameters, query, query_list
from sluice.console.api import NewEvent, delete_events, publish_event
from sluice.console.breaking import Switches, TrafficRate, breaking, kill, publish_shop, restart_count, switch
from sluice.console.catalog import ContractParameters, ContractsParameters, contract, contracts
from sluice.console.events import EventParameters, EventsParameters, event, events
from sluice.console.failures import FailureParameters, FailuresParameters, RuleParameters, failure, failures, rule
from sluice.console.guide import FOLDER as DOCS
from sluice.console.guide import GuideParameters, guide
from sluice.console.health import compare, data_health, health
from sluice.console.markdown import FILES
from sluice.console.page import (
    FAILURES,
    FOLDER,
    Action,
    NoParameters,
    NotThere,
    Page,
    Problem,
    WrongInput,
    parse,
    respond,
)
from sluice.console.replays import RepairParameters, ReplayParameters, dry_run, last_run, repair, replay
from sluice.console.security import OnlyOwnRequests
from sluice.console.sources import Sources
from sluice.console.traffic import TrafficParameters, traffic
from sluice.console.trial import TrialParameters, TriedEvent, judge, send, trial
from sluice.console.warehouse import TableParameters, WarehouseParameters, table, warehouse

EVENTS = Page("/events", "events.html", EventsParameters, events)

PAGES: Sequence[Page[Any]] = (
    Page("/live", "live.html", TrafficParameters, traffic),
    EVENTS,
    Page("/event", "event.html", EventParameters, event),
    Page("/failures", "failures.html", FailuresParameters, failures),
    Page("/failure", "failure.html", FailureParameters, failure),
    Page("/rule", "rule.html", RuleParameters, rule),
    Page("/replay", "replay.html", ReplayParameters, dry_run),
    Page("/contracts", "contracts.html", ContractsParameters, contracts),
    Page("/contract", "contract.html", ContractParameters, contract),
    Page("/docs", "guide.html", GuideParameters, guide),
    Page("/health", "health.html", NoParameters, health),
    Page("/health/data", "health_data.html", NoParameters, data_health),
    Page("/warehouse", "warehouse.html", WarehouseParameters, warehouse),
    Page("/table", "table.html", TableParameters, table),
    Page("/queries", "queries.html", NoParameters, query_list),
    Page("/query", "query.html", QueryParameters, query),
)

LOCAL_PAGES: Sequence[Page[Any]] = (
    Page("/try", "try.html", TrialParameters, trial),
    Page("/break", "break.html", NoParameters, breaking),
    Page("/replay/run", "replay_run.html", NoParameters, last_run),
)
"""Pages that exist on the local stack only."""

ACTIONS: Sequence[Action[Any]] = (
    Action("/api/events", NewEvent, publish_event),
    Action("/api/events", NoParameters, delete_events, method="DELETE"),
    Action("/health/compare", NoParameters, compare),
    Action("/replay", ReplayParameters, replay, then="/replay/run"),
    Action("/repair", RepairParameters, repair, then="/replay/run"),
    Action("/try/verdict", TriedEvent, judge, "verdict.html", needs_token=False),
    Action("/try/send", TriedEvent, send, "sent.html"),
    Action("/break/switches", Switches, switch),
    Action("/break/kill", NoParameters, kill),
    Action("/break/traffic", TrafficRate, publish_shop),
    Action("/break/count", NoParameters, restart_count),
)
"""Actions, which change the local stack only."""

_LOCAL_INTERVAL, _CLOUD_INTERVAL = 1.0, 10.0
"""Seconds between two queries for each stream, whose costs are those of a query in the cloud."""


def console_app(sources: Sources) -> Starlette:
    """Return the application.

    Args:
        sources: Clients of the deployment. Without a local stack the application has no actions.
    """

    async def start(_: Request) -> Response:
        return RedirectResponse("/live")

    async def stream(request: Request) -> Response:
        try:
            parameters = parse(request.query_params.multi_items(), TrafficParameters)
        except WrongInput as error:
            return Response(str(error), 400)
        return StreamingResponse(_stream(sources, parameters), media_type="text/event-stream")

    async def missing(request: Request, _: Exception) -> Response:
        async def nothing() -> msgspec.Struct:
            others = "" if sources.local else "; /try, /break and replays exist on the local stack only"
            raise NotThere(f"the console has no page {request.url.path}{others}")

        return await respond(request, sources, "problem.html", nothing, as_json=request.url.path.endswith(".json"))

    routes = [Route("/", start), Route("/live/stream", stream)]
    for page in (*PAGES, *(LOCAL_PAGES if sources.local else ())):
        routes += page.routes(sources)
    routes.append(EVENTS.json_route(sources, "/api/events"))
    for action in ACTIONS if sources.local else ():
        routes += action.routes(sources)
    return Starlette(
        routes=[
            *routes,
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
            Mount(FILES, StaticFiles(directory=DOCS, check_dir=False)),
        ],
        middleware=[Middleware(OnlyOwnRequests)],
        exception_handlers={HTTPStatus.NOT_FOUND: missing},
    )


async def _stream(sources: Sources, parameters: TrafficParameters) -> AsyncIterator[bytes]:
    """Yield the traffic as server-sent events for as long as somebody reads them."""
    interval = _LOCAL_INTERVAL if sources.local else _CLOUD_INTERVAL
    while True:
        try:
            answer: msgspec.Struct = await run_in_threadpool(traffic, sources, parameters)
        except FAILURES as error:
            answer = Problem(message(error))
        yield b"event: %s\ndata: %s\n\n" % (
            b"problem" if isinstance(answer, Problem) else b"traffic",
            msgspec.json.encode(answer),
        )
        await asyncio.sleep(interval)
