"""A thread with an event loop, for what has to go on while a test waits."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

type Run = Callable[[Coroutine[Any, Any, Any]], Any]


@contextlib.contextmanager
def event_loop() -> Iterator[Run]:
    """Runs coroutines in the background, each to its end, and gives their results."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="faults")
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
