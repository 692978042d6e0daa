"""The whole way over HTTP: the real functions-framework, the real clients, the emulators."""

import concurrent.futures
import json
import pathlib
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from sluice import checkout
from sluice.local.functions import serving
from sluice.local.stack import Emulators, Stack
from tests.support.deployed_stack import Warehouse
from tests.support.push_requests import NOW, encode, event, post, wrapped
from tests.support.waiting import PATIENCE, wait_until

VERSION = checkout.commit() or "sluice-local-ingest-00001-loc"
"""Version of the code that the function runs, which was read before anybody changed a file."""


def test_acknowledged_order_is_in_the_table_and_the_archive(stack: Stack, warehouse: Warehouse) -> None:
    payload = encode(event("order", gift=True))
    event_id, answer = post(stack, payload)
    assert (answer.status_code, answer.content) == (204, b"")
    [row] = warehouse.query(f"SELECT * FROM `{{dataset}}.orders` WHERE ingest.event_id = '{event_id}'")
    assert row.items_total == row.total_amount
    assert (row.event_date, row.item_count, row.extras) == (NOW.date(), 3, {"gift": True})
    assert row.shipping_address == {"street": "1 Rue de l'Abbaye", "city": "Reims", "country": "France"}
    assert [item["quantity"] for item in row["items"]] == [2, 1]
    assert row.ingest["archive_uri"].startswith(f"gs://{stack.settings.archive_bucket}/raw/dt=")
    assert warehouse.archived()[event_id] == [payload]


@pytest.mark.parametrize("form", ["wrapped", "cloud event", "unwrapped"])
def test_every_form_of_delivery_is_taken(stack: Stack, warehouse: Warehouse, form: str) -> None:
    event_id = str(uuid.uuid4())
    payload = event("inventory")
    match form:
        case "wrapped":
            answer = httpx.post(stack.ingest.url, json=wrapped(payload, event_id))
        case "cloud event":
            headers = {
                "ce-id": "1",
                "ce-source": "//pubsub.googleapis.com/projects/p/topics/t",
                "ce-specversion": "1.0",
                "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
            }
            answer = httpx.post(stack.ingest.url, json=wrapped(payload, event_id), headers=headers)
        case _:
            headers = {
                "x-goog-pubsub-message-id": "1",
                "x-goog-pubsub-publish-time": NOW.isoformat(),
                "x-goog-pubsub-subscription-name": "projects/p/subscriptions/s",
                "event_id": event_id,
            }
            answer = httpx.post(stack.ingest.url, content=encode(payload), headers=headers)
    assert answer.status_code == 204
    [row] = warehouse.query(f"SELECT reason FROM `{{dataset}}.inventory` WHERE ingest.event_id = '{event_id}'")
    assert row.reason == "sale"


