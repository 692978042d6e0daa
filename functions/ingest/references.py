"""Keeps events out of reference cycles, so that their memory is free as soon as their requests are answered.

Events are large, and the garbage collector runs rarely (`heap.freeze_gc`). An exception refers to its traceback, the
traceback to the frames that it left, and each frame to its local variables: often to the event. A cycle arises where
one of these variables leads back to the exception, directly or through a future. Three rules exclude that:

- A frame that awaits a future has no variable for it when the future's exception leaves the frame. So futures are
  awaited where they are returned (`Threads.run`), or by a function that deletes its variable (`await_within`).
- `Api.post` calls `clear_frames` on the exceptions of a request: frames of libraries refer to their own exceptions.
- An acknowledgement carries a `Failure`, which is text. Each request raises an exception of its own from it. The
  exception of one event would keep the whole batch: its frames refer to those that called them, and so to the flush.
"""

import asyncio
import traceback
from collections.abc import Coroutine
from typing import Any


def clear_frames(error: BaseException | None) -> None:
    """Clear the local variables of all frames that an exception, or one before it, has left."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


async def await_within[Result](coroutine: Coroutine[Any, Any, Result], deadline: float) -> Result:
    """Return a coroutine's result. One that does not have to wait costs no timer.

    Args:
        coroutine: The coroutine.
        deadline: Time of the event loop at which it is cancelled.

    Raises:
        TimeoutError: The deadline has passed.
    """
    task = asyncio.Task(coroutine, loop=asyncio.get_running_loop(), eager_start=True)
    try:
        if not task.done():
            async with asyncio.timeout_at(deadline):
                await task
        return task.result()
    finally:
        del task
