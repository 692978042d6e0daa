"""Time that passes only when there is nothing else to do, and then at once: hours of a simulation take seconds."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class VirtualClock(selectors.SelectSelector):
    """The clock of a virtual event loop, as its selector: where the loop would sleep, time goes on.

    Attributes:
        now: Seconds since the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def __call__(self) -> float:
        """Return the seconds since the start."""
        return self.now

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass for which the loop would sleep.

        Raises:
            RuntimeError: The loop would sleep forever.
        """
        if timeout is None:
            raise RuntimeError("the simulation waits for something that never happens")
        self.now += timeout
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self._virtual_clock = clock

    def time(self) -> float:
        return self._virtual_clock.now


def run[Result](main: Callable[[VirtualClock], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine in virtual time.

    Args:
        main: Makes the coroutine; its argument is the clock.
    """
    clock = VirtualClock()
    with asyncio.Runner(loop_factory=lambda: _Loop(clock)) as runner:
        return runner.run(main(clock))
