"""How long the clients keep trying: until a time by which they have surely given up."""

from typing import NamedTuple

from google.api_core.retry import Retry


class Attempts(NamedTuple):
    """Arguments of a client's call.

    Attributes:
        retry: Tries again, with exponential backoff from 0.1 to 5 s.
        timeout: Seconds for one try.
    """

    retry: Retry
    timeout: float


def within(seconds: float, retry: Retry) -> Attempts:
    """Fit all tries into a time: new ones start during two thirds of it, and each takes a third at most.

    Args:
        seconds: The time for all tries.
        retry: The client's own policy of what is worth another try.
    """
    return Attempts(
        retry.with_delay(initial=0.1, maximum=5.0, multiplier=2.0).with_timeout(seconds * 2 / 3), seconds / 3
    )
