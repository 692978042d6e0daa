"""The views, compared with the same answers in plain Python."""

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from google.cloud import bigquery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.clients import bigquery_client, storage_client
from functions.reconcile.records import Records
from functions.settings import Settings
from sluice.queries import queries
from sluice.trace import trace
from tests.support.dataset_fixtures import made
from tests.support.shop import Record, Shop, instant, load, once

EVENT_TABLES = ["inventory", "orders", "user_activity"]
STATUSES = ["pending", "processing", "shipped", "delivered"]
FUNNEL = {"view_product": 2, "add_to_cart": 3, "remove_from_cart": 3}


def current(orders: Iterable[Record]) -> dict[str, Record]:
    """The latest state of each order."""
    latest: dict[str, Record] = {}
    for order in sorted(
        orders,
        key=lambda order: (instant(order["order_date"]), STATUSES.index(order["status"]), order["ingest"]["event_id"]),
    ):
        latest[order["order_id"]] = order
    return latest


def stock(changes: Iterable[Record]) -> dict[tuple[str, str], int]:
    levels: Counter[tuple[str, str]] = Counter()
    for change in changes:
        levels[change["product_id"], change["warehouse_id"]] += change["quantity_change"]
    return dict(levels)


def rows_shown(shop: Shop, view: str) -> list[tuple[str, str, str, datetime]]:
    rows = shop.query(f"SELECT event_date, ingest, processed_timestamp FROM {view}")
    return sorted(
        (
            row["event_date"].isoformat(),
            row["ingest"]["event_id"],
            row["ingest"]["message_id"],
            row["processed_timestamp"],
        )
        for row in rows
    )


def expected_rows(records: Iterable[Record]) -> list[tuple[str, str, str, datetime]]:
    return sorted(
        (
            record["event_date"],
            record["ingest"]["event_id"],
            record["ingest"]["message_id"],
            instant(record["processed_timestamp"]),
        )
        for record in once(records)
    )


@pytest.mark.parametrize("table", EVENT_TABLES)
def test_deduplicated_view_has_the_latest_row_of_each_event(shop: Shop, table: str) -> None:
    expected = expected_rows(shop.live[table])
    assert len(expected) < len(shop.live[table])
    assert rows_shown(shop, f"{table}_deduplicated") == expected


@pytest.mark.parametrize("table", EVENT_TABLES)
def test_all_view_has_the_latest_row_of_both_datasets(shop: Shop, table: str) -> None:
    live, historical = expected_rows(shop.live[table]), expected_rows(shop.historical[table])
    expected = expected_rows([*shop.live[table], *shop.historical[table]])
    assert rows_shown(shop, f"{table}_all") == expected
    only_live, only_historical = set(expected).difference(historical), set(expected).difference(live)
    in_both = {row[:2] for row in live} & {row[:2] for row in historical}
    assert in_both & {row[:2] for row in only_live}
    assert in_both & {row[:2] for row in only_historical}
    assert in_both - {row[:2] for row in only_live | only_historical}


def test_orders_current_has_the_latest_state_of_each_order(shop: Shop) -> None:
    latest = shop.query("SELECT order_id, status, total_amount, ingest.event_id AS id FROM orders_current")
    expected = current(once(shop.live["orders"]))
    assert {row["order_id"]: (row["status"], row["id"]) for row in latest} == {
        order_id: (order["status"], order["ingest"]["event_id"]) for order_id, order in expected.items()
    }
    assert len(latest) == len(expected)


def test_stock_levels_are_the_sum_of_all_changes_ever(shop: Shop) -> None:
    changes = once([*shop.live["inventory"], *shop.historical["inventory"]])
    levels = shop.query("SELECT * FROM stock_levels")
    assert {(row["product_id"], row["warehouse_id"]): row["current_stock"] for row in levels} == stock(changes)
    assert sum(row["changes"] for row in levels) == len(changes)
    assert max(row["last_changed_at"] for row in levels) == max(instant(change["timestamp"]) for change in changes)


