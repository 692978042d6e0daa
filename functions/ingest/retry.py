"""Retries that end in time and cannot overload a service: total time, attempt timeout and retry budget."""

import math
import threading
from collections.abc import Callable
from typing import NamedTuple

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Maximum seconds between two attempts; the pause doubles from `FIRST_PAUSE`."""


class Attempts(NamedTuple):
    """Splits a call's total timeout into attempts and pauses.

    Attributes:
        starts: Seconds during which attempts may start.
        timeout: Maximum seconds of an attempt.
    """

    starts: float
    timeout: float


def within(seconds: float, expected: float = 0.0) -> Attempts:
    """Split a call's total time so that the last attempt ends in time.

    An attempt gets a third of the total time, or as long as the service is expected to take, if that is longer: an
    attempt that is given up too early only adds work for a service that is already behind.

    Args:
        seconds: Total time, attempts and pauses included.
        expected: Seconds that the service may take to answer, from `AnswerTime`.
    """
    timeout = min(max(seconds / 3, expected), seconds)
    return Attempts(seconds - timeout, timeout)


class AnswerTime:
    """Estimates how long a service may take to answer, as TCP estimates its retransmission timeout (RFC 6298).

    Safe for threads.

    Attributes:
        usual: Seconds within which it usually answers: the mean plus four mean deviations; 0 at first.
        expected: The same; twice the last timeout while attempts time out.
    """

    def __init__(self) -> None:
        self.usual = 0.0
        self.expected = 0.0
        self._lock = threading.Lock()
        self._mean = 0.0
        self._deviation = 0.0

    def answered(self, seconds: float) -> None:
        """Record an attempt that was answered after so many seconds."""
        with self._lock:
            if self._mean:
                self._deviation += (abs(seconds - self._mean) - self._deviation) / 4
                self._mean += (seconds - self._mean) / 8
            else:
                self._mean, self._deviation = seconds, seconds / 2
            self.usual = self.expected = self._mean + 4 * self._deviation

    def timed_out(self, seconds: float) -> None:
        """Record an attempt that was given up after so many seconds."""
        with self._lock:
            self.expected = max(self.expected, 2 * seconds)


class RetryBudget:
    """A token bucket that bounds retries to a share of the successful requests, as gRPC's and the AWS SDKs' do.

    A retry takes one token, or five after a timeout, when the service may still work on the request. A success gives
    a tenth of a token back, and five seconds give one. An empty bucket means that failures are reported at once, and
    Pub/Sub delivers the events again later. Safe for threads.
    """

    _CAPACITY = 50.0
    _AFTER_TIMEOUT = 5.0
    _PER_SUCCESS = 0.1
    _PER_SECOND = 0.2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = self._CAPACITY
        self._refilled = -math.inf

    def succeeded(self) -> None:
        """Record a request that succeeded."""
        with self._lock:
            self._tokens = min(self._tokens + self._PER_SUCCESS, self._CAPACITY)

    def take(self, now: float, *, after_timeout: bool = False) -> bool:
        """Take the tokens for a retry. Return False when there are not enough left."""
        price = self._AFTER_TIMEOUT if after_timeout else 1.0
        with self._lock:
            self._tokens = min(self._tokens + (now - self._refilled) * self._PER_SECOND, self._CAPACITY)
            self._refilled = now
            if self._tokens < price:
                return False
            self._tokens -= price
            return True


class Service:
    """Holds what all calls to a service share. Safe for threads.

    Attributes:
        answer_time: Estimates how long the service may take to answer.
        retries: Bounds the retries.
    """

    def __init__(self) -> None:
        self.answer_time = AnswerTime()
        self.retries = RetryBudget()

    def answered(self, seconds: float) -> None:
        """Record an attempt that succeeded after so many seconds."""
        self.answer_time.answered(seconds)
        self.retries.succeeded()


class Call:
    """Plans the attempts of a call: how long the next one may take, and whether there is another one.

    Args:
        service: What is known of the service.
        seconds: Maximum seconds for all attempts and pauses.
        now: The time at which the call begins.
        uniform: Returns a random number between two numbers.
    """

    def __init__(self, service: Service, seconds: float, now: float, uniform: Callable[[float, float], float]) -> None:
        self._service = service
        self._seconds = seconds
        self._deadline = now + seconds
        self._longest_pause = FIRST_PAUSE
        self._uniform = uniform

    def timeout(self, now: float) -> float:
        """Return the maximum seconds of an attempt that begins now."""
        timeout = within(self._seconds, self._service.answer_time.expected).timeout
        return min(timeout, max(self._deadline - now, 0.001))

    def pause(self, now: float, *, after_timeout: bool = False) -> float | None:
        """Return the seconds to wait before a retry; None: do not retry, for lack of time or of budget."""
        pause = self._uniform(0, self._longest_pause)  # so that instances do not retry at the same time
        least = within(self._seconds, self._service.answer_time.usual).timeout
        if now + pause + least > self._deadline:
            return None
        if not self._service.retries.take(now, after_timeout=after_timeout):
            return None
        self._longest_pause = min(2 * self._longest_pause, LONGEST_PAUSE)
        return pause
