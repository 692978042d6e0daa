"""Orders: one event for each step of an order's life."""

from functions.core.privacy import Privacy
from functions.events import Columns, EventType


def enrich(order: Columns, _: Privacy) -> Columns:
    """Add the number of units and their worth, to compare with `total_amount`."""
    items = order["items"]
    return {
        "item_count": sum(item["quantity"] for item in items),
        "items_total": sum(item["quantity"] * item["price"] for item in items),
    }


EVENT_TYPE = EventType(table="orders", time_field="order_date", enrich=enrich, person_field="customer_id")
