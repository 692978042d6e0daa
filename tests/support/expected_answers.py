"""The answers of `sql/analytics`, computed from the shop's rows in plain Python; a function for each file, by its name.

Each takes what happened, the time of the question and the query's parameters, and gives the rows that BigQuery should.
"""

import collections
import dataclasses
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from tests.support.shop import Shop

type Answer = list[dict[str, Any]]

STATUSES = ["pending", "processing", "shipped", "delivered"]
HOUR = timedelta(hours=1)
LEAD = 30
"""Days before the window that are read too, for the first events of orders."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A line of an order."""

    product_id: str
    product_name: str
    quantity: int
    price: Decimal


@dataclasses.dataclass(frozen=True, slots=True)
class OrderEvent:
    """One state of an order."""

    at: datetime
    status: str
    event_id: str
    customer_id: str
    country: str
    total: Decimal
    lines: Sequence[Line]


@dataclasses.dataclass(frozen=True, slots=True)
class StockChange:
    """A change of stock."""

    at: datetime
    shelf: tuple[str, str]
    reason: str
    units: int


@dataclasses.dataclass(frozen=True, slots=True)
class Activity:
    """Something a person did; `visit` is session and user."""

    at: datetime
    visit: tuple[str, str]
    what: str


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """The facts that the queries are asked about, each event once.

    Attributes:
        orders: The events of each order, by its id, the latest last.
        stock: All changes of stock.
        activities: What people did, and no bots, in the live dataset.
    """

    orders: Mapping[str, Sequence[OrderEvent]]
    stock: Sequence[StockChange]
    activities: Sequence[Activity]

    @classmethod
    def of(cls, shop: Shop) -> "Facts":
        """Read the shop's rows."""
        orders: dict[str, list[OrderEvent]] = collections.defaultdict(list)
        for row in _once(shop.live["orders"], shop.historical["orders"]):
            orders[row["order_id"]].append(_order_event(row))
        for events in orders.values():
            events.sort(key=lambda event: (event.at, STATUSES.index(event.status), event.event_id))
        stock = [
            StockChange(
                _moment(row["timestamp"]),
                (row["product_id"], row["warehouse_id"]),
                row["reason"],
                row["quantity_change"],
            )
            for row in _once(shop.live["inventory"], shop.historical["inventory"])
        ]
        activities = [
            Activity(_moment(row["timestamp"]), (row["metadata"]["session_id"], row["user_id"]), row["activity_type"])
            for row in _once(shop.live["user_activity"])
            if not row["user_id"].startswith("BOT-")
        ]
        return cls(orders, stock, activities)

    def orders_read(self, now: datetime, days: int) -> list[Sequence[OrderEvent]]:
        """The events of each order, as far back as the queries read them."""
        read = ([e for e in events if e.at.date() >= _since(now, days + LEAD)] for events in self.orders.values())
        return [events for events in read if events]

    def orders_placed(self, now: datetime, days: int) -> list[tuple[OrderEvent, OrderEvent]]:
        """First and latest event of each order that was placed in these days."""
        read = self.orders_read(now, days)
        return [(events[0], events[-1]) for events in read if events[0].at.date() >= _since(now, days)]


