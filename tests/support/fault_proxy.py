"""A proxy that breaks what passes: between the functions and the emulators, and between Pub/Sub and the functions.

A `Fault` says what becomes of a request, a `Rule` which requests it befalls. Each fault that can strike before the
request arrived can strike after, too: then the write happened, and its answer got lost.
"""

import asyncio
import collections
import contextlib
import dataclasses
import json
import random
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from yarl import URL

from tests.history.records import Note, Record, Recorder
from tests.support import recorded_requests

BIGQUERY, STORAGE, PUSH = "BigQuery", "Cloud Storage", "Pub/Sub"

_HOP_BY_HOP = {"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"}
_OBJECT_NAME = re.compile(rb'"name": ?"([^"]+)"')


class Answer(NamedTuple):
    """The answer of the server behind the proxy."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> web.Response:
        return web.Response(status=self.status, headers=self.headers, body=self.body)


type Forward = Callable[[bytes], Awaitable[Answer]]
type Spoil = Callable[[web.BaseRequest, bytes, Forward], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A fault of a request: a name for people, and how to answer, with or without forwarding it."""

    name: str
    spoil: Spoil


def google_error(status: int, reason: str) -> web.Response:
    """Return an error as Google's APIs report it."""
    errors = [{"reason": reason, "message": reason}]
    return web.json_response({"error": {"code": status, "message": reason, "errors": errors}}, status=status)


