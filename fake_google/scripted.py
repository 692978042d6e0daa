"""A fake of BigQuery and Cloud Storage whose answers a test chooses: errors, delays, broken connections.

The real clients talk to it. By default it accepts everything, and remembers it.
"""

import contextlib
import dataclasses
import gzip
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from fake_google import http_server, requests
from fake_google.answers import Answer, error, uploaded
from fake_google.http_server import Connection, Request, Step

type Insert = Callable[[str, dict[str, Any]], Answer]
type Upload = Callable[[str], Answer]

_TRICKLE = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"


@dataclasses.dataclass
class Cloud:
    """A fake of Google's APIs: the requests that arrived, and the answers to give.

    Attributes:
        url: Of both APIs.
        inserts: Table and rows of each insertAll that was answered with 200.
        objects: Decompressed lines of each uploaded object, by name.
        metadata: Of each uploaded object, by name.
        calls: Each call in order, answered with whatever: `upload`, `insert TABLE`.
        posted: Path and query of each POST.
        on_insert: Answers an insertAll: table, and body. An answer `{"trickle": event}` comes byte by byte, and breaks
            off when the event is set; with `{"reset": True}` the connection breaks instead.
        on_job: Answers a new job: its resource.
        on_data: Is given the rows of a load job, after `on_job` has answered.
        on_get: Answers a request for a dataset, a table or a job: its path.
        on_patch: Answers a change of a table: its path, and the body.
        on_upload: Answers an upload: name of the object.
        latency: Seconds before each answer to a POST.
        connections: Number of connections that sent a request.
        remembers: Whether it keeps what has arrived; not where that would be too much.
    """

    url: str = ""
    inserts: list[tuple[str, list[dict[str, Any]]]] = dataclasses.field(default_factory=list)
    objects: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    calls: list[str] = dataclasses.field(default_factory=list)
    posted: list[str] = dataclasses.field(default_factory=list)
    on_insert: Insert = lambda _table, _body: (200, {})
    on_job: Callable[[dict[str, Any]], Answer] = lambda _job: error(404, "notFound")
    on_data: Callable[[list[dict[str, Any]]], object] = lambda _: None
    on_get: Callable[[str], Answer] = lambda _path: error(404, "notFound")
    on_patch: Callable[[str, dict[str, Any]], Answer] = lambda _path, _body: error(404, "notFound")
    on_upload: Upload = lambda _name: (200, {})
    latency: float = 0.0
    connections: int = 0
    remembers: bool = True

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return all rows that a table was sent in accepted inserts."""
        return [row["json"] for name, rows in self.inserts if name == table for row in rows]

    def steps(self, request: Request) -> Iterator[Step]:
        """Yield the steps of the answer to a request."""
        status, answer = self.answer(request)
        if "reset" in answer:
            yield Connection.reset
        elif "trickle" in answer:
            yield lambda connection: connection.write(_TRICKLE)
            while not answer["trickle"].wait(0.1):
                yield lambda connection: connection.write(b" ")
            yield Connection.close
        else:
            content = http_server.response(json.dumps(answer).encode(), status)
            yield lambda connection: connection.answer(content)

    def answer(self, request: Request) -> Answer:
        """Return the answer to a request; a test may let it take its time."""
        path = (request.path + (b"?" + request.query if request.query else b"")).decode()
        match request.method:
            case b"GET":
                return self.on_get(path)
            case b"PATCH":
                etag = request.headers.get(b"if-match")
                return self.on_patch(path, {**json.loads(request.body), "etag": etag and etag.decode()})
            case _:
                self.posted.append(path)
                time.sleep(self.latency)
                return self._post(path, request)

    def _post(self, path: str, request: Request) -> Answer:
        if path.startswith("/upload/bigquery/"):
            job, data = requests.upload(request)
            answer = self.on_job(json.loads(job))
            self.on_data([json.loads(line) for line in data.splitlines()])
            return answer
        if path.startswith("/upload/"):
            return self._upload(path, request)
        if request.path.endswith(b"/insertAll"):
            return self._insert(request)
        return self.on_job(json.loads(request.body))

    def _insert(self, request: Request) -> Answer:
        table, content = requests.table(request), json.loads(requests.content(request))
        self.calls.append(f"insert {table}")
        status, answer = self.on_insert(table, content)
        if status == 200 and self.remembers:
            bad = {error["index"] for error in answer.get("insertErrors", ())}
            self.inserts.append((table, [row for i, row in enumerate(content["rows"]) if i not in bad]))
        return status, answer

    def _upload(self, path: str, request: Request) -> Answer:
        part, data = requests.upload(request)
        resource = json.loads(part)
        name = resource["name"]
        self.calls.append("upload")
        status, answer = self.on_upload(name)
        if status != 200:
            return status, answer
        if self.remembers:
            self.objects[name] = [json.loads(line) for line in gzip.decompress(data).splitlines()]
            self.metadata[name] = resource["metadata"]
        return 200, uploaded(name)[1] | answer


@contextlib.contextmanager
def running() -> Iterator[Cloud]:
    """Serve a `Cloud` on a free port while the context lasts."""
    cloud = Cloud()

    def opened() -> None:
        cloud.connections += 1

    with http_server.serving(http_server.threaded(cloud.steps), opened) as cloud.url:
        yield cloud