def test_user_sessions_summarize_each_visit(shop: Shop) -> None:
    visits: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for activity in once(shop.live["user_activity"]):
        visits[activity["event_date"], activity["metadata"]["session_id"], activity["user_id"]].append(activity)
    funnel = {
        (row["event_date"].isoformat(), row["session_id"], row["user_id"]): row
        for row in shop.query("SELECT * FROM user_sessions")
    }
    assert funnel.keys() == visits.keys()
    for key, activities in visits.items():
        activities.sort(key=lambda activity: (instant(activity["timestamp"]), activity["ingest"]["event_id"]))
        kinds = Counter(activity["activity_type"] for activity in activities)
        start, end = (instant(activities[place]["timestamp"]) for place in (0, -1))
        row = funnel[key]
        assert row["duration_seconds"] == pytest.approx((end - start).total_seconds())
        assert (row["started_at"], row["ended_at"], row["events"]) == (start, end, len(activities))
        assert row["platform"] == activities[0]["metadata"]["platform"]
        assert row["is_bot"] == any(activity["is_bot"] for activity in activities)
        assert row["products_viewed"] == kinds["view_product"]
        assert (row["added_to_cart"], row["removed_from_cart"]) == (kinds["add_to_cart"], kinds["remove_from_cart"])
        assert row["funnel_step"] == max(FUNNEL.get(kind, 1) for kind in kinds)
    assert {row["funnel_step"] for row in funnel.values()} == {1, 2, 3}


def test_dead_letter_summary_counts_causes_without_payloads(shop: Shop) -> None:
    causes: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    for letter in shop.dead_letters:
        causes[letter["stage"], letter["fingerprint"], letter["place"]].append(letter)
    summary = shop.query("SELECT * FROM dead_letter_summary")
    assert {(row["stage"], row["cause"], row["place"]) for row in summary} == causes.keys()
    for row in summary:
        letters = causes[row["stage"], row["cause"], row["place"]]
        assert row["events"] == row["open_events"] == len({letter["event_id"] for letter in letters})
        assert row["failed_on"] == shop.now.date()
        assert row["example_event_id"] in {letter["event_id"] for letter in letters}
        firsts = [letter["errors"][0] for letter in letters]
        types = {letter["event_type"] for letter in letters}
        assert row["event_type"] == (None if row["place"] == "$.event_type" else min(types, key=str))
        assert row["rule"] == min(first["rule"] for first in firsts)
        assert not {"payload", "message", "attributes"} & row.keys()


NOW = datetime.now(UTC).replace(microsecond=0)

ORDERS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(STATUSES), st.integers(0, 3)), min_size=1, max_size=6, unique=True
)
CHANGES = st.lists(st.tuples(st.integers(0, 1), st.integers(-100, 100)), min_size=1, max_size=6)


def arrivals(count: int) -> st.SearchStrategy[list[int]]:
    """Positions of events as they arrive: each at least once, in any order, any of them again."""
    again = st.lists(st.integers(0, count - 1), max_size=4)
    return again.flatmap(lambda more: st.permutations([*range(count), *more]))


def ingest(case: str, event: int, arrival: int) -> dict[str, Any]:
    return {
        "event_id": f"{case}-{event}",
        "message_id": f"{case}-{event}-{arrival}",
        "publish_time": NOW.isoformat(),
        "schema_version": 1,
        "archive_uri": f"gs://archive/{arrival}",
        "code_version": "test",
    }


def order_row(case: str, event: int, arrival: int, values: tuple[int, str, int]) -> dict[str, Any]:
    number, status, hours = values
    moment = NOW - timedelta(hours=hours)
    return {
        "event_type": "order",
        "order_id": f"{case}-{number}",
        "customer_id": "c",
        "order_date": moment.isoformat(),
        "status": status,
        "items": [],
        "shipping_address": {"street": "s", "city": "c", "country": "f"},
        "total_amount": event,
        "processed_timestamp": (NOW + timedelta(seconds=arrival)).isoformat(),
        "event_date": moment.date().isoformat(),
        "ingest": ingest(case, event, arrival),
    }


