"""One valid event of each type, and messages that carry it."""

import copy
import json
import pathlib
import re
from datetime import UTC, datetime
from typing import Any

from functions.core.contracts import Contracts
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

EVENTS: dict[str, dict[str, Any]] = {
    "order": {
        "event_type": "order",
        "order_id": "o-1",
        "customer_id": "c-1",
        "order_date": "2026-11-23T11:59:58.123Z",
        "status": "pending",
        "items": [
            {"product_id": "p-1", "product_name": "Tea", "quantity": 2, "price": 9.99},
            {"product_id": "p-2", "product_name": "Cup", "quantity": 1, "price": 5},
        ],
        "shipping_address": {"street": "1 Rue de l'Abbaye", "city": "Reims", "country": "France"},
        "total_amount": 24.98,
    },
    "inventory": {
        "event_type": "inventory",
        "inventory_id": "i-1",
        "product_id": "p-1",
        "warehouse_id": "w-1",
        "quantity_change": -2,
        "reason": "sale",
        "timestamp": "2026-11-23T11:59:58Z",
    },
    "user_activity": {
        "event_type": "user_activity",
        "user_id": "c-1",
        "activity_type": "view_product",
        "ip_address": "203.0.113.77",
        "user_agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15"
        " (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
        "timestamp": "2026-11-23T11:59:58Z",
        "metadata": {"session_id": "s-1", "platform": "mobile"},
    },
}

process = EventPipeline(Contracts.load(), Privacy(), retention_days=90, code_version="tests")


def event(event_type: str, **changes: Any) -> dict[str, Any]:
    """A valid event with other values in some of its fields."""
    return copy.deepcopy(EVENTS[event_type]) | changes


def samples(event_type: str) -> list[dict[str, Any]]:
    """The sample events of a type in `tests/samples/`; valid at `NOW`."""
    file = pathlib.Path(__file__).parents[1] / "samples" / f"{event_type}.ndjson"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def message(payload: bytes | dict[str, Any], event_id: str = "e-1", **attributes: str) -> Message:
    """A message with a payload."""
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(data, {"event_id": event_id, **attributes}, "m-1", NOW)


def archive_snippets() -> dict[str, str]:
    """The SQL of the page about the archive, by title."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "archive.md").read_text()
    return dict(re.findall(r"```sql title=(\S+)\n(.*?)```", page, re.DOTALL))
