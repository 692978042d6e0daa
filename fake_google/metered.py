"""A fake of BigQuery and Cloud Storage whose services have limited capacity, and which counts what it was sent.

It is cheap: nothing is kept but the ids of what was written, where that is asked for.
"""

import asyncio
import functools
import json
import zlib
from collections.abc import Callable
from typing import Literal

import msgspec
import uvloop

from fake_google import http_server, requests
from fake_google.answers import BUCKET, INSERTED, Answer, error, uploaded
from fake_google.http_server import Connection, Request, response
from fake_google.service_queue import Capacity, Disturbance, ServiceQueue
from sluice.cost.prices import MIN_ROW_BYTES


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


class Reset(msgspec.Struct, frozen=True, kw_only=True):
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


class MeteredGoogle:
    """BigQuery and Cloud Storage, each with a queue, their counts and their ledger."""

    def __init__(self) -> None:
        call_later = asyncio.get_running_loop().call_later
        self.inserts = ServiceQueue(Capacity(), call_later)
        self.uploads = ServiceQueue(Capacity(), call_later)
        self.in_flight = 0
        self.counts = Counts()
        self.ledger: _Ledger | None = None

    def reset(self, body: bytes) -> None:
        """Answer as the body says from now on, and count anew."""
        reset = msgspec.json.decode(body, type=Reset)
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

    def handle(self, request: Request, connection: Connection) -> None:
        """Answer a request, once its service has served it."""
        path = request.path
        if path.endswith(b"/insertAll"):
            self._enqueue(connection, self.inserts, *_insert(self, request))
        elif path.startswith((b"/upload/", b"/resumable/")):
            self._enqueue(connection, self.uploads, *_upload(self, request))
        elif path == b"/":
            connection.answer(_NOTHING)
        elif path.startswith(b"/control"):
            connection.answer(_control(self, path, request.body))
        else:
            self.counts.other += 1
            connection.answer(_BUCKET if path.startswith(b"/storage/v1/b/") else _NOT_FOUND)

    def _enqueue(self, connection: Connection, queue: ServiceQueue, rows: int, serve: Callable[[], bytes]) -> None:
        self.in_flight += 1
        self.counts.most_at_once = max(self.counts.most_at_once, self.in_flight)

        def done() -> None:
            self.in_flight -= 1
            if self.ledger and not connection.is_open:
                self.ledger.abandoned += 1
            connection.answer(serve())

        queue.submit(rows, done)


def _insert(google: MeteredGoogle, request: Request) -> tuple[int, Callable[[], bytes]]:
    """Return the number of rows, and what serves the request."""
    counts = google.counts
    counts.inserts += 1
    counts.insert_bytes += len(request.body)
    text = requests.content(request)
    # Inside a string it would be `\"insertId\"`, so each one is a row's, and from one to the next is as long as a row.
    sizes = [len(row) for row in text.split(b'"insertId"')]
    del sizes[0 if sizes[0] < sizes[-1] else -1]  # what stands before the first row, or behind the last one
    table = requests.table(request)
    counts.rows[table] = counts.rows.get(table, 0) + len(sizes)
    counts.row_bytes += sum(sizes)
    counts.billed_row_bytes += sum(max(size, MIN_ROW_BYTES) for size in sizes)
    if google.ledger is None:
        return len(sizes), lambda: _INSERTED
    return len(sizes), functools.partial(_write_rows, google.ledger, _decode_rows(text).rows)


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


def _upload(google: MeteredGoogle, request: Request) -> tuple[int, Callable[[], bytes]]:
    """Return the number of events in the object, if ids are kept, and what serves the request.

    https://cloud.google.com/storage/docs/json_api/v1/objects/insert, in one request or resumable; the latter's ids are
    not kept.
    """
    counts = google.counts
    counts.upload_bytes += len(request.body)
    if b"uploadType=resumable" in request.query:
        counts.other += 1
        place = f"http://{request.headers[b'host'].decode()}/resumable/1"
        return 0, lambda: response(b"{}", headers={"location": place})
    content_range = request.headers.get(b"content-range", b"").decode()
    if content_range.endswith("/*"):
        counts.other += 1
        last = content_range.partition("-")[2].partition("/")[0]
        return 0, lambda: response(b"", 308, headers={"range": f"bytes=0-{last}"})
    counts.uploads += 1
    if google.ledger is None or b"uploadType=multipart" not in request.query:
        return 0, lambda: _UPLOADED
    name, events = _object(request)
    return len(events), functools.partial(_write_object, google.ledger, name, events)


class _Object(msgspec.Struct):
    name: str


class _Event(msgspec.Struct):
    event_id: str


_decode_object = msgspec.json.Decoder(_Object).decode
_decode_events = msgspec.json.Decoder(_Event).decode_lines


def _object(request: Request) -> tuple[str, list[_Event]]:
    """Return name and events of an upload in one request, whose data are gzipped lines."""
    resource, data = requests.upload(request)
    return _decode_object(resource).name, _decode_events(zlib.decompressobj(wbits=31).decompress(data))


def _write_object(ledger: _Ledger, name: str, events: list[_Event]) -> bytes:
    """Write an object unless its name is taken: the function sends `ifGenerationMatch=0`."""
    ledger.objects += 1
    if name in ledger.names:
        return _TAKEN
    ledger.names.add(name)
    ledger.archived_ids.update(event.event_id for event in events)
    return _UPLOADED


def _control(google: MeteredGoogle, path: bytes, body: bytes) -> bytes:
    """Answer with the counts, the totals or the ids; with a body, reset or disturb the services first."""
    match path:
        case b"/control/disturb":
            google.disturb(body)
            return response(b"{}")
        case b"/control/ids":
            ledger = google.ledger or _Ledger()
            return response(msgspec.json.encode(EventIds(rows=ledger.row_ids, archived=ledger.archived_ids)))
        case b"/control/written":
            return response(msgspec.json.encode(google.written()))
        case _:
            if body:
                google.reset(body)
            return response(msgspec.json.encode({"in_flight": google.in_flight, "counts": google.counts}))


def _encoded(answer: Answer) -> bytes:
    status, body = answer
    return response(json.dumps(body).encode(), status)


_NOTHING = b"HTTP/1.1 204 No Content\r\n\r\n"
"""Answer to a push by a server that does nothing, which shows the maximum of the load generator."""
_NOT_FOUND = _encoded(error(404, "notFound"))
_BUCKET = _encoded(BUCKET)
_INSERTED = _encoded(INSERTED)
_UPLOADED = _encoded(uploaded())
_TAKEN = _encoded(error(412, "conditionNotMet"))


def serve(port: int) -> None:
    """Serve on a port until the process ends."""

    async def run() -> None:
        server = await http_server.start(MeteredGoogle().handle, port)
        await server.serve_forever()

    uvloop.run(run())