def status(code: int, reason: str, *, after: bool = False) -> Fault:
    """An error answer."""

    async def spoil(_: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        if after:
            await forward(body)
        return google_error(code, reason)

    return Fault(f"{code} {reason}{_when(after)}", spoil)


def silence(*, after: bool = False, reached: threading.Event | None = None) -> Fault:
    """No answer at all, until the other side gives up; `reached` is set when that has begun."""

    async def spoil(request: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        if after:
            await forward(body)
        if reached:
            reached.set()
        await _given_up(request)
        return web.Response()

    return Fault(f"no answer{_when(after)}", spoil)


def reset(*, after: bool = False) -> Fault:
    """The connection is reset."""

    async def spoil(request: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        if after:
            await forward(body)
        return _break(request)

    return Fault(f"connection reset{_when(after)}", spoil)


def half_written() -> Fault:
    """The request does arrive; its answer breaks off in the middle."""

    async def spoil(request: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        answer = await forward(body)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body) + 2
        await response.prepare(request)
        await response.write(answer.body[: len(answer.body) // 2])
        if request.transport:
            request.transport.close()
        return response

    return Fault("answer half written", spoil)


def slow(seconds: float | None = None) -> Fault:
    """The request arrives late: after a time, or when the other side has given up, whichever comes first."""

    async def spoil(request: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_given_up(request), seconds)
        return (await forward(body)).response()

    return Fault("slow", spoil)


class Lane:
    """A service of limited capacity. It serves one request at a time, and also those whose client has gone.

    Args:
        seconds: Seconds that each request takes, besides the emulator's own.

    Attributes:
        served: Number of requests that it has served.
    """

    def __init__(self, seconds: float) -> None:
        self.served = 0
        self._seconds = seconds
        self._is_stalled = False
        self._turn = asyncio.Lock()

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """Serve nothing while the context lasts; what arrives meanwhile is served afterwards."""
        self._is_stalled = True
        try:
            yield
        finally:
            self._is_stalled = False

    async def serve(self, body: bytes, forward: Forward) -> Answer:
        """Serve a request when its turn comes."""
        async with self._turn:
            while self._is_stalled:
                await asyncio.sleep(0.02)
            await asyncio.sleep(self._seconds)
            self.served += 1
            return await forward(body)


def limited(lane: Lane) -> Fault:
    """The request waits for its turn in the lane."""

    async def spoil(_: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        return (await lane.serve(body, forward)).response()

    return Fault("limited capacity", spoil)


def row_errors(reason: str, share: float) -> Fault:
    """`insertAll` does not take some rows, the first one among them, and says so; the others are inserted."""

    async def spoil(_: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        content = json.loads(body)
        rows = content["rows"]
        rejected = set(range(max(1, round(len(rows) * share))))
        errors = [{"reason": reason, "location": "", "message": f"injected: {reason}"}]
        answered: dict[str, Any] = {"insertErrors": [{"index": index, "errors": errors} for index in rejected]}
        if len(rejected) < len(rows):
            content["rows"] = rows[len(rejected) :]
            answer = await forward(json.dumps(content).encode())
            if answer.status != 200:
                return answer.response()
            for error in json.loads(answer.body).get("insertErrors", ()):
                answered["insertErrors"].append({**error, "index": error["index"] + len(rejected)})
        return web.json_response(answered)

    return Fault(f'rows "{reason}"', spoil)


async def _given_up(request: web.BaseRequest) -> None:
    """Wait until the other side has closed its connection, however long that takes."""
    while request.transport and not request.transport.is_closing():
        await asyncio.sleep(0.02)


def _when(after: bool) -> str:
    return ", after the write" if after else ""


def _break(request: web.BaseRequest) -> web.StreamResponse:
    """RST instead of an answer."""
    if request.transport:
        request.transport.abort()
    return web.Response()


@dataclasses.dataclass(slots=True)
class Rule:
    """The requests that a fault applies to.

    Attributes:
        fault: What becomes of them.
        service: `BIGQUERY`, `STORAGE` or `PUSH`.
        path: Regular expression that is found in their method and path, with the object's name for an upload.
        times: How many of them, the first ones; None for no end.
        share: Of those that match, drawn by the proxy's seed.
        hits: How many it has befallen.
    """

    fault: Fault
    service: str
    path: str = ""
    times: int | None = None
    share: float = 1.0
    hits: int = 0

    def befalls(self, service: str, request: str, draw: Callable[[], float]) -> bool:
        matches = service == self.service and re.search(self.path, request) is not None
        if not matches or (self.times is not None and self.hits >= self.times) or draw() >= self.share:
            return False
        self.hits += 1
        return True


def insert(fault: Fault, table: str = r"\w+", **which: Any) -> Rule:
    """A fault of BigQuery's `insertAll`."""
    return Rule(fault, BIGQUERY, f"^POST .*/tables/{table}/insertAll", **which)


def upload(fault: Fault, name: str = "", **which: Any) -> Rule:
    """A fault of Cloud Storage's uploads, of objects with such names."""
    return Rule(fault, STORAGE, f"^POST /upload/.* {name}", **which)


def push(fault: Fault, **which: Any) -> Rule:
    """A fault of the way from Pub/Sub to the function."""
    return Rule(fault, PUSH, "^POST ", **which)


@dataclasses.dataclass(slots=True)
class Counts:
    """Counts of the requests that passed.

    Attributes:
        requests: By service.
        faults: Injected, by service and name.
        repeated: Inserts and uploads with something that had been sent before.
        lost: Requests that found no server, or lost it, by service.
    """

    requests: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    repeated: int = 0
    lost: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class Proxy:
    """Listens on a port for each service. Use it as an asynchronous context; the rest is for any thread.

    `insertId`s are made unique on their way: BigQuery drops a second row of an id only as well as it can, and here it
    never can.

    Args:
        seed: Of the draws of rules with a share.

    Attributes:
        upstreams: URLs of each service's servers, which take turns.
        rules: The first one that matches a request befalls it.
        counts: What has passed since they were set.
        recorder: Records what passes and concerns events; None for nobody.
        under_way: Requests to the emulators that are not done, whether or not anybody still waits for an answer.
    """

    def __init__(self, upstreams: dict[str, Sequence[str]], seed: int = 0) -> None:
        self.upstreams = upstreams
        self.rules: Sequence[Rule] = ()
        self.counts = Counts()
        self.recorder: Recorder | None = None
        self.under_way = 0
        self._draw = random.Random(seed).random
        self._turn = 0
        self._sent: set[str] = set()
        self._urls: dict[str, str] = {}
        self._stack = contextlib.AsyncExitStack()

    def url(self, service: str) -> str:
        """Return the URL of a service."""
        return self._urls[service]

    @contextlib.contextmanager
    def breaking(self, *rules: Rule) -> Iterator[None]:
        """Have faults while the context lasts."""
        self.rules = rules
        try:
            yield
        finally:
            self.rules = ()

    def note(self, text: str) -> None:
        """Record what happens to a process."""
        self._record(Note(text))

    def _record(self, record: Record | None) -> None:
        if self.recorder and record:
            self.recorder.add(record)

    async def __aenter__(self) -> "Proxy":
        connector = aiohttp.TCPConnector(limit=0, force_close=True)  # a kept connection breaks at times by itself
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        )
        for service in self.upstreams:
            listener = socket.create_server(("127.0.0.1", 0))
            self._urls[service] = f"http://127.0.0.1:{listener.getsockname()[1]}"
            runner = web.ServerRunner(web.Server(self._handler(service)), shutdown_timeout=1)
            await runner.setup()
            self._stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, listener).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _handler(self, service: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.content.read()
            self.counts.requests[service] += 1
            if request.path.endswith("/insertAll"):
                body = self._insert_ids(body)
            line = f"{request.method} {request.path}"
            if request.path.startswith("/upload/"):
                self._note(_object(body))
                line = f"{line} {_object(body)}"

            async def forward(body: bytes) -> Answer:
                return await self._forward(service, request, body)

            self.under_way += service != PUSH
            try:
                for rule in self.rules:
                    if rule.befalls(service, line, self._draw):
                        self.counts.faults[f"{service}: {rule.fault.name}"] += 1
                        self._record(recorded_requests.fault(service, rule.fault.name, request.path, line, body))
                        return await rule.fault.spoil(request, body, forward)
                return (await forward(body)).response()
            except (aiohttp.ClientError, OSError):
                self.counts.lost[service] += 1
                # Google's front end answers for an instance that went away.
                return google_error(503, "unavailable") if service == PUSH else _break(request)
            finally:
                self.under_way -= service != PUSH

        return handle

    def _note(self, *sent: str) -> None:
        self.counts.repeated += not self._sent.isdisjoint(sent)
        self._sent.update(sent)

    def _insert_ids(self, body: bytes) -> bytes:
        content = json.loads(body)
        self._note(*(row["insertId"] for row in content["rows"]))
        for row in content["rows"]:
            self._turn += 1
            row["insertId"] = f"{row['insertId']} {self._turn}"
        return json.dumps(content).encode()

    async def _forward(self, service: str, request: web.BaseRequest, body: bytes) -> Answer:
        self._turn += 1
        urls = self.upstreams[service]
        if not urls:
            raise ConnectionRefusedError
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP_BY_HOP}
        url = URL(urls[self._turn % len(urls)] + request.raw_path, encoded=True)
        try:
            async with self._session.request(request.method, url, headers=headers, data=body) as answer:
                kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP_BY_HOP}
                content = await answer.read()
        except (aiohttp.ClientError, OSError):
            self._record(recorded_requests.answered(request.path, body, 0, b""))
            raise
        self._record(recorded_requests.answered(request.path, body, answer.status, content))
        return Answer(answer.status, kept, content)


def _object(body: bytes) -> str:
    """Name of the object of a multipart upload."""
    match = _OBJECT_NAME.search(body)
    return match[1].decode() if match else ""
