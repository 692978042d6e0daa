"""Waiting for events. Every wait of the tests has the same generous bound, which `SLUICE_PATIENCE` multiplies."""

import asyncio
import os
import time
from collections.abc import Callable

FACTOR = float(os.environ.get("SLUICE_PATIENCE") or 1)
"""Factor on every bound of time in the tests: raise it for a machine that is even slower than the bound allows for."""

PATIENCE = 300 * FACTOR
"""Maximum seconds that a test waits for one event. Nothing here takes a tenth of it on two idle cores."""

LIMIT = 4 * PATIENCE
"""Maximum seconds of one test, after which pytest-timeout ends it: a test waits for several events."""

_PAUSE = 0.02
"""Seconds between two looks."""


def wait_until(
    condition: Callable[[], object], what: str, state: Callable[[], object] = str, pause: float = _PAUSE
) -> None:
    """Wait until a condition holds.

    Args:
        condition: Is called again and again until its result is true.
        what: What the condition says, for the error: "all events are acknowledged".
        state: Gives what the error shows beside it.
        pause: Seconds between two looks; more where a look is work for what the test waits for.

    Raises:
        AssertionError: The condition did not hold within `PATIENCE`.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {PATIENCE:.0f} s it is not true that {what}: {state()}")
        time.sleep(pause)


async def until(condition: Callable[[], object], what: str = "the condition holds") -> None:
    """Wait until a condition holds, while the event loop goes on.

    Raises:
        AssertionError: The condition did not hold within `PATIENCE`.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {PATIENCE:.0f} s it is not true that {what}")
        await asyncio.sleep(_PAUSE)
