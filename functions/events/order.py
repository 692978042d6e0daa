"""Orders: one event for each step of an order's life."""

from functions.events import Columns, EventType
from functions.privacy import Privacy


def enrich(order: Columns, _: Privacy) -> Columns:
    """Add the number of units and their worth, to compare with `total_amount`."""
    count = worth = 0
    for item in order["items"]:
        count += item["quantity"]
        worth += item["quantity"] * item["price"]
    return {"item_count": count, "items_total": worth}


EVENT_TYPE = EventType(table="orders", time_field="order_date", enrich=enrich, person_field="customer_id")
