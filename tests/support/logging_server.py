"""A stand-in for Cloud Logging: lists the entries that meet a filter, a page at a time."""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fake_google.answers import Answer
from tests.support.cloud_logging import entry, matches, worker_entry


@dataclasses.dataclass
class LoggingServer:
    """A fake of Cloud Logging: the logged entries, and the requests for them.

    Attributes:
        url: Where it answers.
        lines: Returns the lines of a function's standard output.
        worker_lines: Returns the lines of a Dataflow job's workers.
        error: Answers each request with an error, if set.
        requests: Bodies of the requests.
    """

    url: str = ""
    lines: Callable[[], list[str]] = list
    worker_lines: Callable[[], list[str]] = list
    error: Answer | None = None
    requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def list_entries(self, request: dict[str, Any]) -> Answer:
        """Answer with one entry a page, after an empty page, as Cloud Logging may."""
        self.requests.append(request)
        if self.error:
            return self.error
        entries = [entry(line, "ingest") for line in self.lines() if line.startswith("{")]
        entries += [worker_entry(line, "INFO", "ingest") for line in self.worker_lines()]
        matching = [entry for entry in entries if matches(request["filter"], entry)]
        at = int(request.get("pageToken", 0))
        page = matching[at - 1 : at] if at else []
        more = {"nextPageToken": str(at + 1)} if at < len(matching) else {}
        return 200, {"entries": page, **more} if page else more


@contextlib.contextmanager
def running() -> Iterator[LoggingServer]:
    """Serve it while the context lasts."""
    logging = LoggingServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = logging.list_entries(body) if self.path == "/v2/entries:list" else (404, {})
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    logging.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield logging
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