def change_row(case: str, event: int, arrival: int, values: tuple[int, int]) -> dict[str, Any]:
    product, quantity = values
    return {
        "event_type": "inventory",
        "inventory_id": str(event),
        "product_id": f"{case}-{product}",
        "warehouse_id": "w",
        "quantity_change": quantity,
        "reason": "sale",
        "timestamp": NOW.isoformat(),
        "processed_timestamp": (NOW + timedelta(seconds=arrival)).isoformat(),
        "event_date": NOW.date().isoformat(),
        "ingest": ingest(case, event, arrival),
    }


def message_ids(records: Iterable[Record]) -> list[str]:
    return sorted(record["ingest"]["message_id"] for record in records)


def run(client: bigquery.Client, names: Settings, query: str, **given: str) -> None:
    """Run a file of `sql/maintenance`."""
    bound = queries()[query].bind(client.project, names, given)
    client.query_and_wait(bound.sql, job_config=bound.config())


@pytest.fixture(scope="module")
def any_order(shop: Shop) -> Settings:
    """Settings with datasets that are empty at first."""
    return msgspec.structs.replace(shop.settings, dataset="any_order", historical_dataset="any_order_historical")


@pytest.fixture(scope="module")
def empty(any_order: Settings) -> Iterator[bigquery.Client]:
    """A client whose default dataset is empty at first."""
    client = bigquery_client(any_order)
    client.default_query_job_config = bigquery.QueryJobConfig(default_dataset=f"{client.project}.{any_order.dataset}")
    storage_client(any_order).create_bucket(any_order.archive_bucket)
    with made(client, any_order):
        yield client


