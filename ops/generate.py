"""An endless, deterministic stream of events from a simulated shop, with as many bad ones as one asks for.

Good events come from `_Shop`, bad ones from the tables of `SPOILS`, which take a good event and spoil it.
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

from ops.catalogue import BOTS, CITIES, DEVICES, PRODUCTS, Device, Product

type Event = dict[str, Any]
type Spoil = Callable[[Event], bytes]
type Process = Iterator[Event | int]  # publish this event now | wait as many milliseconds

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


@dataclass(frozen=True, slots=True)
class Generated:
    """One message to publish.

    Attributes:
        data: The payload; UTF-8 JSON unless `kind` is "bad".
        attributes: Message attributes: always "event_id" (a UUID), "schema_version" for some bad ones.
        kind: "good", "bad", or "duplicate": a good message again, as a publisher's retry sends it.
        reason: For a bad one its name in `SPOILS`, else None.
    """

    data: bytes
    attributes: dict[str, str]
    kind: Literal["good", "bad", "duplicate"]
    reason: str | None = None


def generate(
    *,
    seed: int,
    start: datetime,
    bad_share: float = 0.0,
    duplicate_share: float = 0.0,
    events_per_day: int = 3000,
) -> Iterator[Generated]:
    """Tells the story of a shop, in order of time on a simulated clock, without end.

    The same arguments give the same bytes on every machine, and the same seed, start and pace the same good
    messages whatever the shares. Dates too old or too far ahead are so by the simulated clock.

    Args:
        seed: Which story.
        start: What the simulated clock shows at first; timezone-aware.
        bad_share: Share of bad messages among all, 0 to 1.
        duplicate_share: Share of duplicates among all, 0 to 1; with `bad_share` below 1.
        events_per_day: About how many good events happen in a simulated day.

    Returns:
        The messages, one by one.

    Raises:
        ValueError: `start` has no time zone, or a number is out of its range.

    Example:
        >>> messages = generate(seed=7, start=datetime(2026, 1, 1, tzinfo=UTC))
        >>> json.loads(next(messages).data)["activity_type"]
        'login'
    """
    if start.tzinfo is None:
        raise ValueError("start must have a time zone")
    if bad_share < 0 or duplicate_share < 0 or bad_share + duplicate_share >= 1:
        raise ValueError("shares must be 0 or more, and below 1 together")
    if events_per_day < 1:
        raise ValueError("events_per_day must be 1 or more")
    shop = _Shop(_rng(seed, "shop"), (start - EPOCH) // timedelta(milliseconds=1), events_per_day)
    return _messages(shop.events(), seed, bad_share, duplicate_share)


def _messages(events: Iterator[Event], seed: int, bad: float, duplicate: float) -> Iterator[Generated]:
    ids = _rng(seed, "ids")
    faults = _rng(seed, "faults")
    recent: deque[Generated] = deque(maxlen=RETRY_WINDOW)
    for event in events:
        while (draw := faults.random()) < bad + duplicate:
            if draw < bad:
                yield _spoiled(event, faults)
            elif recent:
                yield replace(faults.choice(recent), kind="duplicate")
        message = Generated(_encode(event), {"event_id": _uuid(ids)}, "good")
        yield message
        recent.append(message)


def _spoiled(event: Event, faults: Random) -> Generated:
    reason, spoil = faults.choice(list(SPOILS[event["event_type"]].items()))
    attributes = {"event_id": _uuid(faults)} | SPOILT_ATTRIBUTES.get(reason, {})
    return Generated(spoil(event), attributes, "bad", reason)


def _rng(seed: int, purpose: str) -> Random:
    return Random(f"{seed}/{purpose}")  # noqa: S311 - a story to be told again, no secret


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
    """Visitors, stock, and an agenda of what goes on, on a clock of whole milliseconds.

    Whatever goes on (a visit, an order, the stream of visits) is a `Process`. Chance uses neither `gauss` nor
    `expovariate`: the C library takes their logarithms, and its last bit differs from machine to machine.
    """

    def __init__(self, rng: Random, now: int, events_per_day: int) -> None:
        self._rng = rng
        self._between = rng.randint
        self._now = now
        self._agenda: list[tuple[int, int, Process]] = []
        self._started = 0
        self._free: defaultdict[tuple[str, str], int] = defaultdict(int)  # stock not promised to an order
        self._popularity = list(accumulate(1000 // (rank + 4) for rank in range(len(PRODUCTS))))
        self._customers = [self._visitor("CUS", DEVICES) for _ in range(CUSTOMERS)]
        self._crawlers = [self._visitor("BOT", BOTS) for _ in range(CRAWLERS)]
        self._start(self._visits(gap=max(1, round(DAY * EVENTS_PER_VISIT / events_per_day))))

    def events(self) -> Iterator[Event]:
        """Runs the agenda: all the events of the shop, in order of time."""
        while True:
            self._now, _, process = heappop(self._agenda)
            for step in process:
                if isinstance(step, int):
                    self._start(process, after=step)
                    break
                yield step

    def _start(self, process: Process, after: int = 0) -> None:
        self._started += 1
        heappush(self._agenda, (self._now + after, self._started, process))

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
            id=self._id(prefix),
            device=self._rng.choices(devices, [device.share for device in devices])[0],
            ip=ip,
            warehouse=city.warehouse,
            address={"street": street, "city": city.name, "country": city.country},
        )

    def _clock(self) -> str:
        return _timestamp(EPOCH + timedelta(milliseconds=self._now))

    def _id(self, prefix: str) -> str:
        return f"{prefix}-{self._rng.getrandbits(48):012X}"

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability


def _moved(event: Event, field: str, days: int) -> bytes:
    return _encode(event | {field: _timestamp(datetime.fromisoformat(event[field]) + timedelta(days=days))})


def _spoils(*, id_field: str, time_field: str, enum_field: str) -> dict[str, Spoil]:
    """What can go wrong with an event of any type: the name of each way, and the bytes that come of it."""
    return {
        "cut_off": lambda event: _encode(event)[:100],
        "not_utf8": lambda event: _encode(event)[:-1] + ',"note":"café"}'.encode("latin-1"),
        "empty_payload": lambda _: b"",
        "array": lambda event: b"[" + _encode(event) + b"]",
        "unknown_event_type": lambda event: _encode(event | {"event_type": "teleport"}),
        "unknown_schema_version": _encode,
        "wrong_enum": lambda event: _encode(event | {enum_field: "teleported"}),
        "impossible_date": lambda event: _encode(event | {time_field: "2026-02-30T12:00:00.000Z"}),
        "too_old": lambda event: _moved(event, time_field, days=-400),
        "too_far_ahead": lambda event: _moved(event, time_field, days=3),
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
