"""A stand-in for a day of production: the archive of millions of events, and the tables of what they became.

It works everything out when it is asked, so that no emulator has to be filled for hours. Event `n` of an hour has the
type that `MIX` says, and one in so many has no row.
"""

import collections
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import web

from functions.archive import delivery, layout
from functions.archive.envelope import Envelope
from functions.archive.summary import Summary

MIX = ("order",) * 3 + ("inventory",) * 2 + ("user_activity",) * 5
LIVE = {"live.orders": "order", "live.inventory": "inventory", "live.user_activity": "user_activity"}
PAYLOAD = json.dumps({"event_type": "any", "filler": "x" * 500})

_LISTED = 1_000
_SUMS = ("_archive_uri", "_count", "_digest", "_duplicates", "_conflicts", "_conflicting", "_event_type")
_RECORD = ("_event_id", "_message_id", "_archive_uri", "_day", "_is_duplicate", "_is_conflicting", "_event_type")
_TYPES = dict.fromkeys(("_count", "_digest", "_duplicates", "_conflicts"), "INTEGER") | {
    "_day": "DATE",
    "_is_duplicate": "BOOLEAN",
    "_is_conflicting": "BOOLEAN",
}

_HOUR = timedelta(hours=1)

_encode_lines = msgspec.json.Encoder().encode_lines


def event_id(hour: datetime, number: int) -> str:
    """The id of an hour's event: of the length that most ids have."""
    return f"{hour:%Y%m%d-%H}-{number:024d}"


class _Asked(NamedTuple):
    """A query for rows of a table: for the sums of those that name the objects of some hours, or for some events."""

    table: str
    hours: Sequence[datetime] = ()
    first: str = ""
    last: str = ""
    event_ids: Sequence[str] = ()


def _hours(first: str, last: str) -> list[datetime]:
    """The hours in which objects arrived whose names are between two names."""
    start, end = (layout.arrival_time(name) for name in (first, last))
    hours = [start.replace(minute=0, second=0, microsecond=0)]
    while hours[-1] + _HOUR < end:
        hours.append(hours[-1] + _HOUR)
    return hours


