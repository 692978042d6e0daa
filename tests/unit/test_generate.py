"""The simulated shop of `sluice.shop.generator` sends consistent events, and spoils only as many as asked."""

import doctest
import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from ipaddress import ip_address, ip_network
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest

import sluice.shop.generator
from sluice.shop.catalog import BOTS, PRODUCTS
from sluice.shop.generator import SPOILS, Event, Generated, generate

ROOT = Path(__file__).parents[2]
START = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
STATUSES = ["pending", "processing", "shipped", "delivered"]
RESERVED = [ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
SCHEMAS = {
    event_type: json.loads((ROOT / "jsonschemas" / f"{event_type}.v1.json").read_text("utf-8"))
    for event_type in ("order", "inventory", "user_activity")
}
CONTRACTS = {
    event_type: jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    for event_type, schema in SCHEMAS.items()
}
REASONS = {
    "cut_off", "not_utf8", "empty_payload", "array", "nan", "huge_quantity", "unknown_event_type",
    "unknown_schema_version", "wrong_enum", "missing_nested_field", "number_as_string",
    "quantity_change_out_of_range", "empty_items", "impossible_date", "too_old", "too_far_ahead",
    "duplicate_keys", "lone_surrogate", "nested_too_deep",
}  # fmt: skip


def messages(count: int, *, seed: int = 1, bad_share: float = 0.0, duplicate_share: float = 0.0) -> list[Generated]:
    story = generate(seed=seed, start=START, bad_share=bad_share, duplicate_share=duplicate_share)
    return list(islice(story, count))


def of_type(events: list[Event], event_type: str) -> Iterator[Event]:
    return (event for event in events if event["event_type"] == event_type)


def time_of(event: Event) -> datetime:
    return datetime.fromisoformat(event.get("order_date") or event["timestamp"])


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return [json.loads(message.data, parse_float=Decimal) for message in messages(30_000)]


@pytest.fixture(scope="module")
def disturbed() -> list[Generated]:
    return messages(30_000, bad_share=0.2, duplicate_share=0.1)


def test_the_example_in_the_docstring_is_true() -> None:
    attempted = doctest.testmod(sluice.shop.generator)
    assert (attempted.attempted, attempted.failed) == (2, 0)


def test_messages_depend_only_on_the_arguments_and_the_seed() -> None:
    once, again = (messages(3000, bad_share=0.2, duplicate_share=0.1) for _ in range(2))
    assert once == again
    assert messages(100, seed=1) != messages(100, seed=2)


def test_another_process_with_another_hash_seed_gives_the_same_bytes(disturbed: list[Generated]) -> None:
    program = (
        "import hashlib, itertools, datetime; from sluice.shop.generator import generate;"
        "start = datetime.datetime(2026, 3, 1, 9, 30, tzinfo=datetime.UTC);"
        "story = generate(seed=1, start=start, bad_share=0.2, duplicate_share=0.1);"
        "print(hashlib.sha256(repr(list(itertools.islice(story, 5000))).encode()).hexdigest())"
    )
    here = hashlib.sha256(repr(disturbed[:5000]).encode()).hexdigest()
    for hash_seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        there = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True
        )
        assert there.stdout.strip() == here


def test_the_good_messages_are_the_same_whatever_the_shares(disturbed: list[Generated]) -> None:
    good = [message for message in disturbed if message.kind == "good"]
    assert good == messages(len(good))


def test_good_events_match_their_contract_without_extra_fields(disturbed: list[Generated]) -> None:
    for message in disturbed:
        if message.kind == "good":
            event = json.loads(message.data)
            CONTRACTS[event["event_type"]].validate(event)
            assert event.keys() == set(SCHEMAS[event["event_type"]]["required"])
            assert message.attributes.keys() == {"event_id"}
            assert message.reason is None


def test_every_event_id_is_a_uuid_and_only_duplicates_repeat_one(disturbed: list[Generated]) -> None:
    ids = [message.attributes["event_id"] for message in disturbed if message.kind != "duplicate"]
    assert len(set(ids)) == len(ids)
    assert all(str(UUID(event_id)) == event_id for event_id in ids)


