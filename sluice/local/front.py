"""Fixed ports of the local stack's functions.

A connection to one of them goes to the process that serves the function at that time, so that a new version can
replace an old one while requests arrive.
"""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

_CHUNK = 2**16


class Front:
    """Listens on ports, and hands their connections on.

    Args:
        ports: The ports.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._backends: dict[int, int] = {}
        self._ports = ports
        self._loop = asyncio.new_event_loop()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while the context lasts."""
        thread = threading.Thread(target=self._loop.run_forever, name="front", daemon=True)
        thread.start()
        servers = [self._run(self._listen(port)) for port in self._ports]
        try:
            yield
        finally:
            for server in servers:
                self._loop.call_soon_threadsafe(server.close)
            self._run(self._cancel_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def switch(self, port: int, backend: int) -> None:
        """Hand new connections to a port on to the port of another process."""
        self._backends[port] = backend

    def _run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with (
                contextlib.suppress(KeyError, OSError),
                contextlib.closing(writer),
            ):  # KeyError: the stack still starts.
                to, answers = await asyncio.open_connection("127.0.0.1", self._backends[port])
                with contextlib.closing(answers):
                    await _first_to_end(_copy(reader, answers), _copy(to, writer))

        return await asyncio.start_server(connected, "127.0.0.1", port)

    async def _cancel_all(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()


async def _first_to_end(*copies: Coroutine[Any, Any, None]) -> None:
    """Copy in both directions until one side closes its connection."""
    tasks = [asyncio.ensure_future(copy) for copy in copies]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
