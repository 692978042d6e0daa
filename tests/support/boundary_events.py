"""Events that the simulated shop never sends: the boundary cases of a query."""

import itertools
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from typing import Any

type Event = dict[str, Any]

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:151.0) Gecko/20100101 Firefox/151.0"
CUBOT = "Mozilla/5.0 (Linux; Android 10; CUBOT X20 PRO) AppleWebKit/537.36 Chrome/87.0 Mobile Safari/537.36"
BOTS = {
    "BOT-GOOGLE": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "BOT-SCRIPT": "python-requests/2.32.3",
    "BOT-HEADLESS": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36",
}
"""User agents by user. Whoever is called `BOT-...` is a bot, as in the simulated shop."""
TEA, CUP, POT = {"TEA": "4.20"}, {"CUP": "11.50"}, {"POT": "32.95"}


def edges(now: datetime) -> Iterator[Event]:
    """All of them; the newest is some minutes before `now`, the oldest in the historical dataset."""
    yield from _regulars(now)
    yield from _odd_orders(now)
    yield from _visits(now)
    yield from _stock(now)


def _regulars(now: datetime) -> Iterator[Event]:
    """Customers that come back in some months and in others not, over live and historical days."""
    for customer, visit in itertools.product(range(12), range(5)):
        moment = now - timedelta(days=140 - 8 * (customer % 4) - 28 * visit, hours=customer)
        if (customer + visit) % 3:
            order_id = f"ORD-REGULAR-{customer}-{visit}"
            items = TEA | CUP if customer % 2 else TEA | POT
            for status, hours in (("pending", 0), ("shipped", 20), ("delivered", 26 + 5 * customer)):
                yield _order(order_id, moment + timedelta(hours=hours), status, items, customer=f"REG-{customer}")


def _odd_orders(now: datetime) -> Iterator[Event]:
    # It grows while it is under way, and its total has shipping in it.
    yield _order("ORD-GROWS", now - timedelta(days=6), "pending", TEA, country="Wales")
    yield _order("ORD-GROWS", now - timedelta(days=5), "shipped", TEA | CUP, total="20.05", country="Wales")
    # It was placed before the last 30 days, and delivered in them.
    yield _order("ORD-SLOW", now - timedelta(days=45), "pending", POT, country="Wales")
    yield _order("ORD-SLOW", now - timedelta(days=21), "delivered", POT, country="Wales")
    # Its first event got lost.
    yield _order("ORD-HEADLESS", now - timedelta(days=5), "shipped", CUP, country="Wales")
    yield _order("ORD-HEADLESS", now - timedelta(days=4), "delivered", CUP, country="Wales")
    # Its producer gives every event the time of the first.
    for status, items in (("delivered", POT), ("pending", TEA), ("processing", CUP)):
        yield _order("ORD-ONE-TIME", now - timedelta(days=3), status, items, country="Elba")
    # Three of its events have the same time and the same state.
    for items in (POT, TEA | CUP, TEA):
        yield _order("ORD-CORRECTED", now - timedelta(days=3), "processing", items, country="Elba")
    # Clocks differ.
    yield _order("ORD-BACKWARDS", now - timedelta(days=3), "pending", TEA, country="Wales")
    yield _order("ORD-BACKWARDS", now - timedelta(days=3, minutes=1), "delivered", TEA, country="Wales")
    # The same product in two lines.
    twice = _order("ORD-TWICE", now - timedelta(days=2), "pending", TEA)
    yield {**twice, "items": twice["items"] * 2, "total_amount": 8.4}