@pytest.mark.parametrize("body", [b"", b"hello", b"{}", b"\xff", b'{"message": {"data": "e30="}}'])
def test_invalid_push_gets_400_and_a_warning_without_the_body(
    stack: Stack, logs: Callable[[], str], body: bytes
) -> None:
    trace = uuid.uuid4().hex
    answer = httpx.post(stack.ingest.url, content=body, headers={"x-cloud-trace-context": f"{trace}/1;o=1"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("not a Pub/Sub push")
    entries = [json.loads(line) for line in logs().splitlines()]
    [entry] = [entry for entry in entries if entry.get("logging.googleapis.com/trace", "").endswith(trace)]
    assert (entry["severity"], entry["message"]) == ("WARNING", answer.json()["error"])


ORDER = json.dumps(event("order"))
BAD: dict[str, tuple[bytes | dict[str, Any], str, str, str]] = {
    "not JSON": (b'{"event_type": "order", ', "decode", "$", "json"),
    "not UTF-8": (b'{"event_type": "\xff"}', "decode", "$", "utf-8"),
    "empty": (b"", "decode", "$", "json"),
    "an array": (b"[1, 2]", "decode", "$", "type"),
    "10 MB": (b'{"event_type": "' + b"x" * 10_000_000 + b'"}', "decode", "$", "maxBytes"),
    "2 MB": (b'{"event_type": "' + b"x" * 2_000_000 + b'"}', "contract", "$.event_type", "enum"),
    "nested 2 000 deep": (b'{"a": ' * 2000 + b"1" + b"}" * 2000, "decode", "$", "maxDepth"),
    "NaN": (ORDER.replace("24.98", "NaN").encode(), "decode", "$", "json"),
    "10**30": (event("inventory", quantity_change=10**30), "contract", "$.quantity_change", "maximum"),
    "a lone surrogate": (ORDER.replace("Tea", "\\ud800").encode(), "decode", "$", "json"),
    "duplicate keys": (b'{"event_type": "order", "event_type": "order"}', "decode", "$.event_type", "uniqueKeys"),
    "a wrong enum": (event("order", status="lost"), "contract", "$.status", "enum"),
    "a missing nested field": (
        event("user_activity", metadata={"session_id": "s"}),
        "contract",
        "$.metadata.platform",
        "required",
    ),
    "a date that does not exist": (
        event("order", order_date="2026-02-30T00:00:00Z"),
        "contract",
        "$.order_date",
        "format",
    ),
    "91 days old": (
        event("order", order_date=(NOW - timedelta(days=91)).isoformat()),
        "time_bounds",
        "$.order_date",
        "minimum",
    ),
    "two days ahead": (
        event("order", order_date=(NOW + timedelta(days=2)).isoformat()),
        "time_bounds",
        "$.order_date",
        "maximum",
    ),
    "an unknown type": (b'{"event_type": "teleport"}', "contract", "$.event_type", "enum"),
    "an unknown version": (event("order"), "contract", "attributes.schema_version", "enum"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_event_is_acknowledged_as_a_dead_letter(stack: Stack, warehouse: Warehouse, name: str) -> None:
    payload, stage, path, rule = BAD[name]
    attributes = {"schema_version": "99"} if name == "an unknown version" else {}
    event_id, answer = post(stack, payload, **attributes)
    assert answer.status_code == 204, answer.text
    [letter] = warehouse.query(f"SELECT * FROM `{{dataset}}.dead_letters` WHERE event_id = '{event_id}'")
    assert (letter.stage, letter.errors[0]["path"], letter.errors[0]["rule"]) == (stage, path, rule)
    assert letter.errors[0]["message"]
    data = encode(payload)
    assert (letter.payload, letter.payload_bytes) == (None if name == "10 MB" else data, len(data))
    assert letter.attributes == {"event_id": event_id, **attributes}
    assert warehouse.archived()[event_id] == [data]


def test_get_answers_with_the_commit_of_the_checkout(stack: Stack) -> None:
    answer = httpx.get(stack.ingest.url, timeout=PATIENCE)
    assert answer.status_code == 200
    assert answer.text == f"Sluice ingest, code version {VERSION}, takes messages by POST\n"


def test_bad_events_among_good_ones_fail_nothing_else(stack: Stack, warehouse: Warehouse) -> None:
    payloads = [event("order", status="lost") if index % 5 == 0 else event("order") for index in range(60)]
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda payload: post(stack, payload), payloads))
    assert {answer.status_code for _, answer in answers} == {204}
    accounts = warehouse.accounts()
    ids = [event_id for event_id, _ in answers]
    assert set(ids[::5]) <= accounts.dead
    assert set(ids) - set(ids[::5]) <= accounts.accepted


def test_the_log_has_a_line_for_each_flush_and_nothing_of_any_payload(
    stack: Stack, warehouse: Warehouse, logs: Callable[[], str]
) -> None:
    before = len(logs().splitlines())
    secret = uuid.uuid4().hex
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda _: post(stack, event("order", customer_id=secret)), range(40)))
    post(stack, event("order", status=secret))

    def entries() -> list[dict[str, Any]]:
        return [json.loads(line) for line in logs().splitlines()[before:]]

    def flushes() -> list[dict[str, Any]]:
        return [entry for entry in entries() if entry["message"] == "flush"]

    # A line is written just after the answer.
    wait_until(lambda: sum(entry["events"] for entry in flushes()) == 41, "each event is in the line of a flush", logs)
    assert len(flushes()) == len(entries()) < 41
    assert all({"severity", "message", "time"} <= entry.keys() for entry in entries())
    assert secret not in "".join(logs().splitlines()[before:])
    archived = {uri for entry in flushes() if (uri := entry["archive_uri"])}
    assert archived <= {
        row.archive_uri for row in warehouse.query("SELECT DISTINCT ingest.archive_uri FROM `{dataset}.orders`")
    } | {row.archive_uri for row in warehouse.query("SELECT DISTINCT archive_uri FROM `{dataset}.dead_letters`")}


