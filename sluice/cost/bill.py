"""Monthly bills, line by line."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from sluice.cost.prices import GIB, Price
from sluice.cost.workload import DAYS_OF_MONTH

MILLION = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class BillLine:
    """A line of a bill.

    Attributes:
        item: The use of the units; several lines may have one item.
        price: The price of a unit.
        units: Units in a month in which as much data expires as arrives.
        first: Units in the first month, when storage is filling; None if they are the same.
    """

    item: str
    price: Price
    units: float
    first: float | None = None

    @property
    def usd(self) -> float:
        """USD in a month."""
        return self.units * self.price.usd_per_unit

    @property
    def first_usd(self) -> float:
        """USD in the first month."""
        return (self.units if self.first is None else self.first) * self.price.usd_per_unit


@dataclasses.dataclass(frozen=True, slots=True)
class Bill:
    """The monthly bill of an alternative.

    Attributes:
        lines: Lines of the bill.
        events: Events in a month.
    """

    lines: Sequence[BillLine]
    events: float

    @property
    def usd(self) -> float:
        """USD in a month."""
        return sum(line.usd for line in self.lines)

    @property
    def first_usd(self) -> float:
        """USD in the first month."""
        return sum(line.first_usd for line in self.lines)

    @property
    def per_million(self) -> float:
        """USD for a million events."""
        return self.usd * MILLION / self.events

    @property
    def items(self) -> Mapping[str, float]:
        """USD in a month by item, in the order of the lines."""
        items: dict[str, float] = {}
        for line in self.lines:
            items[line.item] = items.get(line.item, 0.0) + line.usd
        return items

    def part(self, *items: str) -> float:
        """Return the USD of some items for a million events."""
        return sum(self.items.get(item, 0.0) for item in items) * MILLION / self.events

    def less_free_tier(self) -> "Bill":
        """Return the bill minus the monthly free tier, if nothing else in the account uses it."""
        return Bill(list(_less_free(self.lines)), self.events)


def _less_free(lines: Sequence[BillLine]) -> Iterator[BillLine]:
    free_left = {line.price: line.price.free for line in lines}
    free_left_first = dict(free_left)
    for line in lines:
        first = line.units if line.first is None else line.first
        free, free_first = min(line.units, free_left[line.price]), min(first, free_left_first[line.price])
        free_left[line.price] -= free
        free_left_first[line.price] -= free_first
        yield BillLine(line.item, line.price, line.units - free, first - free_first)


def stored(item: str, price: Price, bytes_of_month: float, start: float, end: float) -> BillLine:
    """Return the line for data that is stored from one age to another, in days.

    When as much data expires as arrives, `(end - start)` days of it are stored. In the first month it is half a
    month's, or less if it expires earlier.
    """
    days = max(0.0, end - start)
    gib = bytes_of_month / GIB / DAYS_OF_MONTH
    month = DAYS_OF_MONTH
    first = month / 2 if end >= month else end - end**2 / (2 * month)
    return BillLine(item, price, gib * days, gib * first if not start else 0.0)