def test_orders_inventory_and_activity_come_three_to_two_to_five(events: list[Event]) -> None:
    counts = Counter(event["event_type"] for event in events)
    assert counts["order"] / len(events) == pytest.approx(0.3, abs=0.03)
    assert counts["inventory"] / len(events) == pytest.approx(0.2, abs=0.03)
    assert counts["user_activity"] / len(events) == pytest.approx(0.5, abs=0.03)


def test_every_activity_status_and_reason_of_the_data_model_occurs(events: list[Event]) -> None:
    assert {event["status"] for event in of_type(events, "order")} == set(STATUSES)
    assert {event["reason"] for event in of_type(events, "inventory")} == {
        "restock",
        "sale",
        "return",
        "damage",
    }
    assert {event["activity_type"] for event in of_type(events, "user_activity")} == {
        "login", "logout", "view_product", "add_to_cart", "remove_from_cart",
    }  # fmt: skip


def test_events_come_in_order_of_time_from_the_start_on(events: list[Event]) -> None:
    times = [time_of(event) for event in events]
    assert START <= times[0] < START + timedelta(hours=1)
    assert times == sorted(times)


def test_timestamps_are_utc_with_a_z_and_milliseconds(events: list[Event]) -> None:
    pattern = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
    assert all(pattern.fullmatch(event.get("order_date") or event["timestamp"]) for event in events)


@pytest.mark.parametrize("events_per_day", [1000, 3000, 20_000])
def test_a_simulated_day_has_about_as_many_events_as_asked_for(events_per_day: int) -> None:
    count = 8 * events_per_day
    first_day_is_over = islice(generate(seed=3, start=START, events_per_day=events_per_day), 2 * events_per_day, count)
    times = [time_of(json.loads(message.data)) for message in first_day_is_over]
    assert (times[-1] - times[0]) / timedelta(days=1) == pytest.approx(6, rel=0.15)


def test_the_start_may_be_in_any_time_zone() -> None:
    abroad = START.astimezone(datetime.fromisoformat("2026-01-01T00:00+05:30").tzinfo)
    assert list(islice(generate(seed=1, start=abroad), 50)) == messages(50)


def test_each_order_has_its_statuses_in_order(
    events: list[Event],
) -> None:
    events_of_order: defaultdict[str, list[Event]] = defaultdict(list)
    for event in of_type(events, "order"):
        events_of_order[event["order_id"]].append(event)
    for steps in events_of_order.values():
        assert [step["status"] for step in steps] == STATUSES[: len(steps)]
        assert all(earlier["order_date"] < later["order_date"] for earlier, later in pairwise(steps))
        assert len({json.dumps([s["customer_id"], s["items"], s["shipping_address"]], default=str) for s in steps}) == 1
    assert {len(steps) for steps in events_of_order.values()} == {1, 2, 3, 4}


def test_totals_are_the_exact_sums_of_their_lines_in_cents(events: list[Event]) -> None:
    prices = {product.id: product.price for product in PRODUCTS}
    for event in of_type(events, "order"):
        assert event["total_amount"] == sum(item["quantity"] * item["price"] for item in event["items"])
        assert event["total_amount"] == event["total_amount"].quantize(Decimal("0.01"))
        assert all(item["price"] == prices[item["product_id"]] for item in event["items"])


def test_the_stock_of_a_product_in_a_warehouse_never_goes_negative(events: list[Event]) -> None:
    stock: Counter[tuple[str, str]] = Counter()
    for event in of_type(events, "inventory"):
        shelf = event["product_id"], event["warehouse_id"]
        stock[shelf] += event["quantity_change"]
        assert stock[shelf] >= 0, event
        assert (event["quantity_change"] < 0) == (event["reason"] in {"sale", "damage"})


def test_sales_match_orders_and_large_lines_are_split(events: list[Event]) -> None:
    ordered: Counter[str] = Counter()
    for event in of_type(events, "order"):
        ordered[event["status"]] += sum(item["quantity"] for item in event["items"])
    sales = [-event["quantity_change"] for event in of_type(events, "inventory") if event["reason"] == "sale"]
    assert ordered["shipped"] <= sum(sales) <= ordered["processing"]
    assert max(sales) == 100
    assert any(item["quantity"] > 100 for event in of_type(events, "order") for item in event["items"])


