"""A simulated BigQuery: `insertAll` with its insert ids and errors of rows, and load jobs."""

import dataclasses
import gzip
import random
import re
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from fake_google import http_server
from fake_google.requests import upload
from tests.simulation.cloud_storage import CloudStorage
from tests.simulation.network import Answer, Request, error

_TABLE = re.compile(r"/tables/(?P<table>[^/]+)/insertAll$")
_JOBS = re.compile(r"/projects/[^/]+/jobs(?:/(?P<job>[^/]+))?$")

INSERT_ID_SECONDS = 60
"""Seconds for which an insert id is remembered, at most."""


@dataclasses.dataclass(slots=True)
class LoadJob:
    """A load job.

    Attributes:
        configuration: Its configuration.
        data: The rows that were uploaded with it; None if files of Cloud Storage have them.
        state: `RUNNING` or `DONE`.
        error: The error that it failed with.
        errors: The errors of its rows.
        rows: Number of rows that it has loaded.
    """

    configuration: dict[str, Any]
    data: bytes | None
    state: str = "RUNNING"
    error: dict[str, str] | None = None
    errors: list[dict[str, str]] = dataclasses.field(default_factory=list)
    rows: int = 0


class BigQuery:
    """The tables of a dataset.

    Args:
        rng: Draws durations, and rows that fail for a while.
        clock: Returns the seconds since the begin.
        later: Runs a call after so many seconds.
        storage: Has the files of load jobs.
        inserted: Called with the table and the columns of each row that is inserted.

    Attributes:
        tables: Rows by table.
        max_bytes: Maximum size of an `insertAll` request.
        is_bad: Returns whether a table rejects a row for good.
        missing: Columns that tables lack, now.
        fault_share: Share of the rows that fail for a while, now.
        jobs: Load jobs by id.
        job_seconds: Maximum seconds of a load job.
        loaded: Called with the address of each file whose rows a job has loaded.
        not_found: Called with the address of each file that a job does not find.
    """

    def __init__(
        self,
        rng: random.Random,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], object]], object],
        storage: CloudStorage,
        inserted: Callable[[str, dict[str, Any]], None],
    ) -> None:
        self._rng = rng
        self._clock = clock
        self._later = later
        self._storage = storage
        self._inserted = inserted
        self._ids: dict[tuple[str, str], float] = {}
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.max_bytes = 10_000_000
        self.is_bad: Callable[[str, dict[str, Any]], bool] = lambda _table, _row: False
        self.missing: dict[str, str] = {}
        self.fault_share = 0.0
        self.jobs: dict[str, LoadJob] = {}
        self.job_seconds = 20.0
        self.loaded: Callable[[str], object] = lambda _uri: None
        self.not_found: Callable[[str], object] = lambda _uri: None

    def serve(self, request: Request) -> Answer:
        """Answer a request."""
        path = urllib.parse.urlsplit(request.url).path
        if match := _TABLE.search(path):
            return self._insert_all(match["table"], request.body)
        if match := _JOBS.search(path):
            return self._start(request) if request.method == "POST" else self._job(match["job"])
        return error(404, "notFound", path)

    def _insert_all(self, table: str, body: bytes) -> Answer:
        if len(body) > self.max_bytes:
            return error(413, "requestTooLarge")
        problems = []
        request = msgspec.json.decode(body)
        is_bad = any(self._problem(table, row["json"]) for row in request["rows"])
        is_stopped = is_bad and not request.get("skipInvalidRows")
        for index, row in enumerate(request["rows"]):
            problem = self._problem(table, row["json"])
            if problem is None and is_stopped:
                problem = {"reason": "stopped", "message": ""}
            if problem is None and self._rng.random() < self.fault_share:
                problem = {"reason": self._rng.choice(("backendError", "stopped", "timeout")), "message": ""}
            if problem:
                problems.append({"index": index, "errors": [problem]})
            elif not self._is_repeated(table, row["insertId"]):
                self._insert(table, row["json"])
        return _json({"insertErrors": problems} if problems else {})

    def _problem(self, table: str, row: dict[str, Any]) -> dict[str, str] | None:
        column = self.missing.get(table)
        if column in row:
            return {"reason": "invalid", "location": column, "message": f"no such field: {column}."}
        if self.is_bad(table, row):
            return {"reason": "invalid", "location": "value", "message": "Cannot convert value"}
        return None

    def _is_repeated(self, table: str, insert_id: str) -> bool:
        """Return whether an insert id is remembered: for a minute, and not always."""
        now, key = self._clock(), (table, insert_id)
        is_repeated = now < self._ids.get(key, -1.0)
        self._ids[key] = now + INSERT_ID_SECONDS * self._rng.random()
        return is_repeated

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        self.tables.setdefault(table, []).append(row)
        self._inserted(table, row)

    def _start(self, request: Request) -> Answer:
        body, data = request.body, None
        if urllib.parse.urlsplit(request.url).path.startswith("/upload/"):
            parts = upload(http_server.Request(b"POST", b"", b"", {}, request.body))
            body, data = parts.resource, parts.data
        resource = msgspec.json.decode(body)
        job_id = resource["jobReference"]["jobId"]
        if job_id in self.jobs:
            return error(409, "duplicate", f"Already Exists: Job {job_id}")
        self.jobs[job_id] = LoadJob(resource["configuration"], data)
        self._later(self._rng.random() * self.job_seconds, lambda: self._load(self.jobs[job_id]))
        return self._job(job_id)

    def _load(self, job: LoadJob) -> None:
        """Load all files of a job, or none."""
        load, rows = job.configuration["load"], []
        table = load["destinationTable"]["tableId"]
        job.state = "DONE"
        if self._rng.random() < self.fault_share:
            job.error = {"reason": "backendError", "message": "try again"}
            return
        for data in [job.data] if job.data is not None else self._files(job, load["sourceUris"]):
            rows += [msgspec.json.decode(line) for line in data.splitlines()]
        problems = [(row, self._problem(table, row)) for row in rows]
        job.errors = [
            {"reason": "invalid", "message": f"Error while reading data, error message: {problem['message']}"}
            for _, problem in problems
            if problem
        ]
        if not job.error and len(job.errors) > int(load.get("maxBadRecords", 0)):
            job.error = job.errors[0]
        if job.error:
            return
        for uri in load.get("sourceUris", ()):
            self.loaded(uri)
        good = [row for row, problem in problems if not problem]
        job.rows = len(good)
        for row in good:
            self._insert(table, row)

    def _files(self, job: LoadJob, uris: Sequence[str]) -> Iterator[bytes]:
        """Yield the contents of the files of a job, which fails if one is missing."""
        for uri in uris:
            if stored := self._storage.objects.get(uri.removeprefix("gs://archive/")):
                yield gzip.decompress(stored.data)
            else:
                self.not_found(uri)
                job.error = {"reason": "notFound", "message": f"Not found: URI {uri}"}

    def _job(self, job_id: str) -> Answer:
        if (job := self.jobs.get(job_id)) is None:
            return error(404, "notFound", f"Not found: Job {job_id}")
        status: dict[str, Any] = {"state": job.state}
        if job.error:
            status["errorResult"] = job.error
        if errors := job.errors or ([job.error] if job.error else []):
            status["errors"] = errors
        return _json(
            {
                "jobReference": {"projectId": "project", "jobId": job_id, "location": "US"},
                "configuration": job.configuration,
                "status": status,
                "statistics": {"load": {"outputRows": str(job.rows)}},
            }
        )


def _json(content: object) -> Answer:
    return Answer(200, msgspec.json.encode(content), {"content-type": "application/json"})
