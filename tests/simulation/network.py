"""The network between machines and services: latencies, lost requests and answers, errors, and load."""

import enum
import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from fake_google.service_queue import ServiceQueue
from tests.simulation.history import History
from tests.simulation.machine import Machine
from tests.simulation.virtual_time import Loop, VirtualTime


class Request(NamedTuple):
    """An HTTP request.

    Attributes:
        method: Method.
        url: Path and query, and for Google's clients also the host.
        body: Body.
        headers: Headers.
    """

    method: str
    url: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class ConnectionLost(Exception):
    """The connection was reset: whether the service has done anything is not known."""


class NotConnected(Exception):
    """The service could not be reached."""


class TimedOut(Exception):
    """The service did not answer in time."""


class Fate(enum.StrEnum):
    """The fate of a request: how the network and the service treat it."""

    SERVED = "served"
    NOT_CONNECTED = "not connected"
    REQUEST_LOST = "request lost"
    RESET_BEFORE = "reset before"
    RESET_AFTER = "reset after"
    ANSWER_LOST = "answer lost"
    ERROR_BEFORE = "error before"
    ERROR_AFTER = "error after"
    SLOW = "slow"
    LATE = "late"


FAULTS = [fate for fate in Fate if fate is not Fate.SERVED]

_ERRORS = ((503, "backendError"), (500, "internalError"), (429, "rateLimitExceeded"), (403, "rateLimitExceeded"))


def error(status: int, reason: str, message: str = "") -> Answer:
    """Return an error as Google's APIs answer it."""
    details = {"code": status, "message": message or reason, "errors": [{"reason": reason, "message": message}]}
    return Answer(status, msgspec.json.encode({"error": details}), {"content-type": "application/json"})


class Network:
    """Carries requests.

    Args:
        time: The time.
        services: The loop in which the services serve.
        rng: Draws latencies and faults.
        history: Takes each request.

    Attributes:
        fault_share: Share of the requests with a fault, now.
        slowness: Factor on the latencies, now.
        queues: The queues of services with a limited capacity, by the first word of their requests.
        faults: Number of faults so far, by their kind.
    """

    def __init__(self, time: VirtualTime, services: Loop, rng: random.Random, history: History) -> None:
        self._time = time
        self._services = services
        self._rng = rng
        self._history = history
        self.fault_share = 0.0
        self.slowness = 1.0
        self.queues: dict[str, ServiceQueue] = {}
        self.faults = dict.fromkeys(FAULTS, 0)

    def fate(self) -> Fate:
        """Draw the fate of the next request."""
        if self._rng.random() >= self.fault_share:
            return Fate.SERVED
        fate = self._rng.choice(FAULTS)
        self.faults[fate] += 1
        return fate

    def latency(self) -> float:
        """Draw the seconds of one way."""
        return self._rng.choice((0.004, 0.03, 0.06, 0.2)) * self._rng.random() * self.slowness

    def _way(self, fate: Fate, timeout: float) -> float:
        """Draw the seconds until a request arrives: a late one does so after its caller has given up."""
        if fate is Fate.LATE:
            return timeout * (1 + 2 * self._rng.random())
        return timeout * self._rng.random() if fate is Fate.SLOW else self.latency()

    def call(self, machine: Machine, what: str, serve: Callable[[], Answer], timeout: float, rows: int = 0) -> Answer:
        """Send a request from a thread of a machine, and wait for its answer.

        Args:
            machine: The machine.
            what: The request in words, the first of which is its service.
            serve: Serves it.
            timeout: Maximum seconds.
            rows: Number of rows that the request inserts.

        Raises:
            NotConnected: The service cannot be reached.
            ConnectionLost: The connection was reset.
            TimedOut: There is no answer in time.
        """
        fate, rng = self.fate(), self._rng
        outcome: list[Answer | Exception] = []

        def arrange(wake: Callable[[], None]) -> None:
            def end(result: Answer | Exception) -> None:
                if not outcome:
                    outcome.append(result)
                    wake()

            def arrive() -> None:
                if queue := self.queues.get(what.partition(" ")[0]):
                    queue.submit(rows, respond)
                else:
                    respond()

            def respond() -> None:
                if fate is Fate.ERROR_BEFORE:
                    back = error(*rng.choice(_ERRORS))
                else:
                    answer = serve()
                    self._history.add(machine.name, f"{what}: {answer.status} ({fate})")
                    back = error(*rng.choice(_ERRORS)) if fate is Fate.ERROR_AFTER else answer
                if fate is Fate.RESET_AFTER:
                    self._services.call_later(self.latency(), end, ConnectionLost(what))
                elif fate not in {Fate.ANSWER_LOST, Fate.LATE}:
                    self._services.call_later(self.latency(), end, back)

            machine.loop.call_later(timeout, end, TimedOut(what))
            if fate is Fate.NOT_CONNECTED:
                machine.loop.call_later(self.latency(), end, NotConnected(what))
            elif fate is Fate.RESET_BEFORE:
                machine.loop.call_later(self.latency(), end, ConnectionLost(what))
            elif fate is not Fate.REQUEST_LOST:
                self._services.call_later(self._way(fate, timeout), arrive)

        machine.wait(arrange)
        [result] = outcome
        if isinstance(result, Exception):
            self._history.add(machine.name, f"{what}: {type(result).__name__} ({fate})")
            raise result
        return result
