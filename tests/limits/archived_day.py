"""A stand-in for a day of production: the archive of millions of events, and the tables of what they became.

It works everything out when it is asked, so that no emulator has to be filled for hours. Event `n` of an hour has the
type that `MIX` says, and one in so many has no row.
"""

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from functions import archive
from functions.archive import Envelope

MIX = ("order",) * 3 + ("inventory",) * 2 + ("user_activity",) * 5
LIVE = {"live.orders": "order", "live.inventory": "inventory", "live.user_activity": "user_activity"}
PAYLOAD = json.dumps({"event_type": "any", "filler": "x" * 500})

_LISTED = 1_000
_SCHEMA = {
    "fields": [
        {"name": "_event_id", "type": "STRING"},
        {"name": "_message_id", "type": "STRING"},
        {"name": "_archive_uri", "type": "STRING"},
        {"name": "_is_duplicate", "type": "BOOLEAN"},
        {"name": "_is_conflicting", "type": "BOOLEAN"},
        {"name": "_event_type", "type": "STRING"},
    ]
}

_encode_lines = msgspec.json.Encoder().encode_lines


def event_id(hour: datetime, number: int) -> str:
    """The id of an hour's event: of the length that most ids have."""
    return f"{hour:%Y%m%d-%H}-{number:024d}"


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
        self._jobs: dict[str, tuple[str, datetime | None]] = {}
        self.app = web.Application(client_max_size=2**26)
        self.app.add_routes(
            [
                web.get("/storage/v1/b/archive/o", self.list_objects),
                web.get("/download/storage/v1/b/archive/o/{name:.+}", self.download),
                web.post("/bigquery/v2/projects/project/jobs", self.query),
                web.get("/bigquery/v2/projects/project/queries/{job}", self.results),
            ]
        )

    def name(self, hour: datetime, number: int) -> str:
        """The name of the object that has an event."""
        sequence = number // self._per_object
        arrived = hour + timedelta(hours=1) * (sequence * self._per_object / self._per_hour)
        return f"{archive.earliest(arrived)}-instance-{sequence:08d}.ndjson.gz"

    async def list_objects(self, request: web.Request) -> web.Response:
        """A page of the objects of an hour."""
        hour = datetime.strptime(request.query["prefix"], "raw/dt=%Y-%m-%d/hr=%H/").replace(tzinfo=UTC)
        first = int(request.query.get("pageToken", 0))
        after = first + _LISTED * self._per_object
        names = (self.name(hour, number) for number in range(first, min(after, self._per_hour), self._per_object))
        more = {"nextPageToken": str(after)} if after < self._per_hour else {}
        return web.json_response({"items": [{"name": name, "bucket": "archive"} for name in names], **more})

    async def download(self, request: web.Request) -> web.Response:
        """An object."""
        found = re.fullmatch(r"raw/dt=(.+)/hr=(..)/.+-instance-(\d+)\.ndjson\.gz", unquote(request.match_info["name"]))
        if found is None:
            raise web.HTTPNotFound
        hour = datetime.strptime(f"{found[1]} {found[2]}", "%Y-%m-%d %H").replace(tzinfo=UTC)
        first = int(found[3]) * self._per_object
        lines = [
            Envelope(
                event_id=event_id(hour, number),
                event_type=MIX[number % len(MIX)],
                message_id=str(number),
                publish_time=hour,
                attributes={},
                payload=PAYLOAD,
            )
            for number in range(first, min(first + self._per_object, self._per_hour))
        ]
        return web.Response(body=gzip.compress(_encode_lines(lines), compresslevel=1))

    async def query(self, request: web.Request) -> web.Response:
        """A query for the rows of an hour's objects, or for those of some events, of which there are none."""
        job = await request.json()
        query = job["configuration"]["query"]
        table = re.search(r"FROM `(.+?)`", query["query"])
        arrival = next(
            (one["parameterValue"]["value"] for one in query["queryParameters"] if one["name"] == "arrival"), None
        )
        assert table
        name = job["jobReference"]["jobId"]
        self._jobs[name] = table[1], datetime.fromisoformat(arrival) if arrival else None
        return web.json_response({**job, "status": {"state": "DONE"}, "statistics": {"query": {}}})

    async def results(self, request: web.Request) -> web.Response:
        """A page of a query's results."""
        table, arrival = self._jobs[request.match_info["job"]]
        of_type = [place for place, event_type in enumerate(MIX) if event_type == LIVE.get(table)] if arrival else []
        rounds, rest = divmod(self._per_hour, len(MIX))
        numbers = rounds * len(of_type) + sum(place < rest for place in of_type)
        first = int(request.query.get("pageToken", 0))
        after = min(first + int(request.query.get("maxResults", 100_000)), numbers)
        answer: dict[str, Any] = {
            "jobComplete": True,
            "totalRows": str(numbers),
            "schema": _SCHEMA,
            "jobReference": {"projectId": "project", "jobId": request.match_info["job"], "location": "EU"},
        }
        if arrival and first < after:
            answer["rows"] = list(self._rows(arrival, of_type, range(first, after)))
            if after < numbers:
                answer["pageToken"] = str(after)
        return web.json_response(answer)

    def _rows(self, hour: datetime, of_type: list[int], some: range) -> Iterator[dict[str, Any]]:
        for one in some:
            times, place = divmod(one, len(of_type))
            number = times * len(MIX) + of_type[place]
            if number % self._one_lost_in:
                uri = f"gs://archive/{self.name(hour, number)}"
                values = (event_id(hour, number), str(number), uri, "false", "false", None)
                yield {"f": [{"v": value} for value in values]}
