"""An endless, deterministic stream of events from a simulated shop, with a given share of invalid ones.

Valid events come from `_Shop`, invalid ones from the tables of `SPOILS`, which damage a valid event.
`sluice.shop.timeline` chooses the time: a scenario of the last days, or one that happens now.
"""

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from heapq import heappop, heappush
from itertools import accumulate
from random import Random
from typing import Any, Literal
from uuid import UUID

from sluice.shop.catalog import BOTS, CITIES, DEVICES, PRODUCTS, Device, Product

type Event = dict[str, Any]
type Spoil = Callable[[Event], bytes]
type Process = Iterator[Event | int]  # publish this event now | wait as many milliseconds
type Dating = Callable[[datetime], datetime]
"""Returns the date of an event that happens at a time of the simulated clock."""

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CUSTOMERS = 1000
CRAWLERS = 8
CRAWLED_VISITS = 0.02
LOW_STOCK = 4
# Visits in each hour of the day (UTC), in percent of an average hour.
VISITS_BY_HOUR = (40, 30, 25, 25, 30, 45, 65, 85, 100, 110, 115, 120,
                  125, 120, 115, 115, 125, 140, 160, 175, 180, 160, 115, 80)  # fmt: skip
# All that follows from a visit, orders and stock included: measured, and held by a test.
EVENTS_PER_VISIT = 11.3
RETRY_WINDOW = 50
EVENTS_PER_DAY = 3_000
FAR = timedelta(days=2_000)
"""Distance of dates that are too old or too far ahead: more than the longest retention, 1 825 days."""


def _as_simulated(time: datetime) -> datetime:
    return time


