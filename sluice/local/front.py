"""Ports of the local stack whose connections go to another process: those of the functions, and those to the emulators.

A connection to a function goes to the process that serves it at that time, so that a new version can replace an old
one while requests arrive. A connection of a function to an emulator can be impaired, as in an outage.
"""

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple

_CHUNK = 2**16


class Impairment(NamedTuple):
    """A fault of the connections to a port.

    Attributes:
        is_down: Whether they are closed at once, open ones as well.
        delay: Seconds that each answer is delayed.
    """

    is_down: bool = False
    delay: float = 0.0


_UNIMPAIRED = Impairment()


class Front:
    """Listens on ports, and hands their connections on.

    Args:
        ports: The ports.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._backends: dict[int, int] = {}
        self._impairments: dict[int, Impairment] = {}
        self._open: defaultdict[int, set[asyncio.Task[Any]]] = defaultdict(set)
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

    def impair(self, port: int, impairment: Impairment) -> None:
        """Impair the connections to a port from now on; only from what `every` calls."""
        self._impairments[port] = impairment
        if impairment.is_down:
            for connection in self._open[port]:
                connection.cancel()

    def every(self, seconds: float, look: Callable[[], None]) -> None:
        """Call a function at an interval while the front listens."""

        async def repeat() -> None:
            while True:
                look()
                await asyncio.sleep(seconds)

        self._repeating = asyncio.run_coroutine_threadsafe(repeat(), self._loop)

    def _run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.current_task()
            assert connection  # noqa: S101 - a server makes a task of each connection
            self._open[port].add(connection)
            connection.add_done_callback(self._open[port].discard)
            with (
                contextlib.suppress(KeyError, OSError),
                contextlib.closing(writer),
            ):  # KeyError: the stack still starts.
                if impairment(port).is_down:
                    return
                to, answers = await asyncio.open_connection("127.0.0.1", self._backends[port])
                with contextlib.closing(answers):
                    await _first_to_end(_copy(reader, answers), _copy(to, writer, lambda: impairment(port).delay))

        def impairment(port: int) -> Impairment:
            return self._impairments.get(port, _UNIMPAIRED)

        return await asyncio.start_server(connected, "127.0.0.1", port)

    async def _cancel_all(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Callable[[], float] = float) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            if seconds := delay():
                await asyncio.sleep(seconds)
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
