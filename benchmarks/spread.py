"""Medians, and the spread of the repetitions."""

import statistics
from collections.abc import Iterable, Mapping

import msgspec


class NotMeasured(ValueError):
    """A value was not measured; the message says why."""


class Spread(msgspec.Struct, frozen=True):
    """Spread of a value that was measured more than once.

    Attributes:
        median: Median of the values.
        low: Minimum of the values.
        high: Maximum of the values.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of at least one value."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


def ratio(
    over: Mapping[int, float | None],
    under: Mapping[int, float | None],
    titles: tuple[str, str] = ("the first", "the second"),
) -> Spread:
    """Return the ratio of two values that were measured in turn.

    It is taken within each repetition, so that what slows the machine slows both.

    Args:
        over: Values by repetition; None where there is none.
        under: The same of the opponent.
        titles: Titles of the values, for the message of an error.

    Raises:
        NotMeasured: A repetition lacks one of the values, or the opponent's is 0.
    """
    measured = [_all_known(values, title) for values, title in zip((over, under), titles, strict=True)]
    if over.keys() != under.keys():
        raise NotMeasured(f"{titles[0]} and {titles[1]}: not measured in the same repetitions")
    if not all(measured[1].values()):
        raise NotMeasured(f"{titles[1]}: the value is 0")
    return Spread.of(measured[0][repetition] / measured[1][repetition] for repetition in over)


def _all_known(values: Mapping[int, float | None], title: str) -> dict[int, float]:
    if not values:
        raise NotMeasured(f"{title}: not run")
    measured = {repetition: value for repetition, value in values.items() if value is not None}
    if len(measured) < len(values):
        raise NotMeasured(f"{title}: no value in {len(values) - len(measured)} of {len(values)} repetitions")
    return measured