@dataclass(frozen=True, slots=True)
class Generated:
    """One message to publish.

    Attributes:
        data: The payload; UTF-8 JSON unless `kind` is "bad".
        attributes: Message attributes: always "event_id" (a UUID), "schema_version" for some bad ones.
        kind: "good", "bad", or "duplicate": a good message again, as a publisher's retry sends it.
        reason: Name of a bad message's fault in `SPOILS`, else None.
    """

    data: bytes
    attributes: dict[str, str]
    kind: Literal["good", "bad", "duplicate"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Settings of the events of the shop and of their faults, without the time.

    Attributes:
        seed: Seed of the shop and of the scenario.
        bad_share: Share of bad messages among all, 0 to 1.
        duplicate_share: Share of duplicates among all, 0 to 1; with `bad_share` below 1.
        events_per_day: Approximate number of good events in a simulated day.

    Raises:
        ValueError: A number is out of its range.
    """

    seed: int
    bad_share: float = 0.0
    duplicate_share: float = 0.0
    events_per_day: int = EVENTS_PER_DAY

    def __post_init__(self) -> None:
        if self.bad_share < 0 or self.duplicate_share < 0 or self.bad_share + self.duplicate_share >= 1:
            raise ValueError("shares must be 0 or more, and below 1 together")
        if self.events_per_day < 1:
            raise ValueError("events_per_day must be 1 or more")


def generate(
    *,
    seed: int,
    start: datetime,
    bad_share: float = 0.0,
    duplicate_share: float = 0.0,
    events_per_day: int = EVENTS_PER_DAY,
) -> Iterator[Generated]:
    """Yield the events of a shop, in order of time on a simulated clock, without end.

    The arguments are those of `Scenario` and of `simulate`, which raise for invalid values.

    Example:
        >>> messages = generate(seed=7, start=datetime(2026, 1, 1, tzinfo=UTC))
        >>> json.loads(next(messages).data)["activity_type"]
        'login'
    """
    return simulate(Scenario(seed, bad_share, duplicate_share, events_per_day), start)


def simulate(scenario: Scenario, start: datetime, dating: Dating = _as_simulated) -> Iterator[Generated]:
    """Yield the events of a scenario in order of time on a simulated clock, without end.

    The same arguments give the same bytes on every machine, and the same seed, start and pace the same good
    messages whatever the shares. Another start gives other ids of messages, orders, sessions and stock changes, so
    that the events of two runs are different events. The customers are those of the seed.

    Args:
        scenario: Settings of the scenario.
        start: First time of the simulated clock; timezone-aware.
        dating: Returns the date of an event. By default, it is the time of the simulated clock.

    Returns:
        The messages, one by one.

    Raises:
        ValueError: `start` has no time zone.
    """
    if start.tzinfo is None:
        raise ValueError("start must have a time zone")
    now = (start - EPOCH) // timedelta(milliseconds=1)
    ids = partial(_rng, f"{scenario.seed}/{now}")
    shop = _Shop(_rng(scenario.seed, "shop"), ids("shop"), now, scenario.events_per_day, dating)
    faults = _Faults(_rng(scenario.seed, "faults"), ids("faults"), scenario.bad_share, scenario.duplicate_share)
    return _messages(shop.events(), ids("messages"), faults)


@dataclass(frozen=True, slots=True)
class _Faults:
    """Random faults on the way to Pub/Sub."""

    rng: Random
    ids: Random
    bad: float
    duplicate: float


def _messages(events: Iterator[Event], ids: Random, faults: _Faults) -> Iterator[Generated]:
    recent: deque[Generated] = deque(maxlen=RETRY_WINDOW)
    for event in events:
        while (draw := faults.rng.random()) < faults.bad + faults.duplicate:
            if draw < faults.bad:
                yield _spoiled(event, faults)
            elif recent:
                yield replace(faults.rng.choice(recent), kind="duplicate")
        message = Generated(_encode(event), {"event_id": _uuid(ids)}, "good")
        yield message
        recent.append(message)


def _spoiled(event: Event, faults: _Faults) -> Generated:
    reason, spoil = faults.rng.choice(list(SPOILS[event["event_type"]].items()))
    attributes = {"event_id": _uuid(faults.ids)} | SPOILT_ATTRIBUTES.get(reason, {})
    return Generated(spoil(event), attributes, "bad", reason)


def _rng(seed: int | str, purpose: str) -> Random:
    return Random(f"{seed}/{purpose}")  # noqa: S311 - a reproducible scenario, no secret


def _id(prefix: str, rng: Random) -> str:
    return f"{prefix}-{rng.getrandbits(48):012X}"


def _uuid(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


# JSON writes a float as the shortest text that reads back as it: a Decimal of cents keeps every digit.
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=float)


def _encode(event: Event) -> bytes:
    return _encoder.encode(event).encode()


def _timestamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


@dataclass(frozen=True, slots=True)
class _Visitor:
    id: str
    device: Device
    ip: str
    warehouse: str
    address: dict[str, str]


class _Shop:
    """Visitors, stock and an event queue, on a clock of whole milliseconds.

    Every activity (a visit, an order, the stream of visits) is a `Process` with its own random generator: when
    something happens does not change what else happens, so that a scenario is much the same whenever it starts. Chance
    uses neither `gauss` nor `expovariate`: the C library takes their logarithms, and its last bit differs from machine
    to machine.
    """

    def __init__(self, rng: Random, ids: Random, now: int, events_per_day: int, dating: Dating) -> None:
        self._rng = rng
        self._ids = ids
        self._now = now
        self._dating = dating
        self._agenda: list[tuple[int, int, Process, Random]] = []
        self._scheduled = 0
        self._free: defaultdict[tuple[str, str], int] = defaultdict(int)  # stock not promised to an order
        self._popularity = list(accumulate(1000 // (rank + 4) for rank in range(len(PRODUCTS))))
        self._customers = [self._visitor("CUS", DEVICES) for _ in range(CUSTOMERS)]
        self._crawlers = [self._visitor("BOT", BOTS) for _ in range(CRAWLERS)]
        self._start(self._visits(gap=max(1, round(DAY * EVENTS_PER_VISIT / events_per_day))))

    def events(self) -> Iterator[Event]:
        """Run the event queue: yield all events of the shop, in order of time."""
        while True:
            self._now, _, process, self._rng = heappop(self._agenda)
            for step in process:
                if isinstance(step, int):
                    self._schedule(self._now + step, process, self._rng)
                    break
                yield step

    def _start(self, process: Process) -> None:
        self._schedule(self._now, process, Random(self._rng.getrandbits(64)))  # noqa: S311 - as in `_rng`

    def _schedule(self, time: int, process: Process, rng: Random) -> None:
        self._scheduled += 1
        heappush(self._agenda, (time, self._scheduled, process, rng))

    def _visits(self, gap: int) -> Process:
        while True:
            busy = VISITS_BY_HOUR[self._now // HOUR % 24]
            yield self._between(0, 2 * gap) * 100 // busy
            if self._chance(CRAWLED_VISITS):
                self._start(self._crawl(self._rng.choice(self._crawlers)))
            else:
                self._start(self._visit(self._rng.choice(self._customers)))

    def _crawl(self, crawler: _Visitor) -> Process:
        did = partial(self._activity, crawler, self._id("SES"))
        for _ in range(self._between(3, 12)):
            yield did("view_product")
            yield self._between(1 * SECOND, 5 * SECOND)

    def _visit(self, customer: _Visitor) -> Process:
        did = partial(self._activity, customer, self._id("SES"))
        cart: defaultdict[Product, int] = defaultdict(int)
        yield did("login")
        for product in self._rng.choices(PRODUCTS, cum_weights=self._popularity, k=self._between(1, 4)):
            yield self._between(5 * SECOND, 2 * MINUTE)
            if self._chance(0.75):
                yield did("view_product")
                yield self._between(3 * SECOND, 1 * MINUTE)
            if self._chance(0.88):
                yield did("add_to_cart")
                cart[product] += self._between(60, 240) if self._chance(0.004) else self._between(1, 2)
        if len(cart) > 1 and self._chance(0.15):
            yield self._between(3 * SECOND, 1 * MINUTE)
            yield did("remove_from_cart")
            cart.popitem()
        if cart and self._chance(0.9):
            yield self._between(20 * SECOND, 4 * MINUTE)
            self._start(self._order(customer, cart))
        if self._chance(0.5):
            yield self._between(5 * SECOND, 5 * MINUTE)
            yield did("logout")

    def _order(self, customer: _Visitor, cart: dict[Product, int]) -> Process:
        order = partial(self._order_event, customer, self._id("ORD"), cart)
        shelves = [((customer.warehouse, product.id), quantity) for product, quantity in cart.items()]
        yield order("pending")
        for shelf, quantity in shelves:
            yield self._between(1 * SECOND, 1 * MINUTE)
            yield from self._promise(shelf, quantity)
        yield self._between(5 * MINUTE, 1 * HOUR)
        yield order("processing")
        for shelf, quantity in shelves:
            yield self._between(10 * SECOND, 5 * MINUTE)
            yield from self._pack(shelf, quantity)
        yield self._between(1 * HOUR, 10 * HOUR)
        yield order("shipped")
        yield self._between(4 * HOUR, 30 * HOUR)
        yield order("delivered")
        if self._chance(0.12):
            yield self._between(4 * HOUR, 2 * DAY)
            yield from self._take_back(*self._rng.choice(shelves))

    def _promise(self, shelf: tuple[str, str], quantity: int) -> Process:
        self._free[shelf] -= quantity
        while self._free[shelf] < LOW_STOCK:
            delivered = min(100, LOW_STOCK - self._free[shelf] + self._between(2, 60))
            self._free[shelf] += delivered
            yield self._inventory_event(shelf, delivered, "restock")

    def _pack(self, shelf: tuple[str, str], quantity: int) -> Process:
        if self._chance(0.04):
            yield from self._write_off(shelf, 1)
        for packed in range(0, quantity, 100):
            yield self._inventory_event(shelf, -min(100, quantity - packed), "sale")

    def _take_back(self, shelf: tuple[str, str], quantity: int) -> Process:
        returned = self._between(1, min(100, quantity))
        self._free[shelf] += returned
        yield self._inventory_event(shelf, returned, "return")
        if self._chance(0.3):
            yield self._between(10 * MINUTE, 2 * HOUR)
            yield from self._write_off(shelf, returned)

    def _write_off(self, shelf: tuple[str, str], quantity: int) -> Process:
        if self._free[shelf] >= quantity:
            self._free[shelf] -= quantity
            yield self._inventory_event(shelf, -quantity, "damage")

    def _order_event(self, customer: _Visitor, order_id: str, cart: dict[Product, int], status: str) -> Event:
        return {
            "event_type": "order",
            "order_id": order_id,
            "customer_id": customer.id,
            "order_date": self._clock(),
            "status": status,
            "items": [
                {"product_id": p.id, "product_name": p.name, "quantity": quantity, "price": p.price}
                for p, quantity in cart.items()
            ],
            "shipping_address": customer.address,
            "total_amount": sum((p.price * quantity for p, quantity in cart.items()), Decimal()),
        }

    def _inventory_event(self, shelf: tuple[str, str], quantity_change: int, reason: str) -> Event:
        warehouse_id, product_id = shelf
        return {
            "event_type": "inventory",
            "inventory_id": self._id("INV"),
            "product_id": product_id,
            "warehouse_id": warehouse_id,
            "quantity_change": quantity_change,
            "reason": reason,
            "timestamp": self._clock(),
        }

    def _activity(self, visitor: _Visitor, session_id: str, activity_type: str) -> Event:
        return {
            "event_type": "user_activity",
            "user_id": visitor.id,
            "activity_type": activity_type,
            "ip_address": visitor.ip,
            "user_agent": visitor.device.user_agent,
            "timestamp": self._clock(),
            "metadata": {"session_id": session_id, "platform": visitor.device.platform},
        }

    def _visitor(self, prefix: str, devices: tuple[Device, ...]) -> _Visitor:
        city = self._rng.choice(CITIES)
        street = self._rng.choice(city.streets).format(self._between(1, 180))
        if self._chance(0.2):
            site, subnet, host = (self._between(1, 0xFFFF) for _ in range(3))
            ip = f"2001:db8:{site:x}:{subnet:x}::{host:x}"
        else:
            network = self._rng.choice(("192.0.2", "198.51.100", "203.0.113"))
            ip = f"{network}.{self._between(1, 254)}"
        return _Visitor(
            id=_id(prefix, self._rng),
            device=self._rng.choices(devices, [device.share for device in devices])[0],
            ip=ip,
            warehouse=city.warehouse,
            address={"street": street, "city": city.name, "country": city.country},
        )

    def _clock(self) -> str:
        return _timestamp(self._dating(EPOCH + timedelta(milliseconds=self._now)))

    def _id(self, prefix: str) -> str:
        return _id(prefix, self._ids)

    def _between(self, least: int, most: int) -> int:
        return self._rng.randint(least, most)

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability


def _moved(event: Event, field: str, distance: timedelta) -> bytes:
    return _encode(event | {field: _timestamp(datetime.fromisoformat(event[field]) + distance)})


def _spoils(*, id_field: str, time_field: str, enum_field: str) -> dict[str, Spoil]:
    """Return the faults of an event of any type: the name of each, and the bytes that result from it."""
    return {
        "cut_off": lambda event: _encode(event)[:100],
        "not_utf8": lambda event: _encode(event)[:-1] + ',"note":"café"}'.encode("latin-1"),
        "empty_payload": lambda _: b"",
        "array": lambda event: b"[" + _encode(event) + b"]",
        "unknown_event_type": lambda event: _encode(event | {"event_type": "teleport"}),
        "unknown_schema_version": _encode,
        "wrong_enum": lambda event: _encode(event | {enum_field: "teleported"}),
        "impossible_date": lambda event: _encode(event | {time_field: "2026-02-30T12:00:00.000Z"}),
        "too_old": lambda event: _moved(event, time_field, -FAR),
        "too_far_ahead": lambda event: _moved(event, time_field, FAR),
        # Valid to a parser that lets the last one win, another type of event to one that takes the first.
        "duplicate_keys": lambda event: b'{"event_type":"teleport",' + _encode(event)[1:],
        "lone_surrogate": lambda event: _encode(event | {id_field: "?"}).replace(b'"?"', rb'"\ud800"'),
        "nested_too_deep": lambda event: _encode(event)[:-1] + b',"note":' + b"[" * 2000 + b"]" * 2000 + b"}",
    }


SPOILS: dict[str, dict[str, Spoil]] = {
    "order": _spoils(id_field="customer_id", time_field="order_date", enum_field="status")
    | {
        "nan": lambda event: _encode(event | {"total_amount": float("nan")}),
        "huge_quantity": lambda event: _encode(event | {"items": [event["items"][0] | {"quantity": 10**30}]}),
        "number_as_string": lambda event: _encode(event | {"total_amount": str(event["total_amount"])}),
        "empty_items": lambda event: _encode(event | {"items": []}),
        "missing_nested_field": lambda event: _encode(event | {"shipping_address": {"city": "Wien"}}),
    },
    "inventory": _spoils(id_field="product_id", time_field="timestamp", enum_field="reason")
    | {
        "nan": lambda event: _encode(event | {"quantity_change": float("nan")}),
        "number_as_string": lambda event: _encode(event | {"quantity_change": str(event["quantity_change"])}),
        "quantity_change_out_of_range": lambda event: _encode(event | {"quantity_change": 101}),
    },
    "user_activity": _spoils(id_field="user_id", time_field="timestamp", enum_field="activity_type")
    | {"missing_nested_field": lambda event: _encode(event | {"metadata": {"platform": "web"}})},
}
SPOILT_ATTRIBUTES = {"unknown_schema_version": {"schema_version": "99"}}
