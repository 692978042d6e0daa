"""Events of the simulated shop, as the pushes that bring them."""

import base64
import dataclasses
import functools
import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Literal

from sluice.shop.catalog import PRODUCTS
from sluice.shop.generator import Generated, generate

type Kind = Literal["mixed", "large_orders", "order", "inventory", "user_activity"]

MIX = {"order": 3, "inventory": 2, "user_activity": 5}
BAD_SHARE = 0.01
LARGE_ORDER_ITEMS = 200

_BAD = ("cut_off", "unknown_event_type", "wrong_enum", "impossible_date", "number_as_string", "missing_nested_field")
"""Faults that any check of the contract rejects; the plain function does not check for the others."""

_SEED = 6
_VARIETY = 1_000


@dataclasses.dataclass(frozen=True, slots=True)
class Body:
    """The body of a push, but for the id of its message and its event.

    Attributes:
        parts: Parts before, between and after the ids.
        is_bad: Whether the event breaks its contract.
    """

    parts: tuple[bytes, bytes, bytes]
    is_bad: bool

    def push(self, number: int) -> bytes:
        """Return the body of a message with a number of its own."""
        before, between, behind = self.parts
        # As long as a UUID, and as Pub/Sub's ids.
        return b"%bbenchmark-%026d%b%017d%b" % (before, number, between, number, behind)


def event_id(number: int) -> str:
    """Return the id of the event that `Body.push` puts into a message."""
    return f"benchmark-{number:026d}"


_numbers = itertools.count(1)


class Bodies:
    """An endless stream of pushes, no two with the same ids.

    Args:
        kind: Kind of the events; `mixed` are all types and the bad ones, in random order.
    """

    def __init__(self, kind: Kind) -> None:
        self._bodies = list(_bodies(kind))

    def __next__(self) -> tuple[bytes, bool]:
        """Return the next push, and whether its event is bad."""
        number = next(_numbers)
        body = self._bodies[number % len(self._bodies)]
        return body.push(number), body.is_bad


def good_bodies() -> list[Body]:
    """Return the bodies of the mixed events that fulfil their contracts."""
    return [body for body in _bodies("mixed") if not body.is_bad]


@functools.cache
def payloads(kind: Kind) -> Sequence[tuple[bytes, bool]]:
    """Return payloads of the last days, in random order, and whether each is bad; a kind's are a part of the mixed."""
    rng = Random(_SEED)  # noqa: S311 - the same events in each run
    if kind == "mixed":
        return _mixed(rng)
    mark = f'"event_type":"{"order" if kind == "large_orders" else kind}"'.encode()
    good = [data for data, is_bad in payloads("mixed") if not is_bad and mark in data]
    return [(_enlarged(data, rng) if kind == "large_orders" else data, False) for data in good]


def _mixed(rng: Random) -> list[tuple[bytes, bool]]:
    types = [name for name, weight in MIX.items() for _ in range(_VARIETY * weight // sum(MIX.values()))]
    bad = [number < BAD_SHARE * len(types) for number in range(len(types))]
    rng.shuffle(types)
    rng.shuffle(bad)
    pools = {pool: _pool(*pool) for pool in set(zip(types, bad, strict=True))}
    return [(next(pools[pool]), pool[1]) for pool in zip(types, bad, strict=True)]


def _pool(event_type: str, is_bad: bool) -> Iterator[bytes]:
    start = datetime.now(UTC) - timedelta(days=2)
    for message in generate(seed=_SEED, start=start, bad_share=0.5 if is_bad else 0.0, events_per_day=1_000_000):
        if (message.kind == "bad") is is_bad and _type(message) == event_type and message.reason in {None, *_BAD}:
            yield message.data


def _type(message: Generated) -> str | None:
    names = [name for name in MIX if f'"event_type":"{name}"'.encode() in message.data]
    if message.reason == "unknown_event_type":
        names = [name for name, field in _ONLY_OF.items() if field in message.data]
    return names[0] if names else None


_ONLY_OF = {"order": b'"order_id"', "inventory": b'"inventory_id"', "user_activity": b'"user_id"'}


def _enlarged(data: bytes, rng: Random) -> bytes:
    order: dict[str, Any] = json.loads(data)
    products = rng.choices(PRODUCTS, k=LARGE_ORDER_ITEMS)
    order["items"] = [
        {
            "product_id": product.id,
            "product_name": product.name,
            "quantity": rng.randint(1, 9),
            "price": float(product.price),
        }
        for product in products
    ]
    return json.dumps(order, ensure_ascii=False, separators=(",", ":")).encode()


def _bodies(kind: Kind) -> Iterator[Body]:
    """https://cloud.google.com/pubsub/docs/push#receive_push."""
    published = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for payload, is_bad in payloads(kind):
        push = {
            "message": {
                "attributes": {"event_id": "\0"},
                "data": base64.b64encode(payload).decode(),
                "messageId": "\1",
                "publishTime": published,
            },
            "subscription": "projects/project/subscriptions/ingest",
            "deliveryAttempt": 1,
        }
        before, rest = json.dumps(push).split('"\\u0000"')
        between, behind = rest.split('"\\u0001"')
        yield Body((f'{before}"'.encode(), f'"{between}"'.encode(), f'"{behind}'.encode()), is_bad)
