"""A stand-in for Cloud Logging: lists the entries that meet a filter, a page at a time."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

from fake_google.answers import Answer
from fake_google.http_server import Request, blocking, response, serving
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

    def answer(request: Request) -> bytes:
        status: int = 404
        answer: dict[str, Any] = {}
        if request.path == b"/v2/entries:list":
            status, answer = logging.list_entries(json.loads(request.body))
        return response(json.dumps(answer).encode(), status)

    with serving(blocking(answer)) as logging.url:
        yield logging
