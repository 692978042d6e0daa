"""Reads the bodies of requests, which are in flight while they arrive."""

import asyncio
from collections.abc import Callable, Coroutine

from functions.core.message import MAX_REQUEST_BYTES, NotAMessage
from functions.ingest.admission import Admission
from functions.ingest.batch_writer import NotDurable
from functions.ingest.references import await_within

MAX_SECONDS = 5.0
"""Maximum seconds to read a request body."""

type NextChunk = Callable[[], Coroutine[None, None, tuple[bytes, bool]]]
"""Returns the next bytes of a request's body, and whether there are more."""


async def read_body(next_chunk: NextChunk, length: int | None, admission: Admission) -> bytes:
    """Read the body of a request.

    Args:
        next_chunk: Returns the next bytes.
        length: Number of bytes that the request announces, if it does. Nothing is read of a body that is too much.
        admission: Counts the body as in flight while it is being read.

    Raises:
        Overloaded: Too much is in flight.
        NotAMessage: The body is longer than any message.
        NotDurable: The body does not arrive in time.
    """
    size = length or 0
    _check_length(size)
    admission.read(size)
    deadline = asyncio.get_running_loop().time() + MAX_SECONDS
    body: list[bytes] = []
    arrived, more = 0, True
    try:
        while more:
            chunk, more = await await_within(next_chunk(), deadline)
            arrived += len(chunk)
            if arrived > size:
                _check_length(arrived)
                admission.read_more(arrived - size)
                size = arrived
            body.append(chunk)
    except TimeoutError:
        raise NotDurable(f"the request did not arrive within {MAX_SECONDS:.0f} s") from None
    finally:
        admission.has_read(size)
    return b"".join(body)


def _check_length(size: int) -> None:
    if size > MAX_REQUEST_BYTES:
        raise NotAMessage(f"not a Pub/Sub push: more than {MAX_REQUEST_BYTES} bytes")