def _visits(now: datetime) -> Iterator[Event]:
    midnight = datetime.combine(now - timedelta(days=3), time(), now.tzinfo)
    over_midnight = [midnight - timedelta(minutes=2), midnight + timedelta(minutes=3)]
    yield from _visit("SES-MIDNIGHT", "NIGHT-OWL", ["add_to_cart", "add_to_cart"], over_midnight)
    yield from _visit("SES-PUT-BACK", "DOUBTER", ["add_to_cart", "remove_from_cart"], over_midnight)
    begin_of_window = datetime.combine(now - timedelta(days=7), time(), now.tzinfo)
    before_window = [begin_of_window - timedelta(minutes=2), begin_of_window + timedelta(minutes=3)]
    yield from _visit("SES-BEFORE", "EARLY", ["add_to_cart", "add_to_cart"], before_window)
    for user, user_agent in BOTS.items():
        yield from _visit(f"SES-{user}", user, ["add_to_cart"], [now - timedelta(hours=2)], user_agent)
    yield from _visit("SES-CUBOT", "CUBOT-OWNER", ["add_to_cart"], [now - timedelta(hours=2)], CUBOT)
    yield from _visit("SES-OPEN", "DREAMER", ["login", "add_to_cart"], [now - timedelta(minutes=m) for m in (9, 5)])
    yield from _visit("SES-WINDOW", "LOOKER", ["login", "logout"], [now - timedelta(minutes=m) for m in (8, 5)])
    for hours in (23, 25):
        moment = now - timedelta(days=4)
        customer = f"AFTER-{hours}-HOURS"
        yield from _visit(f"SES-{customer}", customer, ["view_product", "add_to_cart"], [moment, moment])
        yield _order(f"ORD-{customer}", moment + timedelta(hours=hours), "pending", POT, customer=customer)
    # An old order whose parcel comes after the visit is not an order of this cart.
    yield _order("ORD-OLD-NEWS", now - timedelta(days=9), "pending", POT, customer="WAITING")
    yield _order("ORD-OLD-NEWS", now - timedelta(days=2), "delivered", POT, customer="WAITING")
    yield from _visit("SES-WAITING", "WAITING", ["add_to_cart"], [now - timedelta(days=2, hours=1)])


def _stock(now: datetime) -> Iterator[Event]:
    changes = [
        ("TEA", 100, "restock", 120),
        ("TEA", -95, "sale", 100),  # 5 are left, over live and historical days
        ("TEA", 2, "return", 3),
        ("CUP", -3, "sale", 2),  # sold before it was counted in: negative
        ("CUP", -1, "damage", 1),
        ("POT", 10, "restock", 9),  # exactly the default threshold
        ("SAMPLE", 4, "return", 8),  # never sold: no rate
        ("SAMPLE", -4, "damage", 8),  # nothing is left
    ]
    for number, (product, change, reason, days) in enumerate(changes):
        yield {
            "event_type": "inventory",
            "inventory_id": f"INV-EDGE-{number}",
            "product_id": product,
            "warehouse_id": "WH-EDGE",
            "quantity_change": change,
            "reason": reason,
            "timestamp": (now - timedelta(days=days)).isoformat(),
        }


def _order(
    order_id: str,
    moment: datetime,
    status: str,
    prices: dict[str, str],
    *,
    total: str | None = None,
    customer: str = "ODD",
    country: str = "Malta",
) -> Event:
    return {
        "event_type": "order",
        "order_id": order_id,
        "customer_id": customer,
        "order_date": moment.isoformat(),
        "status": status,
        "items": [
            {"product_id": product, "product_name": product.title(), "quantity": 1, "price": float(price)}
            for product, price in prices.items()
        ],
        "shipping_address": {"street": "Edge 1", "city": "Edgeware", "country": country},
        "total_amount": float(total) if total else round(sum(map(float, prices.values())), 2),
    }


def _visit(
    session: str, user: str, activities: list[str], moments: list[datetime], agent: str = BROWSER
) -> Iterator[Event]:
    for activity, moment in zip(activities, moments, strict=True):
        yield {
            "event_type": "user_activity",
            "user_id": user,
            "activity_type": activity,
            "ip_address": "192.0.2.1",
            "user_agent": agent,
            "timestamp": moment.isoformat(),
            "metadata": {"session_id": session, "platform": "web"},
        }
