"""A tiny HTTP server that answers each request as a test says."""

import asyncio
import collections
import contextlib
from collections.abc import Awaitable, Callable, Iterator

from fake_google.http_server import Connection, Request, serving

type Answer = Callable[[int], Awaitable[bytes]]

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno"

CLOSING = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


@contextlib.contextmanager
def server(answer: Answer, requests_of_a_connection: int = 10**9) -> Iterator[str]:
    """A tiny server: what it answers to its n-th request; it hangs up after so many on a connection."""
    count = 0
    requests: collections.Counter[Connection] = collections.Counter()
    tasks: set[asyncio.Task[None]] = set()

    async def respond(connection: Connection, number: int) -> None:
        answered = await answer(number)
        connection.write(answered)
        if answered in {b"", CLOSING} or requests[connection] == requests_of_a_connection:
            connection.close()

    def handle(_: Request, connection: Connection) -> None:
        nonlocal count
        count += 1
        requests[connection] += 1
        task = asyncio.get_running_loop().create_task(respond(connection, count))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    with serving(handle) as url:
        yield url
