"""Inventory: one event for each change of a product's stock in a warehouse."""

from functions.core.privacy import Privacy
from functions.events import Columns, EventType


def enrich(_change: Columns, _privacy: Privacy) -> Columns:
    """Add nothing: a change says all that its users ask of it."""
    return {}


EVENT_TYPE = EventType(table="inventory", time_field="timestamp", enrich=enrich)