@given(data=st.data(), orders=ORDERS, changes=CHANGES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_views_do_not_depend_on_order_or_repetition(
    empty: bigquery.Client,
    data: st.DataObject,
    orders: Sequence[tuple[int, str, int]],
    changes: Sequence[tuple[int, int]],
) -> None:
    case = uuid.uuid4().hex
    first_orders = [order_row(case, event, 0, values) for event, values in enumerate(orders)]
    first_changes = [change_row(case, event, 0, values) for event, values in enumerate(changes)]
    order_rows = [
        order_row(case, event, arrival, orders[event])
        for arrival, event in enumerate(data.draw(arrivals(len(orders)), "orders arrive"))
    ]
    change_rows = [
        change_row(case, event, arrival, changes[event])
        for arrival, event in enumerate(data.draw(arrivals(len(changes)), "changes arrive"))
    ]
    load(empty, "any_order.orders", order_rows)
    load(empty, "any_order.inventory", change_rows)
    like = f"LIKE '{case}%'"
    ids = empty.query_and_wait(f"SELECT ingest.event_id AS id FROM orders_deduplicated WHERE order_id {like}")
    assert sorted(row.id for row in ids) == sorted(row["ingest"]["event_id"] for row in first_orders)
    states = empty.query_and_wait(f"SELECT order_id, status, total_amount FROM orders_current WHERE order_id {like}")
    assert {row.order_id: (row.status, row.total_amount) for row in states} == {
        order_id: (order["status"], order["total_amount"]) for order_id, order in current(first_orders).items()
    }
    rows = empty.query_and_wait(f"SELECT * FROM stock_levels WHERE product_id {like}")
    assert {(row.product_id, row.warehouse_id): row.current_stock for row in rows} == stock(first_changes)


def test_latest_row_counts_once_per_event_and_day(
    empty: bigquery.Client,
) -> None:
    case = uuid.uuid4().hex
    yesterday = (NOW - timedelta(days=1)).date().isoformat()

    def row(arrival: int, quantity: int, message_id: str, **changes: Any) -> dict[str, Any]:
        made_row = change_row(case, 0, arrival, (0, quantity))
        return {**made_row, "ingest": {**made_row["ingest"], "message_id": message_id}, **changes}

    first, last = row(1, 5, "z", reason="sale"), row(2, 5, "a", reason="return")
    load(empty, "any_order.inventory", [last, first, row(3, 7, "b", event_date=yesterday)])
    load(empty, "any_order_historical.inventory", [first])
    where = f"WHERE product_id LIKE '{case}%' ORDER BY event_date DESC"
    for view in ("inventory_deduplicated", "inventory_all"):
        rows = empty.query_and_wait(f"SELECT reason, quantity_change FROM {view} {where}")
        assert [(row.reason, row.quantity_change) for row in rows] == [("return", 5), ("sale", 7)], view
    [level] = empty.query_and_wait(f"SELECT * FROM stock_levels WHERE product_id LIKE '{case}%'")
    assert (level.current_stock, level.changes) == (12, 2)


type Change = tuple[int, str, int, bool]
"""One of the rows of an event: its event, its warehouse, its quantity, and whether it is in the historical dataset."""

CORRECTIONS = st.tuples(st.integers(0, 2), st.sampled_from(["w1", "w2"]), st.integers(-100, 100), st.booleans())


@given(changes=st.lists(CORRECTIONS, min_size=2, max_size=8), random=st.randoms(use_true_random=False))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everything_chooses_the_same_row_of_an_event(
    empty: bigquery.Client, any_order: Settings, changes: Sequence[Change], random: Random
) -> None:
    """A later row corrects an earlier one, its warehouse too."""
    case = uuid.uuid4().hex
    live: list[Record] = []
    historical: list[Record] = []
    for arrival, (event, warehouse, quantity, is_historical) in enumerate(changes):
        row = {**change_row(case, event, arrival, (0, quantity)), "warehouse_id": warehouse}
        (historical if is_historical else live).append(row)
    for table, rows in (("any_order.inventory", live), ("any_order_historical.inventory", historical)):
        if rows:
            load(empty, table, random.sample(rows, len(rows)))

    def messages(table: str) -> list[str]:
        rows = empty.query_and_wait(
            f"SELECT ingest.message_id AS id FROM {table} WHERE STARTS_WITH(product_id, '{case}') ORDER BY id"
        )
        return [row.id for row in rows]

    def levels() -> dict[tuple[str, str], int]:
        levels = empty.query_and_wait(f"SELECT * FROM stock_levels WHERE STARTS_WITH(product_id, '{case}')")
        return {(row.product_id, row.warehouse_id): row.current_stock for row in levels}

    chosen_live, chosen = once(live), once([*live, *historical])
    assert messages("inventory_deduplicated") == message_ids(chosen_live)
    assert messages("inventory_all") == message_ids(chosen)
    assert levels() == stock(chosen)
    days = {NOW.date() + timedelta(days=number) for number in (-1, 0, 1)}
    of_objects = Records(empty, any_order, with_columns=True).of_objects(days, "gs://archive/", "gs://archive/~")
    mine = [record for records in of_objects for record in records.each if record.event_id.startswith(case)]
    assert sum(record.is_duplicate for record in mine) == len(mine) - len(chosen_live)
    assert {record.archive_uri for record in mine if not record.is_duplicate} == {
        row["ingest"]["archive_uri"] for row in chosen_live
    }
    shown = {
        row.message_id
        for event in {row["ingest"]["event_id"] for row in chosen}
        for row in trace(event, empty, storage_client(any_order), any_order).rows
        if "any_order.inventory_all" in row.shown_by
    }
    assert sorted(shown) == message_ids(chosen)
    run(empty, any_order, "keep_history", days=str(any_order.retention_days))
    run(empty, any_order, "deduplicate_partition", table="inventory", day=f"{NOW:%Y-%m-%d}")
    assert messages("inventory") == message_ids(chosen_live)
    empty.query_and_wait(f"DELETE FROM inventory WHERE STARTS_WITH(product_id, '{case}')")
    assert messages("inventory_all") == message_ids(chosen), "what expires is in the history, as it was processed last"
    assert levels() == stock(chosen)


def test_greater_event_id_wins_between_equal_times_and_statuses(empty: bigquery.Client) -> None:
    case = uuid.uuid4().hex
    load(empty, "any_order.orders", [order_row(case, event, 9 - event, (0, "shipped", 0)) for event in (1, 0)])
    [state] = empty.query_and_wait(f"SELECT total_amount FROM orders_current WHERE order_id LIKE '{case}%'")
    assert state.total_amount == 1
