"""A tiny HTTP server that answers each request as a test says."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator

type Answer = Callable[[int], Awaitable[bytes]]

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno"

CLOSING = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


@contextlib.contextmanager
def server(answer: Answer, requests_of_a_connection: int = 10**9) -> Iterator[str]:
    """A tiny server: what it answers to its n-th request; it hangs up after so many on a connection."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for _ in range(requests_of_a_connection):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
                count += 1
                answered = await answer(count)
                writer.write(answered)
                if answered in {b"", CLOSING}:
                    break
        writer.close()

    ready = threading.Event()
    port = 0
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        nonlocal port
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
