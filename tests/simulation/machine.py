"""A virtual machine: the system that a function runs on, with threads that are greenlets of one real thread."""

import collections
import concurrent.futures
import contextlib
import functools
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import greenlet

from functions.system import System
from tests.simulation.virtual_time import Loop, VirtualTime

EPOCH = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)
"""The time at which a scenario begins."""


class Machine:
    """A machine, which can be killed and frozen.

    Args:
        time: The time of all machines.
        rng: Draws its random numbers.
        name: Its name in the history.
        skew: Seconds that its clock is ahead.

    Attributes:
        name: Its name.
        loop: Its event loop.
        system: What functions take from it.
        is_dead: Whether it was killed.
    """

    def __init__(self, time: VirtualTime, rng: random.Random, name: str, skew: float = 0.0) -> None:
        self.name = name
        self.loop: Loop = time.loop()
        self._time = time
        self._rng = rng
        self._epoch = EPOCH + timedelta(seconds=skew)
        self._threads: list[_Greenlet] = []
        self.system = System(
            monotonic=time.read,
            now=self.now,
            sleep=self.sleep,
            uniform=rng.uniform,
            token=lambda: f"{rng.getrandbits(128):032x}",
            pool=lambda threads, _: _Pool(self, threads),
            start=lambda call, _: self.start(call),
            event=lambda: _Event(self),
        )

    @property
    def is_dead(self) -> bool:
        return self.loop.is_dead

    def now(self) -> datetime:
        """Return the time by its clock."""
        return self._epoch + timedelta(seconds=self._time.now)

    def kill(self) -> None:
        """Let nothing of it run any more."""
        if not self.is_dead:
            self.loop.kill()

    def close(self) -> None:
        """End its threads, for the memory they take. None of them reaches a service, as the machine is dead."""
        self.kill()
        for thread in self._threads:
            if not thread.dead:
                with contextlib.suppress(BaseException):
                    thread.throw(greenlet.GreenletExit)

    def start(self, call: Callable[[], object]) -> "_Greenlet":
        """Run a call that blocks, in a thread."""
        thread = _Greenlet(self, call)
        self._threads.append(thread)
        self.loop.call_soon(thread.switch)
        return thread

    def sleep(self, seconds: float) -> None:
        """Block for a time."""
        self.wait(lambda wake: self.loop.call_later(seconds, wake))

    def wait(self, arrange: Callable[[Callable[[], None]], object]) -> None:
        """Block until a function is called.

        Args:
            arrange: Called with this function; only its first call counts.
        """
        if self.is_dead:
            raise greenlet.GreenletExit
        thread = greenlet.getcurrent()
        assert isinstance(thread, _Greenlet), "only threads block"
        is_awake = False

        def wake() -> None:
            nonlocal is_awake
            if not is_awake:
                is_awake = True
                self.loop.call_soon(thread.switch)

        arrange(wake)
        thread.parent.switch()
        if self.is_dead:
            raise greenlet.GreenletExit


def _main_greenlet() -> greenlet.greenlet:
    current = greenlet.getcurrent()
    while current.parent is not None:
        current = current.parent
    return current


def current_machine() -> Machine:
    """Return the machine of the running thread."""
    thread = greenlet.getcurrent()
    assert isinstance(thread, _Greenlet)
    return thread.machine


class _Greenlet(greenlet.greenlet):  # type: ignore[misc]
    """A thread of a machine; its parent is the greenlet of the loops."""

    def __init__(self, machine: Machine, call: Callable[[], object]) -> None:
        super().__init__(self._run_call, _main_greenlet())
        self.machine = machine
        self._call = call
        self._waiting: list[Callable[[], None]] = []

    def _run_call(self) -> None:
        try:
            self._call()
        except greenlet.GreenletExit:
            raise
        except Exception as error:
            self.machine.loop.call_exception_handler({"message": "a thread has failed", "exception": error})
        for wake in self._waiting:
            wake()

    def join(self, timeout: float) -> None:
        def arrange(wake: Callable[[], None]) -> None:
            self._waiting.append(wake)
            self.machine.loop.call_later(timeout, wake)

        if not self.dead:
            self.machine.wait(arrange)


class _Event:
    """An event of `threading`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._is_set = False
        self._waiting: list[Callable[[], None]] = []

    def set(self) -> None:
        self._is_set = True
        for wake in self._waiting:
            wake()

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float) -> bool:
        def arrange(wake: Callable[[], None]) -> None:
            self._waiting.append(wake)
            self._machine.loop.call_later(timeout, wake)

        if not self._is_set:
            self._machine.wait(arrange)
        return self._is_set


class _Future(concurrent.futures.Future[Any]):
    """The result of a call in a pool."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine

    def result(self, timeout: float | None = None) -> Any:
        self.wait()
        return super().result(0)

    def wait(self) -> None:
        """Block until it is done."""
        if not self.done():
            self._machine.wait(lambda wake: self.add_done_callback(lambda _: wake()))


def wait(
    futures: Iterable[concurrent.futures.Future[Any]], return_when: str
) -> tuple[set[concurrent.futures.Future[Any]], set[concurrent.futures.Future[Any]]]:
    """Block until the first or all of a machine's futures are done, as `concurrent.futures.wait` does.

    Returns:
        Those that are done, and the others.
    """
    waited = set(futures)
    pending = [future for future in waited if not future.done()]
    if return_when == concurrent.futures.ALL_COMPLETED:
        for future in pending:
            assert isinstance(future, _Future)
            future.wait()
    elif len(pending) == len(waited):

        def arrange(wake: Callable[[], None]) -> None:
            for future in pending:
                future.add_done_callback(lambda _: wake())

        current_machine().wait(arrange)
    done = {future for future in waited if future.done()}
    return done, waited - done


class _Pool(concurrent.futures.Executor):
    """A pool of threads."""

    def __init__(self, machine: Machine, threads: int) -> None:
        self._machine = machine
        self._free = threads
        self._calls: collections.deque[tuple[_Future, Callable[[], object]]] = collections.deque()
        self._running: set[_Future] = set()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        future = _Future(self._machine)
        self._calls.append((future, functools.partial(call, *args, **kwargs)))
        self._start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while wait and (pending := [*self._running, *(future for future, _ in self._calls)]):
            pending[0].wait()

    def _start(self) -> None:
        while self._free and self._calls:
            future, call = self._calls.popleft()
            if future.set_running_or_notify_cancel():
                self._free -= 1
                self._running.add(future)
                self._machine.start(functools.partial(self._run, future, call))

    def _run(self, future: _Future, call: Callable[[], object]) -> None:
        try:
            result = call()
        except greenlet.GreenletExit:
            raise
        except BaseException as error:
            self._ended(future)
            future.set_exception(error)
        else:
            self._ended(future)
            future.set_result(result)

    def _ended(self, future: _Future) -> None:
        self._free += 1
        self._running.discard(future)
        self._start()
