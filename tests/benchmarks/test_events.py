"""The events that are sent are what Pub/Sub would send, in the mix that the benchmark says."""

import collections
import json
from datetime import UTC, datetime

import pytest

from benchmarks.events import LARGE_ORDER_ITEMS, Bodies, payloads
from functions.core.contracts import Contracts
from functions.core.dead_letters import DeadLetter
from functions.core.message import parse_request
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy
from functions.system import utc_now

process = EventPipeline(Contracts.load(), Privacy(), 90, "tests")


def test_each_push_has_unique_ids_and_the_stated_outcome() -> None:
    bodies = Bodies("mixed")
    ids: set[str] = set()
    types: collections.Counter[str | None] = collections.Counter()
    letters = 0
    for body, is_bad in (next(bodies) for _ in range(2_000)):
        message = parse_request({}, body, utc_now)
        ids |= {message.event_id, message.message_id}
        assert message.event_id != message.message_id
        outcome = process(message, datetime.now(UTC))
        assert isinstance(outcome, DeadLetter) is is_bad, outcome
        letters += is_bad
        types[outcome.event_type] += 1
    assert len(ids) == 4_000
    assert letters == 20
    del types["teleport"], types[None]
    assert types["order"] == pytest.approx(600, abs=letters)
    assert types["inventory"] == pytest.approx(400, abs=letters)
    assert types["user_activity"] == pytest.approx(1_000, abs=letters)


def test_a_large_order_is_valid_and_large() -> None:
    for payload, is_bad in payloads("large_orders")[:5]:
        assert not is_bad
        assert len(json.loads(payload)["items"]) == LARGE_ORDER_ITEMS
    body, _ = next(Bodies("large_orders"))
    assert not isinstance(process(parse_request({}, body, utc_now), datetime.now(UTC)), DeadLetter)
