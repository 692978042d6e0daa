"""Stand-ins for BigQuery and Cloud Storage, in a process of their own: they answer after a set time, and count.

Cheap enough to leave the core to the load generator: the protocol is parsed by httptools, and nothing is kept.
"""

import asyncio
import contextlib
import gzip
import json
import multiprocessing
from collections.abc import Iterator
from typing import Any, cast

import httptools
import httpx
import msgspec
import uvloop

from benchmarks.machine import OTHER_CORE, on_core
from ops.stack.process import free_port

MIN_ROW_BYTES = 1024
"""That BigQuery bills for a streamed row at least (https://cloud.google.com/bigquery/pricing#data_ingestion_pricing)."""


class Counts(msgspec.Struct):
    """What has arrived since the last reset.

    Attributes:
        inserts: Calls of insertAll.
        uploads: Uploads that are whole: objects.
        other: Calls of anything else, a resumable upload's first one among them.
        rows: Rows by table.
        row_bytes: Bytes of the rows as JSON.
        billed_row_bytes: The same with `MIN_ROW_BYTES` for each at least.
        insert_bytes: Bytes of the requests' bodies, as they came.
        upload_bytes: The same of uploads.
        most_at_once: Calls in flight together, at most.
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


class _Answering(msgspec.Struct):
    """How the stand-ins answer now, and what they count."""

    insert_seconds: float = 0.0
    upload_seconds: float = 0.0
    in_flight: int = 0
    counts: Counts = msgspec.field(default_factory=Counts)


class _Connection(asyncio.Protocol):
    """One connection; a request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, state: _Answering) -> None:
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
        state = self._state
        path, _, query = self._url.partition(b"?")
        body = b"".join(self._body)
        if path.endswith(b"/insertAll"):
            answer = _insert(state.counts, path, self._headers, body)
            seconds = state.insert_seconds
        elif path.startswith((b"/upload/", b"/resumable/")):
            answer = _upload(state.counts, path, query, self._headers, body)
            seconds = state.upload_seconds
        elif path == b"/":
            self._answer(_NOTHING, is_counted=False)
            return
        elif path == b"/control":
            self._answer(_control(state, body), is_counted=False)
            return
        else:
            state.counts.other += 1
            answer = _BUCKET if path.startswith(b"/storage/v1/b/") else _NOT_FOUND
            seconds = 0.0
        state.in_flight += 1
        state.counts.most_at_once = max(state.counts.most_at_once, state.in_flight)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, answer: bytes, is_counted: bool = True) -> None:
        if is_counted:
            self._state.in_flight -= 1
        if self._transport:
            self._transport.write(answer)
            if not self._parser.should_keep_alive():
                self._close()

    def _close(self) -> None:
        if self._transport:
            self._transport.close()


def _insert(counts: Counts, path: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes:
    """https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll."""
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
    return _INSERTED


def _upload(counts: Counts, path: bytes, query: bytes, headers: dict[bytes, bytes], body: bytes) -> bytes:
    """https://cloud.google.com/storage/docs/json_api/v1/objects/insert, in one request or resumable."""
    counts.upload_bytes += len(body)
    if b"uploadType=resumable" in query:
        counts.other += 1
        place = b"http://" + headers[b"host"] + b"/resumable/1"
        return _response(b"{}", b"200 OK\r\nlocation: " + place)
    if headers.get(b"content-range", b"").endswith(b"/*"):
        counts.other += 1
        last = headers[b"content-range"].partition(b"-")[2].partition(b"/")[0]
        return _response(b"", b"308 Resume Incomplete\r\nrange: bytes=0-" + last)
    counts.uploads += 1
    return _UPLOADED


def _control(state: _Answering, body: bytes) -> bytes:
    """The counts; with a body they begin anew, and it says how to answer from now on."""
    if body:
        told = json.loads(body)
        state.insert_seconds, state.upload_seconds = told["insert_seconds"], told["upload_seconds"]
        state.counts = Counts()
    return _response(msgspec.json.encode({"in_flight": state.in_flight, "counts": state.counts}))


def _response(body: bytes, status: bytes = b"200 OK") -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


_NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"
"""To a push: nobody can answer faster, so it shows what the load generator can do at most."""
_NOT_FOUND = _response(b'{"error":{"code":404,"message":"not found"}}', b"404 Not Found")
_BUCKET = _response(b'{"kind":"storage#bucket","name":"archive","projectNumber":"1","location":"US-CENTRAL1"}')
"""The client asks for what its traces say of the bucket, traced or not: once, or with each upload while it gets 404."""
_INSERTED = _response(b'{"kind":"bigquery#tableDataInsertAllResponse"}')
_UPLOADED = _response(b'{"kind":"storage#object","name":"object","bucket":"archive","generation":"1"}')


class StandIn:
    """The running stand-ins, as seen from another process.

    Args:
        url: Of both APIs.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url)

    def is_up(self) -> bool:
        """Whether they answer."""
        try:
            return self._client.get("/control").is_success
        except httpx.TransportError:
            return False

    def reset(self, insert_ms: float, upload_ms: float) -> None:
        """Answer so slowly from now on, and count anew."""
        told = {"insert_seconds": insert_ms / 1000, "upload_seconds": upload_ms / 1000}
        self._client.post("/control", json=told).raise_for_status()

    def counts(self) -> Counts:
        """What has arrived."""
        return msgspec.convert(self._told()["counts"], Counts)

    def in_flight(self) -> int:
        """Calls that wait for their answer."""
        return int(self._told()["in_flight"])

    def _told(self) -> dict[str, Any]:
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
        state = _Answering()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", port, backlog=2048)
        await server.serve_forever()

    uvloop.run(serve())
