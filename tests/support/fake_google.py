"""A stand-in for BigQuery and Cloud Storage on the network, for what no emulator can do: latency and outages.

The real clients talk to it. By default it accepts everything, and remembers it.
"""

import contextlib
import dataclasses
import gzip
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

type Answer = tuple[int, dict[str, Any]]
type Insert = Callable[[str, dict[str, Any]], Answer]
type Upload = Callable[[str], Answer]


def error(status: int, reason: str) -> Answer:
    """Return an error as Google's APIs report it."""
    return status, {"error": {"code": status, "message": reason, "errors": [{"reason": reason, "message": reason}]}}


def insert_errors(*errors: tuple[int, str]) -> Answer:
    """Per-row errors of insertAll: position and reason."""
    rows = [
        {"index": index, "errors": [{"reason": reason, "location": "total_amount", "message": f"row {index}"}]}
        for index, reason in errors
    ]
    return 200, {"insertErrors": rows}


@dataclasses.dataclass
class Cloud:
    """A fake of Google's APIs: the requests that arrived, and the answers to give.

    Attributes:
        url: Of both APIs.
        inserts: Table and rows of each insertAll that was answered with 200.
        objects: Decompressed lines of each uploaded object, by name.
        metadata: Of each uploaded object, by name.
        calls: Each call in order, answered with whatever: `upload`, `insert TABLE`.
        upload_paths: Path and query of each upload.
        on_insert: Answers an insertAll: table, and body. An answer `{"trickle": event}` comes byte by byte, and breaks
            off when the event is set; with `{"reset": True}` the connection breaks instead.
        on_job: Answers a new job: its resource.
        on_data: Is given the rows of a load job, after `on_job` has answered.
        on_get: Answers a question for a dataset, a table or a job: its path.
        on_patch: Answers a change of a table: its path, and the body.
        on_upload: Answers an upload: name of the object.
        latency: Seconds before each answer.
        connections: How many were opened.
        remembers: Whether it keeps what has arrived; not where that would be too much.
    """

    url: str
    inserts: list[tuple[str, list[dict[str, Any]]]] = dataclasses.field(default_factory=list)
    objects: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    calls: list[str] = dataclasses.field(default_factory=list)
    upload_paths: list[str] = dataclasses.field(default_factory=list)
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
        """All rows that a table was sent in accepted inserts."""
        return [row["json"] for name, rows in self.inserts if name == table for row in rows]


@contextlib.contextmanager
def running() -> Iterator[Cloud]:
    """Serve a `Cloud` on a free port while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with lock:
                cloud.connections += 1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(cloud.latency)
            if self.path.startswith("/upload/bigquery/"):
                job, data = self.multipart(body)
                status, answer = cloud.on_job(job)
                cloud.on_data([json.loads(line) for line in data.splitlines()])
            elif self.path.startswith("/upload/"):
                status, answer = self.upload(body)
            elif self.path.partition("?")[0].endswith("/insertAll"):
                status, answer = self.insert(body)
            else:
                status, answer = cloud.on_job(json.loads(body))
            if "trickle" in answer:
                self.trickle(answer["trickle"])
                return
            if "reset" in answer:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            self.answer(status, answer)

        def do_GET(self) -> None:
            self.answer(*cloud.on_get(self.path))

        def do_PATCH(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.answer(*cloud.on_patch(self.path, {**body, "etag": self.headers["if-match"]}))

        def answer(self, status: int, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def trickle(self, until: threading.Event) -> None:
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while not until.wait(0.1):
                    self.wfile.write(b" ")
            self.close_connection = True

        def insert(self, body: bytes) -> Answer:
            table = self.path.partition("?")[0].split("/")[-2]
            content = json.loads(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            cloud.calls.append(f"insert {table}")
            status, answer = cloud.on_insert(table, content)
            if status == 200 and cloud.remembers:
                bad = {error["index"] for error in answer.get("insertErrors", ())}
                cloud.inserts.append((table, [row for i, row in enumerate(content["rows"]) if i not in bad]))
            return status, answer

        def multipart(self, body: bytes) -> tuple[dict[str, Any], bytes]:
            """The resource of an upload, and its data."""
            boundary = b"--" + self.headers["content-type"].partition("boundary=")[2].strip("\"'").encode()
            _, head, content, _ = body.split(boundary, 3)
            data = content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            return json.loads(head.partition(b"\r\n\r\n")[2]), data

        def upload(self, body: bytes) -> Answer:
            resource, data = self.multipart(body)
            name = resource["name"]
            cloud.calls.append("upload")
            cloud.upload_paths.append(self.path)
            status, answer = cloud.on_upload(name)
            if status == 200:
                if cloud.remembers:
                    cloud.objects[name] = [json.loads(line) for line in gzip.decompress(data).splitlines()]
                    cloud.metadata[name] = resource["metadata"]
                answer = {"name": name, "bucket": "archive", "generation": "1"} | answer
            return status, answer

        def log_message(self, *_: object) -> None:
            pass

    lock = threading.Lock()

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # who has waited long enough hangs up
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    cloud = Cloud(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
