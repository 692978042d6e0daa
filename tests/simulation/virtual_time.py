"""Virtual time: nothing waits for the clock. Machines that are ready at the same time run in an order of the seed."""

import asyncio
import collections
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

MAX_STEPS = 50_000
"""Number of steps of a scenario after which it will never end."""


MAX_READS = 50_000
"""Number of looks at the clock in a step after which it will never end."""


class Stuck(Exception):
    """Raised where nothing would ever happen again."""


class VirtualTime:
    """The time of all loops.

    Args:
        rng: Draws the order of loops that are ready at the same time.
        failed: Called with the text of each error that nobody handles.

    Attributes:
        now: Seconds since the begin of the scenario.
        failed: Called with the text of each error that nobody handles.
    """

    def __init__(self, rng: random.Random, failed: Callable[[str], object]) -> None:
        self.now = 0.0
        self.failed = failed
        self._rng = rng
        self._loops: list[Loop] = []
        self._timers: list[tuple[float, int, Loop, asyncio.Handle]] = []
        self._number = 0
        self._steps = 0
        self._reads = 0

    def read(self) -> float:
        """Return the time, to a machine.

        Raises:
            Stuck: Time stands still, since the machine never ends a step.
        """
        self._reads += 1
        if self._reads > MAX_READS:
            raise Stuck("a machine goes round in a circle")
        return self.now

    def loop(self) -> "Loop":
        """Return a new loop."""
        loop = Loop(self)  # type: ignore[abstract]  # asyncio itself declares no method abstract
        self._loops.append(loop)
        return loop

    def remove(self, loop: "Loop") -> None:
        """Run nothing of a loop any more."""
        self._loops.remove(loop)

    def at(self, when: float, loop: "Loop", handle: asyncio.Handle) -> None:
        """Run a handle at a time."""
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, loop, handle))

    def run(self, is_over: Callable[[], bool], until: float) -> None:
        """Let time pass until something is over.

        Raises:
            Stuck: It is not over at the time `until`, or nothing would happen before.
        """
        while not is_over():
            if not self._step(until):
                raise Stuck(f"nothing happens from {self.now:.3f} s until {until:g} s")

    def run_until(self, until: float) -> None:
        """Let time pass until a time, or until nothing would happen any more."""
        while self._step(until):
            pass

    def _step(self, until: float) -> bool:
        """Run what is next; return False if nothing is before a time, or everything goes round in a circle."""
        self._steps += 1
        self._reads = 0
        if self._steps > MAX_STEPS:
            return False
        ready = [loop for loop in self._loops if loop.ready and loop.frozen_until <= self.now]
        if ready:
            (ready[0] if len(ready) == 1 else self._rng.choice(ready)).run_ready()
            return True
        if not self._timers or self._timers[0][0] > until:
            return False
        self.now = max(self.now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self.now:
            _, _, loop, handle = heapq.heappop(self._timers)
            if not loop.is_dead and not handle.cancelled():
                loop.ready.append(handle)
        return True


class Loop(asyncio.AbstractEventLoop):
    """The event loop of a machine, in virtual time.

    Attributes:
        ready: Handles that run as soon as the machine does.
        frozen_until: Time until which the machine does nothing, as the platform freezes an instance.
        is_dead: Whether the machine was killed.
    """

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self.ready: collections.deque[asyncio.Handle] = collections.deque()
        self.frozen_until = 0.0
        self.is_dead = False

    def run_ready(self) -> None:
        """Run the handles that are ready now, as an iteration of asyncio's own loop does."""
        asyncio._set_running_loop(self)
        try:
            for _ in range(len(self.ready)):
                if not self.ready:  # killed meanwhile
                    break
                handle = self.ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def kill(self) -> None:
        """Run nothing any more, not even what cleans up: SIGKILL."""
        self.is_dead = True
        self.ready.clear()
        self._time.remove(self)

    def freeze(self, seconds: float) -> None:
        """Run nothing for a while."""
        self.frozen_until = self._time.now + seconds
        self._time.at(self.frozen_until, self, asyncio.Handle(lambda: None, (), self))

    def time(self) -> float:
        return self._time.now

    def call_soon[*Ts](
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.is_dead:
            self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later[*Ts](
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._time.now + delay, callback, *args, context=context)

    def call_at[*Ts](
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._time.at(when, self, handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.is_dead

    def is_closed(self) -> bool:
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # The garbage collector says so of what nobody can ever wake.
        if not self.is_dead and not context["message"].startswith("Task was destroyed"):
            self._time.failed(f"{context['message']}: {context.get('exception')!r}")

    def _timer_handle_cancelled(self, _: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when they are due."""
