"""The events that are sent are what Pub/Sub would send, in the mix that the benchmark says."""

import collections
import json
from datetime import UTC, datetime

from benchmarks.events import LARGE_ORDER_ITEMS, Bodies, payloads
from functions.contracts import Contracts
from functions.dead_letter import DeadLetter
from functions.message import receive
from functions.privacy import Privacy
from functions.process import Process

process = Process(Contracts.load(), Privacy(), 90, "tests")


def test_each_push_has_ids_of_its_own_and_becomes_what_it_is_said_to_become() -> None:
    bodies = Bodies("mixed")
    ids: set[str] = set()
    types: collections.Counter[str | None] = collections.Counter()
    letters = 0
    for body, is_bad in (next(bodies) for _ in range(2_000)):
        message = receive({}, body)
        ids |= {message.event_id, message.message_id}
        assert message.event_id != message.message_id
        outcome = process(message, datetime.now(UTC))
        assert isinstance(outcome, DeadLetter) is is_bad, outcome
        letters += is_bad
        types[outcome.event_type] += 1
    assert len(ids) == 4_000
    assert 5 < letters < 50
    assert 500 < types["order"] < 700
    assert 300 < types["inventory"] < 500
    assert 900 < types["user_activity"] < 1_100


def test_a_large_order_is_valid_and_large() -> None:
    for payload, is_bad in payloads("large_orders", 5):
        assert not is_bad
        assert len(json.loads(payload)["items"]) == LARGE_ORDER_ITEMS
    body, _ = next(Bodies("large_orders"))
    assert not isinstance(process(receive({}, body), datetime.now(UTC)), DeadLetter)
