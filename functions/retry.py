"""How long a call may keep trying: until a time by which it has surely given up."""

from typing import NamedTuple

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds between two tries; from the one to the other they double."""


class Attempts(NamedTuple):
    """The tries of a call.

    Attributes:
        starts: Seconds in which new ones may start.
        timeout: Seconds for one of them.
    """

    starts: float
    timeout: float


def within(seconds: float) -> Attempts:
    """Fit all tries into a time: new ones start during two thirds of it, and each takes a third at most."""
    return Attempts(seconds * 2 / 3, seconds / 3)
