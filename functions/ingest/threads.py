"""Runs the blocking calls of flushes in threads."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from functions.ingest.http_client import CONNECTIONS
from functions.system import SYSTEM, Pool

MAX_THREADS = CONNECTIONS
"""Maximum number of threads. Each of the flushes inserts into four tables at once."""


class RunsCalls(Protocol):
    """Runs blocking calls, as `Threads` does."""

    async def run[Result](self, call: Callable[..., Result], *arguments: object) -> Result:
        """Run a call, and return its result."""


class Threads:
    """A pool of threads. A call that nobody awaits any more keeps its thread until it ends.

    Args:
        pool: Returns a pool of so many threads, by a name.
    """

    def __init__(self, pool: Callable[[int, str], Pool] = SYSTEM.pool) -> None:
        self._executor = pool(MAX_THREADS, "commit")
        self._free = asyncio.Semaphore(MAX_THREADS)

    async def run[Result](self, call: Callable[..., Result], *arguments: object) -> Result:
        """Run a call as soon as a thread is free, and return its result."""
        await self._free.acquire()
        return await self._submit(call, *arguments)

    def _submit[Result](self, call: Callable[..., Result], *arguments: object) -> asyncio.Future[Result]:
        loop = asyncio.get_running_loop()
        future = self._executor.submit(call, *arguments)

        def free(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended before the call.
                loop.call_soon_threadsafe(self._free.release)

        future.add_done_callback(free)
        return asyncio.wrap_future(future)
