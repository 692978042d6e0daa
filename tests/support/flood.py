"""Many requests at once, of any size, each on a connection of its own; cheap enough to flood a function with."""

import asyncio
import base64
import collections
import itertools
import json
import urllib.parse
from collections.abc import Iterable
from datetime import UTC, datetime

_numbers = itertools.count(1)


def push(payload: bytes, event_id: str | None = None) -> bytes:
    """The body of a push request."""
    number = next(_numbers)
    message = {
        "messageId": str(number),
        "publishTime": datetime.now(UTC).isoformat(),
        "attributes": {"event_id": event_id or f"e-{number}"},
    }
    head = json.dumps({"message": message, "deliveryAttempt": 1})[:-1].encode()
    head = head.replace(b'"message": {', b'"message": {"data": "' + base64.b64encode(payload) + b'", ', 1)
    return head + b"}"


async def post(url: str, body: bytes, *, chunked: bool = False) -> int:
    """Send a request; the status, or 0 where the connection broke."""
    address = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    length = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    if chunked:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    try:
        writer.write(b"POST / HTTP/1.1\r\nhost: sluice\r\n%b\r\n\r\n" % length)
        writer.write(body)
        status = await reader.readline()
        return int(status.split()[1]) if status else 0
    except ConnectionError:
        return 0
    finally:
        writer.transport.abort()


async def flood(url: str, bodies: Iterable[bytes], at_once: int, *, chunked: bool = False) -> collections.Counter[int]:
    """Send all requests, so many at once; how many had which status."""
    remaining = iter(bodies)
    statuses: collections.Counter[int] = collections.Counter()

    async def sender() -> None:
        for body in remaining:
            statuses[await post(url, body, chunked=chunked)] += 1

    await asyncio.gather(*(sender() for _ in range(at_once)))
    return statuses