class ArchivedDay:
    """The events of every hour, and the HTTP API of the archive and the tables that have them.

    Args:
        per_hour: How many events arrive in each hour.
        per_object: How many of them share an object.
        one_lost_in: Of so many events one has no row.
    """

    def __init__(self, per_hour: int, per_object: int, one_lost_in: int) -> None:
        self._per_hour = per_hour
        self._per_object = per_object
        self._one_lost_in = one_lost_in
        self._jobs: dict[str, _Asked] = {}
        self.app = web.Application(client_max_size=2**26)
        self.app.add_routes(
            [
                web.get("/storage/v1/b/archive/o", self.list_objects),
                web.get("/download/storage/v1/b/archive/o/{name:.+}", self.download),
                web.post("/bigquery/v2/projects/project/jobs", self.query),
                web.get("/bigquery/v2/projects/project/queries/{job}", self.results),
            ]
        )

    @property
    def _objects(self) -> int:
        """Return the number of objects in an hour."""
        return -(-self._per_hour // self._per_object)

    def _numbers(self, sequence: int) -> range:
        """The events of an object."""
        first = sequence * self._per_object
        return range(first, min(first + self._per_object, self._per_hour))

    def name(self, hour: datetime, sequence: int) -> str:
        """The name of an object."""
        arrived = hour + _HOUR * (sequence * self._per_object / self._per_hour)
        return f"{layout.first_name_at(arrived)}-instance-{sequence:08d}.ndjson.gz"

    def _resource(self, hour: datetime, sequence: int) -> dict[str, Any]:
        numbers = self._numbers(sequence)
        counts = collections.Counter(MIX[number % len(MIX)] for number in numbers)
        summary = Summary(counts, sum(delivery.digest(event_id(hour, number), str(number)) for number in numbers))
        return {"name": self.name(hour, sequence), "bucket": "archive", "metadata": summary.metadata()}

    async def list_objects(self, request: web.Request) -> web.Response:
        """A page of the objects of a time."""
        start, end = (request.query[name] for name in ("startOffset", "endOffset"))
        hours = _hours(start, end)
        first, total = int(request.query.get("pageToken", 0)), len(hours) * self._objects
        after = min(first + _LISTED, total)
        places = [(hours[position // self._objects], position % self._objects) for position in range(first, after)]
        items = [self._resource(*place) for place in places if start <= self.name(*place) < end]
        more = {"nextPageToken": str(after)} if after < total else {}
        return web.json_response({"items": items, **more})

    async def download(self, request: web.Request) -> web.Response:
        """An object."""
        match = re.fullmatch(r"raw/dt=(.+)/hr=(..)/.+-instance-(\d+)\.ndjson\.gz", unquote(request.match_info["name"]))
        if match is None:
            raise web.HTTPNotFound
        hour = datetime.strptime(f"{match[1]} {match[2]}", "%Y-%m-%d %H").replace(tzinfo=UTC)
        lines = [
            Envelope(
                event_id=event_id(hour, number),
                event_type=MIX[number % len(MIX)],
                message_id=str(number),
                publish_time=hour,
                attributes={},
                payload=PAYLOAD,
            )
            for number in self._numbers(int(match[3]))
        ]
        return web.Response(body=gzip.compress(_encode_lines(lines), compresslevel=1))

    async def query(self, request: web.Request) -> web.Response:
        """Take a query."""
        job = await request.json()
        query = job["configuration"]["query"]
        table = re.search(r"FROM `(.+?)`", query["query"])
        assert table
        given = {parameter["name"]: parameter["parameterValue"].get("value") for parameter in query["queryParameters"]}
        event_ids = [
            value["value"]
            for parameter in query["queryParameters"]
            if parameter["name"] == "ids"
            for value in parameter["parameterValue"]["arrayValues"]
        ]
        first, last = given.get("first", ""), given.get("last", "")
        hours = _hours(*(uri.removeprefix("gs://archive/") for uri in (first, last))) if first else []
        name = job["jobReference"]["jobId"]
        self._jobs[name] = _Asked(table[1], hours, first, last, event_ids)
        return web.json_response({**job, "status": {"state": "DONE"}, "statistics": {"query": {}}})

    async def results(self, request: web.Request) -> web.Response:
        """A page of a query's results."""
        table, hours, _, _, event_ids = asked = self._jobs[request.match_info["job"]]
        all_rows = (len(hours) * self._objects or len(event_ids)) if table in LIVE else 0
        first = int(request.query.get("pageToken", 0))
        after = min(first + int(request.query.get("maxResults", 100_000)), all_rows)
        fields = _SUMS if hours else _RECORD
        answer: dict[str, Any] = {
            "jobComplete": True,
            "totalRows": str(all_rows),
            "schema": {"fields": [{"name": name, "type": _TYPES.get(name, "STRING")} for name in fields]},
            "jobReference": {"projectId": "project", "jobId": request.match_info["job"], "location": "EU"},
        }
        if first < after:
            positions = range(first, after)
            rows = self._sums(asked, positions) if hours else self._records(LIVE[table], event_ids, positions)
            answer["rows"] = [{"f": [{"v": value} for value in values]} for values in rows]
            if after < all_rows:
                answer["pageToken"] = str(after)
        return web.json_response(answer)

    def _has_row(self, number: int, event_type: str) -> bool:
        return MIX[number % len(MIX)] == event_type and number % self._one_lost_in != 0

    def _sums(self, asked: _Asked, positions: range) -> Iterator[tuple[str | None, ...]]:
        """Yield the sums of the rows of a type, for each object that has any."""
        for position in positions:
            hour, sequence = asked.hours[position // self._objects], position % self._objects
            uri = f"gs://archive/{self.name(hour, sequence)}"
            numbers = [number for number in self._numbers(sequence) if self._has_row(number, LIVE[asked.table])]
            if numbers and asked.first <= uri <= asked.last:
                digest = sum(delivery.digest(event_id(hour, number), str(number)) for number in numbers)
                yield uri, str(len(numbers)), str(digest), "0", "0", None, None

    def _records(self, event_type: str, event_ids: Sequence[str], positions: range) -> Iterator[tuple[str | None, ...]]:
        """The rows of some events."""
        for position in positions:
            number = int(event_ids[position].rpartition("-")[2])
            if self._has_row(number, event_type):
                hour = datetime.strptime(event_ids[position][:11], "%Y%m%d-%H").replace(tzinfo=UTC)
                uri = f"gs://archive/{self.name(hour, number // self._per_object)}"
                yield event_ids[position], str(number), uri, f"{hour:%Y-%m-%d}", "false", "false", None
