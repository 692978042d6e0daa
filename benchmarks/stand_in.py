"""Stand-ins for BigQuery and Cloud Storage, in a process of their own: they answer after a set time, and count.

Cheap enough to leave the core to the load generator: the protocol is parsed by httptools, and nothing is kept but the
ids of what was written, where that is asked for.
"""

import asyncio
import contextlib
import functools
import gzip
import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, cast

import httptools
import httpx
import msgspec
import uvloop

from benchmarks.machine import OTHER_CORE, on_core
from benchmarks.service_queue import Capacity, Disturbance, ServiceQueue
from sluice.cost.prices import MIN_ROW_BYTES
from sluice.local.process import free_port


class Counts(msgspec.Struct):
    """Counts of what has arrived since the last reset.

    Attributes:
        inserts: Calls of insertAll.
        uploads: Uploads that are whole: objects.
        other: Calls of anything else, a resumable upload's first one among them.
        rows: Rows by table.
        row_bytes: Bytes of the rows as JSON.
        billed_row_bytes: The same with `MIN_ROW_BYTES` for each at least.
        insert_bytes: Bytes of the requests' bodies, as they came.
        upload_bytes: The same of uploads.
        most_at_once: Maximum number of concurrent calls.
    """

    inserts: int = 0
    uploads: int = 0
    other: int = 0
    rows: dict[str, int] = {}
    row_bytes: int = 0
    billed_row_bytes: int = 0
    insert_bytes: int = 0
    upload_bytes: int = 0
    most_at_once: int = 0

    @property
    def calls(self) -> int:
        """Calls of any kind."""
        return self.inserts + self.uploads + self.other


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of what was written since the last reset, as far as ids were kept; a request counts when it is served.

    Attributes:
        rows: Rows of the insert requests that were served.
        distinct_rows: Different insert ids of these rows.
        objects: Uploads that were served.
        distinct_objects: Different names of these objects.
        archived: Different event ids in these objects.
        abandoned: Requests of both services that were served after their client had closed the connection.
        queued_inserts: Insert requests that wait to be served.
        queued_uploads: Uploads that wait to be served.
    """

    rows: int
    distinct_rows: int
    objects: int
    distinct_objects: int
    archived: int
    abandoned: int
    queued_inserts: int
    queued_uploads: int


class EventIds(msgspec.Struct, frozen=True, kw_only=True):
    """The events that the services have written.

    Attributes:
        rows: Insert ids of all rows.
        archived: Event ids of all objects' lines.
    """

    rows: set[str]
    archived: set[str]


type Service = Literal["BigQuery", "Cloud Storage"]


class _Reset(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request that begins anew."""

    inserts: Capacity
    uploads: Capacity
    keeps_ids: bool


class _Ledger(msgspec.Struct):
    """The ids that were written."""

    rows: int = 0
    row_ids: set[str] = msgspec.field(default_factory=set)
    objects: int = 0
    names: set[str] = msgspec.field(default_factory=set)
    archived_ids: set[str] = msgspec.field(default_factory=set)
    abandoned: int = 0


class _State:
    """Settings of the stand-ins' answers, and their counts."""

    def __init__(self) -> None:
        call_later = asyncio.get_running_loop().call_later
        self.inserts = ServiceQueue(Capacity(), call_later)
        self.uploads = ServiceQueue(Capacity(), call_later)
        self.in_flight = 0
        self.counts = Counts()
        self.ledger: _Ledger | None = None

    def reset(self, body: bytes) -> None:
        """Answer as the body says from now on, and count anew."""
        reset = msgspec.json.decode(body, type=_Reset)
        self.inserts.change_capacity(reset.inserts)
        self.uploads.change_capacity(reset.uploads)
        self.counts = Counts()
        self.ledger = _Ledger() if reset.keeps_ids else None

    def disturb(self, body: bytes) -> None:
        """Disturb each service that the body names."""
        for service, disturbance in msgspec.json.decode(body, type=dict[Service, Disturbance]).items():
            (self.inserts if service == "BigQuery" else self.uploads).disturb(disturbance)

    def written(self) -> Written:
        """Return the totals of the ledger."""
        ledger = self.ledger or _Ledger()
        return Written(
            rows=ledger.rows,
            distinct_rows=len(ledger.row_ids),
            objects=ledger.objects,
            distinct_objects=len(ledger.names),
            archived=len(ledger.archived_ids),
            abandoned=ledger.abandoned,
            queued_inserts=self.inserts.queued,
            queued_uploads=self.uploads.queued,
        )