def _once(*tables: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return {(row["event_date"], row["ingest"]["event_id"]): row for row in itertools.chain(*tables)}.values()


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _order_event(row: Mapping[str, Any]) -> OrderEvent:
    return OrderEvent(
        _moment(row["order_date"]),
        row["status"],
        row["ingest"]["event_id"],
        row["customer_id"],
        row["shipping_address"]["country"],
        Decimal(row["total_amount"]),
        [
            Line(line["product_id"], line["product_name"], line["quantity"], Decimal(line["price"]))
            for line in row["items"]
        ],
    )


def _since(now: datetime, days: int) -> date:
    return now.date() - timedelta(days=days)


def _share(part: int, whole: int | None) -> float | None:
    return part / whole if whole else None


def _mean(values: Sequence[Decimal]) -> Decimal | None:
    return sum(values, Decimal()) / len(values) if values else None


def _falling(value: float | None) -> tuple[bool, float]:
    """Sort key: the greatest first, NULL last."""
    return value is None, -(value or 0.0)


def customer_lifetime_value(facts: Facts, now: datetime, days: int) -> Answer:
    """Orders and their totals by customer."""
    bought: dict[str, list[tuple[OrderEvent, OrderEvent]]] = collections.defaultdict(list)
    for first, latest in facts.orders_placed(now, days):
        bought[latest.customer_id].append((first, latest))
    rows: Answer = [
        {
            "customer_id": customer,
            "order_count": len(orders),
            "lifetime_value": sum((latest.total for _, latest in orders), Decimal()),
            "avg_order_value": _mean([latest.total for _, latest in orders]),
            "last_ordered_at": max(first.at for first, _ in orders),
        }
        for customer, orders in bought.items()
    ]
    return sorted(rows, key=lambda row: (-row["lifetime_value"], row["customer_id"]))


def low_stock(facts: Facts, now: datetime, threshold: int) -> Answer:
    """The sum of all changes on each shelf."""
    del now
    stock: collections.Counter[tuple[str, str]] = collections.Counter()
    changed: dict[tuple[str, str], datetime] = {}
    for change in facts.stock:
        stock[change.shelf] += change.units
        changed[change.shelf] = max(change.at, changed.get(change.shelf, change.at))
    return [
        {"product_id": shelf[0], "warehouse_id": shelf[1], "current_stock": units, "last_changed_at": changed[shelf]}
        for shelf, units in sorted(stock.items(), key=lambda item: (item[1], item[0]))
        if units < threshold
    ]


def user_funnel(facts: Facts, now: datetime, hours: int) -> Answer:
    """Events and users of each activity, and how many came so far."""
    events: collections.Counter[str] = collections.Counter()
    users: dict[str, set[str]] = collections.defaultdict(set)
    for activity in facts.activities:
        if activity.at >= now - hours * HOUR:
            events[activity.what] += 1
            users[activity.what].add(activity.visit[1])
    in_cart = users["add_to_cart"] | users["remove_from_cart"]
    viewed = users["view_product"] | in_cart
    came = users["login"] | users["logout"] | viewed
    steps: list[tuple[str, int | None, float | None]] = [
        ("login", len(came), None),
        ("view_product", len(viewed), _share(len(viewed), len(came))),
        ("add_to_cart", len(in_cart), _share(len(in_cart), len(viewed))),
        ("remove_from_cart", None, None),
        ("logout", None, None),
    ]
    return [
        {
            "activity_type": what,
            "unique_users": len(users[what]),
            "total_events": events[what],
            "users_this_far": so_far,
            "conversion": conversion,
        }
        for what, so_far, conversion in steps
    ]


def revenue_by_day(facts: Facts, now: datetime, days: int) -> Answer:
    """Orders on the days when they were placed."""
    placed: dict[date, list[OrderEvent]] = collections.defaultdict(list)
    for first, latest in facts.orders_placed(now, days):
        placed[first.at.date()].append(latest)
    rows: Answer = []
    for day in (_since(now, ago) for ago in range(days, -1, -1)):
        orders = placed[day]
        rows.append(
            {
                "day": day,
                "orders": len(orders),
                "customers": len({order.customer_id for order in orders}),
                "units": sum(line.quantity for order in orders for line in order.lines),
                "revenue": sum((order.total for order in orders), Decimal()),
                "avg_order_value": _mean([order.total for order in orders]),
            }
        )
    return rows


def revenue_by_product(facts: Facts, now: datetime, days: int) -> Answer:
    """The lines of the orders on the days when they were placed."""
    rows: dict[tuple[date, str], dict[str, Any]] = {}
    for first, latest in facts.orders_placed(now, days):
        day = first.at.date()
        for product in {line.product_id for line in latest.lines}:
            lines = [line for line in latest.lines if line.product_id == product]
            empty = {"product_name": "", "orders": 0, "units": 0, "revenue": Decimal()}
            row = rows.setdefault((day, product), {"day": day, "product_id": product, **empty})
            row["product_name"] = max(row["product_name"], *(line.product_name for line in lines))
            row["orders"] += 1
            row["units"] += sum(line.quantity for line in lines)
            row["revenue"] += sum((line.quantity * line.price for line in lines), Decimal())
    return sorted(rows.values(), key=lambda row: (row["day"], -row["revenue"], row["product_id"]))


def basket_analysis(facts: Facts, now: datetime, days: int, min_orders: int) -> Answer:
    """Pairs of products in one order."""
    baskets = [{line.product_id for line in latest.lines} for _, latest in facts.orders_placed(now, days)]
    singles = collections.Counter(product for basket in baskets for product in basket)
    pairs = collections.Counter(pair for basket in baskets for pair in itertools.combinations(sorted(basket), 2))
    rows: Answer = [
        {
            "product_a": a,
            "product_b": b,
            "orders": orders,
            "support": orders / len(baskets),
            "confidence_a_to_b": orders / singles[a],
            "confidence_b_to_a": orders / singles[b],
            "lift": orders * len(baskets) / (singles[a] * singles[b]),
        }
        for (a, b), orders in pairs.items()
        if orders >= min_orders
    ]
    return sorted(rows, key=lambda row: (-row["lift"], -row["orders"], row["product_a"], row["product_b"]))


def cohort_retention(facts: Facts, now: datetime, months: int) -> Answer:
    """Return in which months, counted from the first one, customers placed orders."""
    ordered: dict[str, set[int]] = collections.defaultdict(set)
    for events in facts.orders.values():
        ordered[events[-1].customer_id].add(_month(events[0].at.date()))
    cohorts: dict[int, list[set[int]]] = collections.defaultdict(list)
    for active_in in ordered.values():
        cohorts[min(active_in)].append(active_in)
    rows: Answer = []
    this_month = _month(now.date())
    for cohort in range(this_month - months, this_month + 1):
        customers = cohorts.get(cohort, [])
        for month in range(cohort, this_month + 1) if customers else ():
            active = sum(month in active_in for active_in in customers)
            rows.append(
                {
                    "cohort": date(cohort // 12, cohort % 12 + 1, 1),
                    "months_later": month - cohort,
                    "customers": len(customers),
                    "active_customers": active,
                    "retention": active / len(customers),
                }
            )
    return rows


def _month(day: date) -> int:
    """Months since the year 0."""
    return day.year * 12 + day.month - 1


def cart_abandonment(facts: Facts, now: datetime, days: int, hours: int) -> Answer:
    """Return the outcomes of visits that left something in the cart."""
    visits: dict[tuple[str, str], list[Activity]] = collections.defaultdict(list)
    for activity in facts.activities:
        if activity.at.date() >= _since(now, days + 1):
            visits[activity.visit].append(activity)
    ordered_at: dict[str, list[datetime]] = collections.defaultdict(list)
    for events in facts.orders_read(now, days):
        ordered_at[events[-1].customer_id].append(events[0].at)
    fates: dict[date, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for (_, user), activities in visits.items():
        did = collections.Counter(activity.what for activity in activities)
        begin, end = min(a.at for a in activities), max(a.at for a in activities)
        if did["add_to_cart"] > did["remove_from_cart"] and begin.date() >= _since(now, days):
            if any(begin <= moment <= end + hours * HOUR for moment in ordered_at[user]):
                fate = "ordered"
            else:
                fate = "still_open" if end + hours * HOUR >= now else "abandoned"
            fates[begin.date()][fate] += 1
    return [
        {
            "day": day,
            "carts": fate.total(),
            "ordered": fate["ordered"],
            "still_open": fate["still_open"],
            "abandoned": fate["abandoned"],
            "abandonment_rate": _share(fate["abandoned"], fate["abandoned"] + fate["ordered"]),
        }
        for day, fate in sorted(fates.items())
    ]


def return_and_damage_rates(facts: Facts, now: datetime, days: int) -> Answer:
    """Units of each product by reason."""
    units: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for change in facts.stock:
        if change.at.date() >= _since(now, days):
            units[change.shelf[0]][change.reason] += change.units
    rows: Answer = [
        {
            "product_id": product,
            "units_sold": -changes["sale"],
            "units_returned": changes["return"],
            "units_damaged": -changes["damage"],
            "return_rate": _share(changes["return"], -changes["sale"]),
            "damage_rate": _share(-changes["damage"], -changes["sale"]),
        }
        for product, changes in units.items()
    ]
    return sorted(rows, key=lambda row: (_falling(row["return_rate"]), _falling(row["damage_rate"]), row["product_id"]))


def delivery_time(facts: Facts, now: datetime, days: int) -> Answer:
    """Hours from pending to delivered."""
    hours: dict[str, list[float]] = collections.defaultdict(list)
    for events in facts.orders_read(now, days):
        pending = next((event for event in events if event.status == "pending"), None)
        delivered = next((event for event in events if event.status == "delivered"), None)
        if pending and delivered and pending.at <= delivered.at and delivered.at.date() >= _since(now, days):
            hours[delivered.country].append((delivered.at - pending.at) / HOUR)
    rows: Answer = [
        {
            "country": country,
            "deliveries": len(taken),
            "median_hours": _percentile(taken, 0.5),
            "p90_hours": _percentile(taken, 0.9),
        }
        for country, taken in hours.items()
    ]
    return sorted(rows, key=lambda row: (-row["median_hours"], row["country"]))


def _percentile(values: Sequence[float], share: float) -> float:
    """Linear between the two nearest ranks, as PERCENTILE_CONT."""
    ranked = sorted(values)
    rank = share * (len(ranked) - 1)
    below = int(rank)
    above = min(below + 1, len(ranked) - 1)
    return ranked[below] + (rank - below) * (ranked[above] - ranked[below])


ANSWERS: Mapping[str, Callable[..., Answer]] = {
    name: function
    for name, function in inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    if function.__module__ == __name__ and not name.startswith("_")
}
"""Functions that compute the expected answer, by the name of the query."""