def test_row_rejected_by_bigquery_is_a_dead_letter_of_its_stage(stack: Stack, warehouse: Warehouse) -> None:
    table = f"{warehouse.dataset}.inventory"
    warehouse.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
    warehouse.client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN extras INT64")
    try:
        event_id, answer = post(stack, event("inventory", unknown=1))
    finally:
        warehouse.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
        warehouse.client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN extras JSON")
    assert answer.status_code == 204
    [letter] = warehouse.query(f"SELECT * FROM `{{dataset}}.dead_letters` WHERE event_id = '{event_id}'")
    error = letter.errors[0]
    assert (letter.stage, error["path"], error["rule"]) == ("warehouse", "$.extras", "invalid")


def test_event_for_a_missing_column_is_redelivered(stack: Stack, warehouse: Warehouse) -> None:
    table = f"{warehouse.dataset}.user_activity"
    warehouse.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
    event_id = str(uuid.uuid4())
    body = wrapped(event("user_activity", unknown=1), event_id)
    try:
        answer = httpx.post(stack.ingest.url, json=body, timeout=PATIENCE)
    finally:
        warehouse.client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN extras JSON")
    assert (answer.status_code, answer.json()["error"]) == (503, "user_activity lacks a column: extras")
    assert event_id not in warehouse.accounts().dead
    assert httpx.post(stack.ingest.url, json=body, timeout=PATIENCE).status_code == 204
    assert event_id in warehouse.accounts().accepted


def test_beyond_its_limit_the_function_sends_requests_away_with_429(
    running_emulators: Emulators, stack: Stack, tmp_path: pathlib.Path
) -> None:
    environment = {
        **running_emulators.environment,
        "ARCHIVE_BUCKET": stack.settings.archive_bucket,
        "DATASET": stack.settings.dataset,
        "MAX_IN_FLIGHT": "1",
    }

    with serving("ingest", tmp_path, environment, "ingest") as small:

        def send(_: int) -> int:
            return httpx.post(small.url, json=wrapped(event("order"), str(uuid.uuid4())), timeout=PATIENCE).status_code

        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            answers = set(pool.map(send, range(60)))
        assert answers == {204, 429}


def test_event_is_retried_while_its_table_is_missing(stack: Stack, warehouse: Warehouse) -> None:
    table = f"{warehouse.dataset}.user_activity"
    warehouse.client.query_and_wait(f"ALTER TABLE `{table}` RENAME TO user_activity_away")
    event_id = str(uuid.uuid4())
    try:
        answer = httpx.post(stack.ingest.url, json=wrapped(event("user_activity"), event_id), timeout=PATIENCE)
        assert answer.status_code == 503
    finally:
        warehouse.client.query_and_wait(f"ALTER TABLE `{table}_away` RENAME TO user_activity")
    assert httpx.post(stack.ingest.url, json=wrapped(event("user_activity"), event_id)).status_code == 204
    assert event_id in warehouse.accounts().accepted - warehouse.accounts().dead
