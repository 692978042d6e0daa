"""Connections of the load generators: HTTP/1.1, one request at a time."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import cast

import httptools


@dataclasses.dataclass(slots=True)
class Request:
    """A request on its way.

    Attributes:
        due: Time at which it was due to be sent.
        data: Bytes of the request.
        is_bad: Whether its event is bad.
        is_again: Whether it was sent before, over a connection that the server had closed.
    """

    due: float
    data: bytes
    is_bad: bool
    is_again: bool = False


class Connection(asyncio.Protocol):
    """A connection with one request in flight at most.

    Args:
        done: Is called with the status of each answer; `request` is still that of the answer.
        lost: Is called when the connection ends; `request` is set if it has no answer.
    """

    def __init__(self, done: "Callable[[Connection, int], None]", lost: "Callable[[Connection], None]") -> None:
        self._done = done
        self._lost = lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self.request: Request | None = None
        self.has_answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request that waits for the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        if self.request:
            self._transport.write(self.request.data)

    def send(self, request: Request) -> None:
        """Send a request; at once, if the connection is open."""
        self.request = request
        if self._transport:
            self._transport.write(request.data)

    def data_received(self, data: bytes) -> None:
        """Parse what the server answers."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_complete(self) -> None:
        """Report an answer."""
        status = self._parser.get_status_code()
        keeps = self._parser.should_keep_alive()
        self.has_answered = True
        if not keeps:
            self.close()
        self._done(self, status)

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Close the connection."""
        if self._transport:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Report the end of the connection."""
        self._transport = None
        self._lost(self)