class _Connection(asyncio.Protocol):
    """One connection; a request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._close()

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._headers.get(b"expect", b"").lower() == b"100-continue" and self._transport:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.partition(b"?")
        body = b"".join(self._body)
        if path.endswith(b"/insertAll"):
            self._enqueue(self._state.inserts, *_insert(self._state, path, self._headers, body))
        elif path.startswith((b"/upload/", b"/resumable/")):
            self._enqueue(self._state.uploads, *_upload(self._state, path, query, self._headers, body))
        elif path == b"/":
            self._answer(_NOTHING)
        elif path.startswith(b"/control"):
            self._answer(_control(self._state, path, body))
        else:
            self._state.counts.other += 1
            self._answer(_BUCKET if path.startswith(b"/storage/v1/b/") else _NOT_FOUND)

    def _enqueue(self, queue: ServiceQueue, rows: int, serve: Callable[[], bytes]) -> None:
        """Answer a request once its service has served it."""
        state = self._state
        state.in_flight += 1
        state.counts.most_at_once = max(state.counts.most_at_once, state.in_flight)

        def done() -> None:
            state.in_flight -= 1
            if state.ledger and not self._transport:
                state.ledger.abandoned += 1
            self._answer(serve())

        queue.submit(rows, done)

    def _answer(self, answer: bytes) -> None:
        if self._transport:
            self._transport.write(answer)
            if not self._parser.should_keep_alive():
                self._close()

    def _close(self) -> None:
        if self._transport:
            self._transport.close()


def _insert(state: _State, path: bytes, headers: dict[bytes, bytes], body: bytes) -> tuple[int, Callable[[], bytes]]:
    """Return the number of rows, and what serves the request.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll
    """
    counts = state.counts
    counts.inserts += 1
    counts.insert_bytes += len(body)
    text = gzip.decompress(body) if headers.get(b"content-encoding") == b"gzip" else body
    # Inside a string it would be `\"insertId\"`, so each one is a row's, and from one to the next is as long as a row.
    sizes = [len(row) for row in text.split(b'"insertId"')]
    del sizes[0 if sizes[0] < sizes[-1] else -1]  # what stands before the first row, or behind the last one
    table = path.rsplit(b"/", 2)[1].decode()
    counts.rows[table] = counts.rows.get(table, 0) + len(sizes)
    counts.row_bytes += sum(sizes)
    counts.billed_row_bytes += sum(max(size, MIN_ROW_BYTES) for size in sizes)
    if state.ledger is None:
        return len(sizes), lambda: _INSERTED
    return len(sizes), functools.partial(_write_rows, state.ledger, _decode_rows(text).rows)


class _Lineage(msgspec.Struct):
    event_id: str


class _Columns(msgspec.Struct):
    ingest: _Lineage | None = None
    event_id: str | None = None


class _Row(msgspec.Struct, rename="camel"):
    insert_id: str
    json: _Columns

    @property
    def event_id(self) -> str:
        """The event of a row or of a dead letter; the plain function has it as the insertId only."""
        return self.json.ingest.event_id if self.json.ingest else self.json.event_id or self.insert_id


class _Rows(msgspec.Struct):
    rows: list[_Row]


_decode_rows = msgspec.json.Decoder(_Rows).decode


def _write_rows(ledger: _Ledger, rows: list[_Row]) -> bytes:
    ledger.rows += len(rows)
    ledger.row_ids.update(row.event_id for row in rows)
    return _INSERTED


def _upload(
    state: _State, path: bytes, query: bytes, headers: dict[bytes, bytes], body: bytes
) -> tuple[int, Callable[[], bytes]]:
    """Return the number of events in the object, if ids are kept, and what serves the request.

    https://cloud.google.com/storage/docs/json_api/v1/objects/insert, in one request or resumable; the latter's ids are
    not kept.
    """
    counts = state.counts
    counts.upload_bytes += len(body)
    if b"uploadType=resumable" in query:
        counts.other += 1
        place = b"http://" + headers[b"host"] + b"/resumable/1"
        return 0, lambda: _response(b"{}", b"200 OK\r\nlocation: " + place)
    if headers.get(b"content-range", b"").endswith(b"/*"):
        counts.other += 1
        last = headers[b"content-range"].partition(b"-")[2].partition(b"/")[0]
        return 0, lambda: _response(b"", b"308 Resume Incomplete\r\nrange: bytes=0-" + last)
    counts.uploads += 1
    if state.ledger is None or b"uploadType=multipart" not in query:
        return 0, lambda: _UPLOADED
    name, events = _object(body)
    return len(events), functools.partial(_write_object, state.ledger, name, events)


class _Object(msgspec.Struct):
    name: str


class _Event(msgspec.Struct):
    event_id: str


_decode_object = msgspec.json.Decoder(_Object).decode
_decode_events = msgspec.json.Decoder(_Event).decode_lines


def _object(body: bytes) -> tuple[str, list[_Event]]:
    """Return name and events of an upload in one request: a boundary, the resource, a boundary, the gzipped lines.

    https://cloud.google.com/storage/docs/uploading-objects#rest-upload-objects
    """
    boundary = body[: body.index(b"\r\n")]
    _, resource, data, _ = body.split(boundary, 3)
    ndjson = zlib.decompressobj(wbits=31).decompress(data.partition(b"\r\n\r\n")[2])
    return _decode_object(resource.partition(b"\r\n\r\n")[2]).name, _decode_events(ndjson)


def _write_object(ledger: _Ledger, name: str, events: list[_Event]) -> bytes:
    """Write an object unless its name is taken: the function sends `ifGenerationMatch=0`."""
    ledger.objects += 1
    if name in ledger.names:
        return _TAKEN
    ledger.names.add(name)
    ledger.archived_ids.update(event.event_id for event in events)
    return _UPLOADED


def _control(state: _State, path: bytes, body: bytes) -> bytes:
    """Answer with the counts, the totals or the ids; with a body, reset or disturb the services first."""
    match path:
        case b"/control/disturb":
            state.disturb(body)
            return _response(b"{}")
        case b"/control/ids":
            ledger = state.ledger or _Ledger()
            return _response(msgspec.json.encode(EventIds(rows=ledger.row_ids, archived=ledger.archived_ids)))
        case b"/control/written":
            return _response(msgspec.json.encode(state.written()))
        case _:
            if body:
                state.reset(body)
            return _response(msgspec.json.encode({"in_flight": state.in_flight, "counts": state.counts}))


def _response(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"
"""Answer to a push by a server that does nothing, which shows the maximum of the load generator."""
_NOT_FOUND = _response(b'{"error":{"code":404,"message":"not found"}}', b"404 Not Found")
_BUCKET = _response(b'{"kind":"storage#bucket","name":"archive","projectNumber":"1","location":"US-CENTRAL1"}')
"""Answer to the client's request for the bucket's metadata: once, or with each upload while it gets 404."""
_INSERTED = _response(b'{"kind":"bigquery#tableDataInsertAllResponse"}')
_UPLOADED = _response(b'{"kind":"storage#object","name":"object","bucket":"archive","generation":"1"}')
_TAKEN = _response(b'{"error":{"code":412,"message":"conditionNotMet"}}', b"412 Precondition Failed")


class StandIn:
    """The running stand-ins, as seen from another process.

    Args:
        url: URL of both APIs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url)

    def is_up(self) -> bool:
        """Return whether they answer."""
        try:
            return self._client.get("/control").is_success
        except httpx.TransportError:
            return False

    def reset(self, insert_ms: float, upload_ms: float) -> None:
        """Answer so slowly from now on, and count anew."""
        self.limit(Capacity(request_seconds=insert_ms / 1000), Capacity(request_seconds=upload_ms / 1000), False)

    def limit(self, inserts: Capacity, uploads: Capacity, keeps_ids: bool = True) -> None:
        """Serve requests in queues of limited capacity from now on, undisturbed, and count anew.

        Args:
            inserts: Capacity of BigQuery.
            uploads: Capacity of Cloud Storage; a row is an event of the object.
            keeps_ids: Whether the ids of rows and objects are kept.
        """
        self._post("/control", _Reset(inserts=inserts, uploads=uploads, keeps_ids=keeps_ids))

    def disturb(self, disturbances: Mapping[Service, Disturbance]) -> None:
        """Disturb services from now on; those that are not named stay as they are."""
        self._post("/control/disturb", disturbances)

    def written(self) -> Written:
        """Return what was written since the last reset."""
        return msgspec.json.decode(self._client.get("/control/written").raise_for_status().content, type=Written)

    def event_ids(self) -> EventIds:
        """Return the ids of what was written since the last reset."""
        return msgspec.json.decode(self._client.get("/control/ids").raise_for_status().content, type=EventIds)

    def _post(self, path: str, body: object) -> None:
        self._client.post(path, content=msgspec.json.encode(body)).raise_for_status()

    def counts(self) -> Counts:
        """Return the counts of what has arrived."""
        return msgspec.convert(self._state()["counts"], Counts)

    def in_flight(self) -> int:
        """Return the calls that wait for their answer."""
        return int(self._state()["in_flight"])

    def _state(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.get("/control").raise_for_status().json()
        return answer


@contextlib.contextmanager
def running(core: int = OTHER_CORE) -> Iterator[StandIn]:
    """Serve the stand-ins on a core while the context lasts."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(port,), daemon=True)
    with on_core(core):
        process.start()
    try:
        stand_in = StandIn(f"http://127.0.0.1:{port}")
        while not stand_in.is_up() and process.is_alive():
            process.join(0.02)
        yield stand_in
    finally:
        process.terminate()
        process.join()


def _serve(port: int) -> None:
    async def serve() -> None:
        state = _State()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", port, backlog=2048)
        await server.serve_forever()

    uvloop.run(serve())