def test_customers_keep_their_id_and_device(events: list[Event]) -> None:
    devices: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for event in of_type(events, "user_activity"):
        devices[event["user_id"]].add((event["ip_address"], event["user_agent"], event["metadata"]["platform"]))
    assert all(len(device) == 1 for device in devices.values())
    assert {event["customer_id"] for event in of_type(events, "order")} <= devices.keys()


def test_visits_begin_with_a_login_and_interleave(events: list[Event]) -> None:
    bots = {bot.user_agent for bot in BOTS}
    visits: defaultdict[str, list[Event]] = defaultdict(list)
    resumed, latest = 0, ""
    for event in of_type(events, "user_activity"):
        session = event["metadata"]["session_id"]
        resumed += session in visits and session != latest
        visits[session].append(event)
        latest = session
    assert resumed > 1000
    for visit in visits.values():
        did = [event["activity_type"] for event in visit]
        if visit[0]["user_agent"] in bots:
            assert set(did) == {"view_product"}
        else:
            assert did[0] == "login"
            assert "login" not in did[1:]
            assert "logout" not in did[:-1]
    crawled = sum(visit[0]["user_agent"] in bots for visit in visits.values())
    assert 0.005 < crawled / len(visits) < 0.05


def test_addresses_are_canonical_and_from_documentation_ranges(
    events: list[Event],
) -> None:
    addresses = {event["ip_address"] for event in of_type(events, "user_activity")}
    parsed = [ip_address(address) for address in addresses]
    assert all(any(address in network for network in RESERVED) for address in parsed)
    assert {str(address) for address in parsed} == addresses
    assert 0.5 < sum(address.version == 4 for address in parsed) / len(parsed) < 0.9


def test_the_shares_are_met(disturbed: list[Generated]) -> None:
    kinds = Counter(message.kind for message in disturbed)
    assert kinds["bad"] / len(disturbed) == pytest.approx(0.2, abs=0.01)
    assert kinds["duplicate"] / len(disturbed) == pytest.approx(0.1, abs=0.01)
    assert {message.kind for message in messages(1000)} == {"good"}


def test_duplicate_repeats_a_recent_good_message(disturbed: list[Generated]) -> None:
    recent: list[Generated] = []
    for message in disturbed:
        if message.kind == "good":
            recent.append(message)
        elif message.kind == "duplicate":
            assert replace(message, kind="good") in recent[-50:]


def test_every_kind_of_badness_occurs(disturbed: list[Generated]) -> None:
    assert {reason for spoils in SPOILS.values() for reason in spoils} == REASONS
    assert {message.reason for message in disturbed if message.kind == "bad"} == REASONS


def test_a_strict_reader_accepts_every_good_message_and_no_bad_one(disturbed: list[Generated]) -> None:
    now = START
    for message in disturbed:
        if message.kind == "good":
            now = time_of(read_strictly(message, now))
        elif message.kind == "bad":
            with pytest.raises((ValueError, KeyError, TypeError)):
                read_strictly(message, now)


def read_strictly(message: Generated, now: datetime) -> Event:
    """Read a message as a careful consumer at `now` does; raise for all that it would reject."""

    def no_constants(name: str) -> None:
        raise ValueError(name)

    def no_repetition(pairs: list[tuple[str, Any]]) -> Event:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key comes twice")
        return dict(pairs)

    if message.attributes.get("schema_version", "1") != "1" or b"[" * 100 in message.data:
        raise ValueError("unknown version, or nested too deep")
    event: Event = json.loads(message.data.decode(), parse_constant=no_constants, object_pairs_hook=no_repetition)
    json.dumps(event, ensure_ascii=False).encode()
    CONTRACTS[event["event_type"]].validate(event)
    if not timedelta(days=-90) < time_of(event) - now < timedelta(days=1):
        raise ValueError("out of the bounds of time")
    return event


@pytest.mark.parametrize(
    "make",
    [
        partial(generate, seed=1, start=START.replace(tzinfo=None)),
        partial(generate, seed=1, start=START, bad_share=-0.1),
        partial(generate, seed=1, start=START, bad_share=0.5, duplicate_share=0.5),
        partial(generate, seed=1, start=START, events_per_day=0),
    ],
)
def test_invalid_arguments_are_rejected_immediately(make: partial[Iterator[Generated]]) -> None:
    with pytest.raises(ValueError, match="must"):
        make()
