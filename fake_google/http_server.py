"""An HTTP/1.1 server for fakes: cheap enough to leave the core to a load generator, since httptools parses."""

import asyncio
import contextlib
import operator
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import responses
from typing import NamedTuple, cast

import httptools

type Handler = Callable[[Request, Connection], None]
"""Answers a request on its connection, now or later; it runs in the event loop."""
type Step = Callable[[Connection], None]
"""A step of an answer, which runs in the event loop."""

_RESET = struct.pack("ii", 1, 0)
"""Value of SO_LINGER with which a closed connection is reset."""


class Request(NamedTuple):
    """A request that has arrived whole.

    Attributes:
        method: Such as `POST`.
        path: Path without the query.
        query: Query without the question mark.
        headers: Values by name in lower case.
        body: Bytes as they were sent.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes


class Connection(asyncio.Protocol):
    """A connection with one request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, handle: Handler, opened: Callable[[], None]) -> None:
        self._handle = handle
        self._opened = opened
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    @property
    def is_open(self) -> bool:
        """Whether the client can still get an answer."""
        return self._transport is not None

    def answer(self, response: bytes) -> None:
        """Send a whole response; a client that has gone gets none."""
        if self._transport:
            self._transport.write(response)
            if not self._parser.should_keep_alive():
                self._transport.close()

    def write(self, part: bytes) -> None:
        """Send a part of a response."""
        if self._transport:
            self._transport.write(part)

    def close(self) -> None:
        """Close the connection after what was written."""
        if self._transport:
            self._transport.close()

    def reset(self) -> None:
        """Break the connection."""
        if self._transport:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._opened()

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the transport: the client has gone."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived; close the connection where it is no HTTP, or not handled."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            self.close()
            raise
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url, self._headers, self._body = b"", {}, []

    def on_url(self, url: bytes) -> None:
        """Add a part of the URL."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Ask for the body where the client waits for that."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Handle the request."""
        path, _, query = self._url.partition(b"?")
        request = Request(self._parser.get_method(), path, query, self._headers, b"".join(self._body))
        self._body.clear()  # a connection that lives on keeps nothing of it
        self._handle(request, self)


def response(
    body: bytes, status: int = 200, content_type: str = "application/json", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a whole response."""
    lines = [
        f"HTTP/1.1 {status} {responses.get(status, '')}",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def start(handle: Handler, port: int = 0, opened: Callable[[], None] = lambda: None) -> asyncio.Server:
    """Listen on a port of this machine.

    Args:
        handle: Handles the requests.
        port: The port; 0 chooses one that is free.
        opened: Called for each new connection.
    """
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(handle, opened), "127.0.0.1", port, backlog=2048)


@contextlib.contextmanager
def serving(handle: Handler, opened: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Serve in a thread while the context lasts, and give the URL; `opened` is called for each new connection."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(start(handle, opened=opened))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def stop() -> None:
        server.close()
        server.abort_clients()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def threaded(steps: Callable[[Request], Iterable[Step]]) -> Handler:
    """Return a handler for steps that may block: each request has a thread of its own, which nobody waits for.

    A request whose steps raise an error gets no answer.
    """

    def handle(request: Request, connection: Connection) -> None:
        loop = asyncio.get_running_loop()

        def send(step: Step) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server has ended
                loop.call_soon_threadsafe(step, connection)

        def run() -> None:
            try:
                for step in steps(request):
                    send(step)
                    if not connection.is_open:
                        break
            except Exception:
                send(Connection.close)
                raise

        threading.Thread(target=run, daemon=True).start()

    return handle


def blocking(answer: Callable[[Request], bytes]) -> Handler:
    """Return a handler for answers that may block."""
    return threaded(lambda request: [operator.methodcaller("answer", answer(request))])
