"""Events of now, wrapped as Pub/Sub pushes them, and posted to a served function."""

import base64
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx

from functions.events import event_types
from sluice.local.stack import Stack
from tests.support import samples
from tests.support.waiting import PATIENCE

NOW = datetime.now(UTC)


def event(event_type: str, **changes: Any) -> dict[str, Any]:
    """Return a valid event of now, with other values in some of its fields."""
    time_field = "order_date" if event_type == "order" else "timestamp"
    return samples.event(event_type, **{time_field: NOW.isoformat(), **changes})


def encode(payload: bytes | dict[str, Any]) -> bytes:
    """Return the payload as JSON, unless it is bytes already."""
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def wrapped(payload: bytes | dict[str, Any], event_id: str, **attributes: str) -> dict[str, Any]:
    """Return the body of a push request with a payload."""
    message = {
        "data": base64.b64encode(encode(payload)).decode(),
        "messageId": str(uuid.uuid4().int),
        "publishTime": NOW.isoformat(),
        "attributes": {"event_id": event_id, **attributes},
    }
    return {"message": message, "subscription": "projects/p/subscriptions/s", "deliveryAttempt": 1}


def post(stack: Stack, payload: bytes | dict[str, Any], **attributes: str) -> tuple[str, httpx.Response]:
    """Push a payload with a new event id to `ingest`, and return the id and the response."""
    event_id = str(uuid.uuid4())
    return event_id, httpx.post(stack.ingest.url, json=wrapped(payload, event_id, **attributes), timeout=PATIENCE)


def good_events() -> list[tuple[str, dict[str, Any]]]:
    """The table and an event of each type, also of those that `sluice contract new` began."""
    return [
        (
            event_type.table,
            {**(samples.EVENTS.get(name) or samples.samples(name)[0]), event_type.time_field: NOW.isoformat()},
        )
        for name, event_type in event_types().items()
    ]
