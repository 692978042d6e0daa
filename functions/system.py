"""The machine that the functions run on: its time, pauses, random numbers and threads.

A function gets it at one place, and passes it on. So the simulation in `tests/simulation` runs the same code on a
machine of its own, where time passes as a scenario wants it and one thread does everything.
"""

import dataclasses
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Protocol

type Pool = Executor
"""A pool of threads."""


class Event(Protocol):
    """A `threading.Event`."""

    def set(self) -> None:
        """Set it for ever."""

    def is_set(self) -> bool:
        """Return whether it is set."""

    def wait(self, timeout: float) -> bool:
        """Return as soon as it is set, or after so many seconds; whether it is set."""


class Thread(Protocol):
    """A running `threading.Thread`."""

    def join(self, timeout: float) -> None:
        """Return when it has ended, or after so many seconds."""


def utc_now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


def _token() -> str:
    return uuid.uuid4().hex


def _start(call: Callable[[], object], name: str) -> Thread:
    thread = threading.Thread(target=call, name=name, daemon=True)
    thread.start()
    return thread


@dataclasses.dataclass(frozen=True, slots=True)
class System:
    """A machine.

    Attributes:
        monotonic: Returns seconds that never go back, from any start.
        now: Returns the time, in UTC.
        sleep: Blocks for so many seconds.
        uniform: Returns a random number between two numbers.
        token: Returns 32 random hexadecimal digits.
        pool: Returns a pool of so many threads, by a name.
        start: Starts a thread, which does not keep the process alive, by a name.
        event: Returns an event that is not set.
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    token: Callable[[], str] = _token
    pool: Callable[[int, str], Pool] = ThreadPoolExecutor
    start: Callable[[Callable[[], object], str], Thread] = _start
    event: Callable[[], Event] = threading.Event


SYSTEM = System()
"""The real machine."""
