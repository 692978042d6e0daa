"""A simulated Cloud Storage: the JSON API as Sluice uses it, with its preconditions, generations and pages."""

import base64
import dataclasses
import random
import re
import urllib.parse
from collections.abc import Callable
from datetime import datetime
from typing import Any

import google_crc32c
import msgspec

from fake_google import http_server
from fake_google.requests import upload
from tests.simulation.network import Answer, Request, error

_NAMED = re.compile(r"^/(?:download/)?storage/v1/b/[^/]+/o/(?P<name>[^/]+)$")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclasses.dataclass(slots=True)
class StoredObject:
    """An object."""

    name: str
    data: bytes
    metadata: dict[str, str]
    content_type: str
    generation: int
    created: datetime
    metageneration: int = 1

    def resource(self) -> dict[str, Any]:
        """Return it as the API does."""
        checksum = google_crc32c.value(self.data).to_bytes(4, "big")
        time = self.created.isoformat().replace("+00:00", "Z")
        return {
            "kind": "storage#object",
            "name": self.name,
            "bucket": "archive",
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "size": str(len(self.data)),
            "crc32c": base64.b64encode(checksum).decode(),
            "contentType": self.content_type,
            "metadata": self.metadata,
            "storageClass": "STANDARD",
            "timeCreated": time,
            "updated": time,
        }


class CloudStorage:
    """A bucket.

    Args:
        rng: Draws the sizes of pages.
        now: Returns the time.

    Attributes:
        objects: The objects, by name.
        changed: Called after each change.
    """

    def __init__(self, rng: random.Random, now: Callable[[], datetime]) -> None:
        self._rng = rng
        self._now = now
        self._generation = 1_000
        self.objects: dict[str, StoredObject] = {}
        self.changed: Callable[[], object] = lambda: None

    def serve(self, request: Request) -> Answer:
        """Answer a request."""
        url = urllib.parse.urlsplit(request.url)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path.startswith("/upload/"):
            return self._upload(request, query)
        if url.path.endswith("/o"):
            return self._list(query)
        if (match := _NAMED.match(url.path)) is None:
            return error(404, "notFound", url.path)
        name = urllib.parse.unquote(match["name"])
        stored = self.objects.get(name)
        if stored is None or query.get("generation", str(stored.generation)) != str(stored.generation):
            return error(404, "notFound", name)
        return self._named(stored, request, query) if _is_expected(query, stored) else error(412, "conditionNotMet")

    def _named(self, stored: StoredObject, request: Request, query: dict[str, str]) -> Answer:
        if request.method == "DELETE":
            del self.objects[stored.name]
            self.changed()
            return Answer(204)
        if request.method == "PATCH":
            changes = msgspec.json.decode(request.body)
            stored.metadata = {**stored.metadata, **changes.get("metadata", {})}
            stored.metageneration += 1
            self.changed()
            return _json(stored.resource())
        return _content(stored, request) if query.get("alt") == "media" else _json(stored.resource())

    def _upload(self, request: Request, query: dict[str, str]) -> Answer:
        parts = upload(http_server.Request(b"POST", b"", b"", {}, request.body))
        fields, data = msgspec.json.decode(parts.resource), parts.data
        name = fields["name"] if "name" in fields else query["name"]
        stored = self.objects.get(name)
        if not _is_expected(query, stored):
            return error(412, "conditionNotMet")
        checksum = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
        if fields.get("crc32c", checksum) != checksum:
            return error(400, "invalid", "crc32c")
        self._generation += 1
        content_type = fields.get("contentType", "")
        stored = StoredObject(name, data, fields.get("metadata") or {}, content_type, self._generation, self._now())
        self.objects[name] = stored
        self.changed()
        return _json(stored.resource())

    def _list(self, query: dict[str, str]) -> Answer:
        """Return a page; a listing of several pages is of no single moment."""
        names = sorted(
            name
            for name in self.objects
            if name.startswith(query.get("prefix", ""))
            and name > query.get("pageToken", "")
            and query.get("startOffset", "") <= name
            and ("endOffset" not in query or name < query["endOffset"])
        )
        size = min(int(query.get("maxResults", 1_000)), self._rng.choice((2, 5, 1_000)))
        page = names[:size]
        answer: dict[str, Any] = {"items": [self.objects[name].resource() for name in page]}
        if len(names) > size:
            answer["nextPageToken"] = page[-1]
        return _json(answer)


def _is_expected(query: dict[str, str], stored: StoredObject | None) -> bool:
    """Return whether the preconditions of a request hold."""
    generation, metageneration = (stored.generation, stored.metageneration) if stored else (0, 0)
    return int(query.get("ifGenerationMatch", generation)) == generation and (
        int(query.get("ifMetagenerationMatch", metageneration)) == metageneration
    )


def _content(stored: StoredObject, request: Request) -> Answer:
    checksum = base64.b64encode(google_crc32c.value(stored.data).to_bytes(4, "big")).decode()
    headers = {"x-goog-hash": f"crc32c={checksum}", "x-goog-generation": str(stored.generation)}
    asked = next((value for name, value in request.headers.items() if name.lower() == "range"), None)
    if asked is None:
        return Answer(200, stored.data, headers)
    match = _RANGE.match(asked)
    assert match, asked
    start, last = int(match[1]), min(int(match[2] or len(stored.data)), len(stored.data) - 1)
    return Answer(206, stored.data[start : last + 1], {"content-range": f"bytes {start}-{last}/{len(stored.data)}"})


def _json(content: object) -> Answer:
    return Answer(200, msgspec.json.encode(content), {"content-type": "application/json"})
