"""Medians, and how far the repetitions lie apart."""

import statistics
from collections.abc import Iterable

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """Of a value that was measured more than once.

    Attributes:
        median: The one in the middle.
        low: The least.
        high: The most.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        found = sorted(values)
        return cls(statistics.median(found), found[0], found[-1])


def ratio(over: dict[int, float], under: dict[int, float]) -> Spread:
    """Of two values that were measured in turn: by repetition, so that what slows the machine slows both."""
    return Spread.of(over[repetition] / under[repetition] for repetition in over.keys() & under.keys())
