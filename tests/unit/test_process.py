"""A message becomes exactly one row or dead letter, and a dead letter says what is wrong and where."""

import copy
import dataclasses
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from functions.core import json_path
from functions.core.contracts import FOLDER, Contracts
from functions.core.dead_letters import DeadLetter, Stage, Violation
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy
from functions.core.rows import Row
from functions.events import EventType, event_types
from functions.settings import InvalidSettings
from tests.support.outcomes import dead, row
from tests.support.samples import EVENTS, NOW, event, message, process
from tests.support.settings import settings

TYPES = sorted(EVENTS)
THERE_ARE = ", ".join(sorted(event_types()))


def first_error(letter: DeadLetter) -> tuple[str, str, str]:
    return letter.stage, letter.errors[0].path, letter.errors[0].rule


# Rows


def test_an_order_becomes_a_row_of_orders_with_its_units_and_worth() -> None:
    order = row(event("order"))
    assert order.table == "orders"
    assert order.record("gs://a/b") == {
        "event_type": "order",
        "order_id": "o-1",
        "customer_id": "c-1",
        "order_date": "2026-11-23T11:59:58.123000Z",
        "status": "pending",
        "items": [
            {"product_id": "p-1", "product_name": "Tea", "quantity": 2, "price": "9.990000000"},
            {"product_id": "p-2", "product_name": "Cup", "quantity": 1, "price": "5.000000000"},
        ],
        "shipping_address": {"street": "1 Rue de l'Abbaye", "city": "Reims", "country": "France"},
        "total_amount": "24.980000000",
        "item_count": 3,
        "items_total": "24.980000000",
        "extras": None,
        "processed_timestamp": "2026-11-23T12:00:00Z",
        "event_date": "2026-11-23",
        "ingest": {
            "event_id": "e-1",
            "message_id": "m-1",
            "publish_time": "2026-11-23T12:00:00+00:00",
            "schema_version": 1,
            "archive_uri": "gs://a/b",
            "code_version": "tests",
            "content_digest": order.content_digest,
        },
    }


def digest(payload: dict[str, Any] | bytes, by: EventPipeline = process, **attributes: str) -> str:
    outcome = by(message(payload, **attributes), NOW)
    assert isinstance(outcome, Row), outcome
    assert outcome.insert_id == outcome.content_digest == outcome.record("gs://a/b")["ingest"]["content_digest"]
    return outcome.insert_id


def test_the_digest_does_not_depend_on_how_the_content_is_spelled() -> None:
    order = event("order", gift=True)
    for spelled in (
        json.dumps(order, indent=2).encode(),
        json.dumps(dict(reversed(order.items()))).encode(),
        event("order", gift=True, order_date="2026-11-23T13:59:58.123000+02:00", total_amount=24.98000),
    ):
        assert digest(spelled) == digest(order)


def test_the_digest_does_not_depend_on_how_unknown_fields_are_spelled() -> None:
    unknown = {"b": {"y": 1, "x": [2, 0.5]}, "a": 10}
    order = event("order", **unknown)
    order["shipping_address"] |= {"z": 1, "y": 2}
    reordered = event("order", a=10, b={"x": [2, 0.5], "y": 1})
    reordered["shipping_address"] |= {"y": 2, "z": 1}
    other_numbers = json.dumps(reordered).replace('"a": 10', '"a": 1e1').replace('"y": 1', '"y": 1.0').encode()
    assert digest(order) == digest(reordered) == digest(other_numbers)


def test_the_digest_depends_on_the_event_id_and_each_producers_field() -> None:
    order = event("order")
    others = [event("order", status="shipped"), event("order", gift=True), event("order", order_id="o-2")]
    other_id = digest(order, event_id="another")
    assert len({digest(order), other_id, *map(digest, others)}) == 5


def test_the_digest_is_the_same_in_all_versions_of_the_code() -> None:
    """It is compared with those of rows that are in the tables already."""
    assert digest(event("inventory"), event_id="e-1") == "2ca7980b8f33527663114620"
    assert digest(event("inventory", more=[1]), event_id="e-1") == "07349918d83e4a20f51620b9"


def test_the_digest_does_not_reveal_an_address_that_the_policy_hides() -> None:
    activities = [event("user_activity", ip_address=address) for address in ("203.0.113.77", "198.51.100.1")]
    hashing = dataclasses.replace(process, privacy=Privacy("hash", "key"), code_version="other")
    assert len({digest(activity, by) for activity in activities for by in (process, hashing)}) == 1


def test_insert_id_has_at_most_128_characters() -> None:
    event_id = "\N{ROBOT FACE}" * 128
    assert len(digest(event("order"), event_id=event_id).encode()) <= 128
    contents = [dead(payload, event_id=event_id).insert_id for payload in (b"{", b"[", b"[")]
    assert contents[0] != contents[1] == contents[2]
    assert len(contents[0].encode()) <= 128


def test_an_inventory_change_becomes_a_row_of_inventory() -> None:
    change = row(event("inventory"))
    assert change.table == "inventory"
    assert (change.columns["quantity_change"], change.columns["event_date"]) == (-2, "2026-11-23")


def test_user_activity_has_browser_os_device_and_is_bot() -> None:
    columns = row(event("user_activity")).columns
    assert {name: columns[name] for name in ("browser", "os", "device", "is_bot")} == {
        "browser": "Mobile Safari",
        "os": "iOS",
        "device": "iPhone",
        "is_bot": False,
    }


def test_crawler_is_a_bot_and_an_empty_agent_has_no_browser() -> None:
    crawler = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    assert row(event("user_activity", user_agent=crawler)).columns["is_bot"] is True
    columns = row(event("user_activity", user_agent="")).columns
    assert [columns[name] for name in ("browser", "os", "device", "is_bot")] == [None, None, None, False]


def test_first_512_characters_of_a_user_agent_are_parsed() -> None:
    """Others would take milliseconds: the parser's time grows with the square of the length."""
    people = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
    long = f"{people:512}" + "bot " * 300
    columns = row(event("user_activity", user_agent=long)).columns
    assert (columns["user_agent"], columns["browser"], columns["is_bot"]) == (long, "Chrome", False)


def test_the_date_of_an_event_is_the_utc_date_of_its_own_time() -> None:
    columns = row(event("inventory", timestamp="2026-11-22T23:30:00-02:00")).columns
    assert (columns["timestamp"], columns["event_date"]) == ("2026-11-23T01:30:00Z", "2026-11-23")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026-11-23T11:00:00.123456789Z", "2026-11-23T11:00:00.123456Z"),
        ("2026-11-23t11:00:00z", "2026-11-23T11:00:00Z"),
        ("2026-11-23T11:00:00-00:00", "2026-11-23T11:00:00Z"),
    ],
)
def test_any_rfc_3339_time_is_read_to_the_microsecond(written: str, read: str) -> None:
    assert row(event("inventory", timestamp=written)).columns["timestamp"] == read


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("0.1", "0.100000000"),
        ("123456789012.123456789", "123456789012.123456789"),
        ("30.000000000000004", "30.000000000"),
        ("0.0000015", "0.000001500"),
        ("0.0000000005", "1E-9"),
        ("0.00", "0"),
        ("1e3", "1000.000000000"),
        ("7", "7.000000000"),
    ],
)
def test_money_is_exact_to_nine_decimals_and_rounded_as_bigquery_does(written: str, stored: str) -> None:
    payload = json.dumps(event("order")).replace("24.98", written).encode()
    assert row(payload).columns["total_amount"] == stored


@pytest.mark.parametrize(
    ("written", "count"),
    [("30.123456789", 0), ("30.1234567890", 0), ("30.000000000000004", 0), ("30.1234567891", 1), ("0.0000000005", 1)],
)
def test_rounded_number_is_counted_but_not_the_error_of_a_float(written: str, count: int) -> None:
    order = event("order", total_amount="T")
    order["items"][1]["price"] = "P"
    payload = json.dumps(order).replace('"T"', written).replace('"P"', "0.12345678912").encode()
    assert row(payload).rounded_numbers == count + 1


def test_a_whole_number_written_with_a_fraction_is_an_integer() -> None:
    assert row(event("inventory", quantity_change=3.0)).columns["quantity_change"] == 3


def test_unknown_fields_are_kept_under_their_path_and_counted() -> None:
    order = event("order", coupon="X", note=None)
    order["items"][1]["color"] = {"name": "red", "rgb": [255, 0, 0]}
    order["shipping_address"]["zip"] = "51100"
    outcome = row(order)
    assert outcome.unknown_fields == 4
    assert json.loads(outcome.columns["extras"]) == {
        "coupon": "X",
        "note": None,
        "items[1].color": {"name": "red", "rgb": [255, 0, 0]},
        "shipping_address.zip": "51100",
    }
    assert outcome.columns["items"][1].keys() == {"product_id", "product_name", "quantity", "price"}


def test_unknown_fields_named_like_paths_are_kept_apart() -> None:
    order = event("order", **{"shipping_address.zip": "top", "items[0].sku": "top", "it's": 1, "0": 2})
    order["shipping_address"]["zip"] = "nested"
    order["items"][0]["sku"] = "nested"
    assert json.loads(row(order).columns["extras"]) == {
        "['shipping_address.zip']": "top",
        "['items[0].sku']": "top",
        "['it\\'s']": 1,
        "['0']": 2,
        "shipping_address.zip": "nested",
        "items[0].sku": "nested",
    }


def test_unknown_numbers_out_of_the_json_range_are_kept_as_text() -> None:
    payload = b'{"a": 0.1234567890123456789, "b": 1e999, "c": 18446744073709551616, "d": 0.5,'
    payload += b' "e": [18446744073709551615, -9223372036854775808]}'
    change = json.dumps(event("inventory"))[:-1].encode() + b', "more": ' + payload + b"}"
    assert json.loads(row(change).columns["extras"]) == {
        "more": {
            "a": "0.1234567890123456789",
            "b": "1E+999",
            "c": "18446744073709551616",
            "d": 0.5,
            "e": [18446744073709551615, -9223372036854775808],
        }
    }


def test_an_unknown_field_never_takes_the_place_of_a_column_of_ours() -> None:
    outcome = row(event("inventory", event_date="1970-01-01", ingest={}, extras="x", processed_timestamp="never"))
    assert outcome.columns["event_date"] == "2026-11-23"
    assert outcome.record("gs://a/b")["ingest"]["event_id"] == "e-1"
    assert outcome.unknown_fields == 4


def test_the_version_asked_for_is_the_version_checked_against() -> None:
    assert row(event("order"), schema_version="1").schema_version == 1


@pytest.mark.parametrize(
    ("policy", "address", "shown"),
    [
        ("keep", "203.0.113.77", "203.0.113.77"),
        ("truncate", "203.0.113.77", "203.0.113.0"),
        ("truncate", "2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("truncate", "::1", "::"),
    ],
)
def test_addresses_are_shown_as_the_policy_allows(policy: str, address: str, shown: str) -> None:
    private = EventPipeline(process.contracts, Privacy(policy), 90, "tests")
    outcome = private(message(event("user_activity", ip_address=address)), NOW)
    assert isinstance(outcome, Row)
    assert outcome.columns["ip_address"] == shown


def test_hashed_address_depends_on_the_address_and_the_key_only() -> None:
    privacy, other = Privacy("hash", "k" * 16), Privacy("hash", "l" * 16)
    assert privacy.treat("2001:db8::1") == privacy.treat("2001:0DB8:0:0::1") != other.treat("2001:db8::1")
    assert privacy.treat("::ffff:203.0.113.7") == privacy.treat("203.0.113.7")
    assert len(privacy.treat("203.0.113.7")) == 64


def test_settings_have_the_policy_and_its_key() -> None:
    assert Privacy.from_settings(settings(ip_policy="truncate")) == Privacy("truncate")
    assert Privacy.from_settings(settings(ip_policy="hash", ip_hash_key="k" * 16)) == Privacy("hash", "k" * 16)
    with pytest.raises(InvalidSettings, match="IP_HASH_KEY"):
        Privacy.from_settings(settings(ip_policy="hash"))


@pytest.mark.parametrize(
    "address",
    [
        "::ffff:203.0.113.77",  # IPv4-mapped, RFC 4291
        "::203.0.113.77",  # IPv4-compatible, RFC 4291
        "::ffff:0:203.0.113.77",  # IPv4-translated, RFC 7915
        "64:ff9b::cb00:714d",  # NAT64, RFC 6052
        "2002:cb00:714d::1",  # 6to4, RFC 3056
        "2001:0:4136:e378:8000:63bf:34ff:8eb2",  # Teredo, RFC 4380: the client's address is inverted
    ],
)
def test_ipv4_mapped_address_is_treated_as_ipv4(address: str) -> None:
    assert Privacy("truncate").treat(address) == "203.0.113.0"
    assert Privacy("hash", "k" * 16).treat(address) == Privacy("hash", "k" * 16).treat("203.0.113.77")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"activity_type": "x"},
            '"x" is not one of "login", "logout", "view_product", "add_to_cart", "remove_from_cart"',
        ),
        ({"ip_address": "1.2.3"}, '"1.2.3" is not a "ipv4"; and "1.2.3" is not a "ipv6"'),
        ({"user_id": "x" * 999}, f'"{"x" * 98}… is longer than 128 characters'),
    ],
    ids=["enum", "anyOf", "long"],
)
def test_error_message_names_the_allowed_values(changes: dict[str, Any], says: str) -> None:
    assert [error.message for error in dead(event("user_activity", **changes)).errors] == [says]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("user_agent", "$.user_agent"),
        ("user-agent", "$['user-agent']"),
        ("it's", "$['it\\'s']"),
        ("a\nb\x00", "$['a\\nb\\u0000']"),
        ("\\", "$['\\\\']"),
    ],
)
def test_path_follows_rfc_9535(name: str, path: str) -> None:
    assert json_path.from_root([name]) == path


# Dead letters


ORDER = json.dumps(EVENTS["order"])


@pytest.mark.parametrize(
    ("payload", "stage", "path", "rule", "said"),
    [
        (b"", "decode", "$", "json", "empty"),
        (b'{"event_type": "order"', "decode", "$", "json", "char 22"),
        (b"order 17", "decode", "$", "json", "line 1 column 1"),
        (b'{"a": "\xff"}', "decode", "$", "utf-8", "byte 7 (0xff)"),
        (b"[1]", "decode", "$", "type", "an array"),
        (b"null", "decode", "$", "type", "null"),
        (b'"order"', "decode", "$", "type", "a string"),
        (b"1.5", "decode", "$", "type", "a number"),
        (b"true", "decode", "$", "type", "a boolean"),
        (ORDER.replace("24.98", "NaN").encode(), "decode", "$", "json", "NaN is not JSON"),
        (ORDER.replace("24.98", "-Infinity").encode(), "decode", "$", "json", "-Infinity is not JSON"),
        (ORDER.replace("Tea", "\\ud800").encode(), "decode", "$", "json", "surrogate"),
        (ORDER.replace("24.98", "1e99999999999999999999").encode(), "decode", "$", "number", "exponent"),
        (ORDER.replace("24.98", "9" * 5000).encode(), "decode", "$", "number", "integer"),
        (b'{"a": ' * 2000 + b"1" + b"}" * 2000, "decode", "$", "maxDepth", "100 levels"),
        (b"[" * 100_000, "decode", "$", "maxDepth", "100 levels"),
        (
            ORDER.replace('"o-1"', '"o-1", "order_id": "o-2"').encode(),
            "decode",
            "$.order_id",
            "uniqueKeys",
            "$.order_id is a duplicate key",
        ),
        (
            ORDER.replace('"Tea"', '"Tea" , "price" : 1').encode(),
            "decode",
            "$.items[0].price",
            "uniqueKeys",
            "$.items[0].price is a duplicate key",
        ),
        (b"x" * (2 * 2**20 + 1), "decode", "$", "maxBytes", "2097153 bytes"),
        (b'{"a": [' + b"1," * 60_000 + b"1]}", "decode", "$", "maxValues", "50000"),
        (b'{"a": [' + b"[[[1]]]," * 15_000 + b"1]}", "decode", "$", "maxValues", "50000"),
        (b"{}", "contract", "$.event_type", "required", THERE_ARE),
        (b'{"event_type": 1}', "contract", "$.event_type", "type", THERE_ARE),
        (b'{"event_type": "teleport"}', "contract", "$.event_type", "enum", THERE_ARE),
        (event("order", status="lost"), "contract", "$.status", "enum", '"lost"'),
        (event("order", items=[]), "contract", "$.items", "minItems", "[]"),
        (event("order", order_id=""), "contract", "$.order_id", "minLength", '""'),
        (event("order", total_amount="24.98"), "contract", "$.total_amount", "type", "number"),
        (event("order", total_amount=-1), "contract", "$.total_amount", "minimum", "-1"),
        (event("order", total_amount=1e308), "contract", "$.total_amount", "maximum", "1e+308"),
        (event("order", order_date="2026-02-30T00:00:00Z"), "contract", "$.order_date", "format", "2026-02-30"),
        (event("order", order_date="2026-06-30T23:59:60Z"), "contract", "$.order_date", "format", "0..59"),
        (event("order", order_date="0000-01-01T00:00:00Z"), "contract", "$.order_date", "format", "0000"),
        (event("order", order_date="2026-11-23T11:00:00Z\n"), "contract", "$.order_date", "format", "date-time"),
        (event("order", shipping_address={"street": "s", "city": "c"}), "contract", "$.shipping_address.country",
         "required", "country"),
        (event("inventory", quantity_change=101), "contract", "$.quantity_change", "maximum", "101"),
        (event("inventory", quantity_change=-101), "contract", "$.quantity_change", "minimum", "-101"),
        (event("inventory", quantity_change=10**30), "contract", "$.quantity_change", "maximum", "1000"),
        (event("inventory", quantity_change=1.5), "contract", "$.quantity_change", "type", "integer"),
        (event("inventory", quantity_change=None), "contract", "$.quantity_change", "type", "null"),
        (event("user_activity", ip_address="999.1.1.1"), "contract", "$.ip_address", "anyOf", "999.1.1.1"),
        (event("user_activity", metadata={"session_id": "s", "platform": "tv"}), "contract", "$.metadata.platform",
         "enum", "tv"),
        (event("order", order_date="2026-08-24T12:00:00Z"), "time_bounds", "$.order_date", "minimum", "90 days"),
        (event("order", order_date="2026-11-25T12:00:00Z"), "time_bounds", "$.order_date", "maximum", "a day ahead"),
    ],
)  # fmt: skip
def test_dead_letter_names_stage_path_rule_and_reason(
    payload: bytes | dict[str, Any], stage: str, path: str, rule: str, said: str
) -> None:
    letter = dead(payload)
    assert first_error(letter) == (stage, path, rule)
    assert said in letter.errors[0].message
    assert letter.message.data == (payload if isinstance(payload, bytes) else json.dumps(payload).encode())


@pytest.mark.parametrize("version", ["99", "0", "v1", "", " 1", "one"])
def test_unknown_version_is_a_dead_letter_with_the_existing_ones(version: str) -> None:
    letter = dead(event("order"), schema_version=version)
    assert first_error(letter) == ("contract", "attributes.schema_version", "enum")
    assert letter.errors[0].message.endswith("there is 1")
    assert (letter.event_type, letter.schema_version) == ("order", version)


def test_an_event_id_too_long_for_an_insert_id_is_a_dead_letter() -> None:
    outcome = process(message(event("order"), event_id="x" * 129), NOW)
    assert isinstance(outcome, DeadLetter)
    assert first_error(outcome) == ("decode", "attributes.event_id", "maxLength")
    assert outcome.record("gs://a/b")["event_id"] == "m-1"


def test_reserved_event_id_of_a_producer_is_a_dead_letter() -> None:
    run = f"smoke-{'0' * 32}"
    letter = dead(event("order"), event_id=f"{run}-order")
    assert first_error(letter) == ("decode", "attributes.event_id", "reserved")
    assert "send any other id" in letter.errors[0].message
    assert letter.record("gs://a/b")["event_id"] == "m-1", "so that the reconciliation misses it where it is lost"
    own = process(message(event("order"), event_id=f"{run}-order", sluice_smoke_test=run), NOW)
    assert isinstance(own, Row)
    assert own.record("gs://a/b")["ingest"]["event_id"] == f"{run}-order"


def test_at_most_twenty_violations_are_reported() -> None:
    assert [error.path for error in dead(event("order", status="lost", order_id="")).errors] == [
        "$.order_id",
        "$.status",
    ]
    items = [{"product_id": "p", "product_name": "n", "quantity": 0, "price": 1}] * 50
    assert len(dead(event("order", items=items)).errors) == 20


def test_event_with_many_errors_reports_only_the_first() -> None:
    letter = dead(b'{"event_type":"order","items":[' + b"{}," * 40_000 + b"{}]}")
    assert (letter.stage, len(letter.errors)) == ("contract", 1)


def test_long_values_are_truncated_except_the_payload() -> None:
    key = "k" * 10_000
    record = dead(f'{{"{key}": 1, "{key}": 2}}'.encode()).record("gs://a/b")
    assert len(record["errors"][0]["path"]) == len(record["errors"][0]["message"]) == 500
    record = dead({"event_type": key}, schema_version=key).record("gs://a/b")
    assert (len(record["event_type"]), len(record["schema_version"])) == (500, 500)
    errors = [Violation("$", "invalid", "x")] * 30
    rejected = row(event("order")).dead_letter(Stage.WAREHOUSE, errors, NOW)
    assert len(rejected.record("gs://a/b")["errors"]) == 20


def test_retention_counts_whole_partitions() -> None:
    oldest = event("order", order_date="2026-08-26T00:00:00Z")
    assert row(oldest).columns["event_date"] == "2026-08-26"
    assert dead(event("order", order_date="2026-08-25T23:59:59Z")).stage == "time_bounds"


def test_an_event_a_day_ahead_is_still_taken() -> None:
    assert row(event("order", order_date="2026-11-24T12:00:00Z")).columns["event_date"] == "2026-11-24"


def quotes_half_a_character(*_: Any) -> dict[str, Any]:
    raise ValueError("\ud800")


@pytest.mark.parametrize(
    "broken",
    [
        lambda *_: {}.popitem(),
        lambda *_: {"column": object()},
        lambda *_: {"column": "\ud800"},
        lambda *_: 1 / 0,
        quotes_half_a_character,
    ],
)
def test_an_enrichment_that_fails_makes_a_dead_letter_and_no_crash(broken: Any) -> None:
    outcome = enriched_by(broken)(message(event("order")), NOW)
    assert isinstance(outcome, DeadLetter)
    assert (outcome.stage, outcome.event_type, outcome.schema_version) == ("enrich", "order", "1")
    assert outcome.record("gs://a/b")["stage"] == "enrich"


def enriched_by(enrich: Any) -> EventPipeline:
    changed = copy.copy(process.contracts.choose({"event_type": "order"}, {}))
    object.__setattr__(changed, "event_type", EventType("orders", "order_date", enrich))
    return EventPipeline(Contracts({"order": {1: changed}}), Privacy(), 90, "tests")


def test_a_lack_of_memory_makes_no_dead_letter() -> None:
    def enrich(*_: object) -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        enriched_by(enrich)(message(event("order")), NOW)


def test_fingerprint_ignores_values_and_array_indexes() -> None:
    def quantity(index: int, value: int) -> DeadLetter:
        order = event("order")
        order["items"][index]["quantity"] = value
        return dead(order)

    assert quantity(0, 0).fingerprint == quantity(1, -5).fingerprint
    assert quantity(0, 0).fingerprint != quantity(0, 10**9).fingerprint
    assert dead(event("order", status="a")).fingerprint != dead(event("inventory", reason="a")).fingerprint


def test_a_fingerprint_and_its_place_have_no_text_of_the_producers() -> None:
    people = [f"person-{number}@example.com" for number in range(300)]
    unknown_types = [dead(event("order") | {"event_type": person}) for person in [*people, "price", "order_id"]]
    duplicate_keys = [
        dead(f'{{"event_type": "order", "customers": {{"{person}": {{"age": 1, "age": 2}}}}}}'.encode())
        for person in people
    ]
    for letters, place in ((unknown_types, "$.event_type"), (duplicate_keys, "$[*][*][*]")):
        assert len({letter.fingerprint for letter in letters}) == 1
        assert {letter.record("gs://a/b")["place"] for letter in letters} == {place}
    assert duplicate_keys[0].errors[0].path == "$.customers['person-0@example.com'].age"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("$", "$"),
        ("$.items[0].price", "$.items[*].price"),
        ("$.items[0].colour['a.b'][12]", "$.items[*][*][*][*]"),
        (r"$['it\'s]'].items", "$[*].items"),
        ("$['items']", "$[*]"),
        ("attributes.event_id", "attributes.event_id"),
    ],
)
def test_generalized_path_keeps_only_names_of_the_contract(path: str, place: str) -> None:
    assert json_path.generalize(path, {"items", "price"}) == place


@given(st.lists(st.text() | st.integers(0, 10**6)))
def test_a_generalized_path_has_as_many_steps_as_the_path(steps: list[str | int]) -> None:
    assert json_path.generalize(json_path.from_root(steps), ()) == "$" + "[*]" * len(steps)


def test_dead_letter_row_has_the_bytes_and_all_metadata() -> None:
    record = dead(b'{"event_type": "teleport"}', schema_version="7").record("gs://a/b")
    assert record["payload"] == "eyJldmVudF90eXBlIjogInRlbGVwb3J0In0="
    assert record["payload_bytes"] == 26
    assert json.loads(record["attributes"]) == {"event_id": "e-1", "schema_version": "7"}
    assert (record["event_type"], record["schema_version"], record["archive_uri"]) == ("teleport", "7", "gs://a/b")
    assert record["errors"] == [
        {
            "path": "$.event_type",
            "rule": "enum",
            "message": '"teleport" is no event type; there are ' + THERE_ARE,
        }
    ]


def test_payload_too_large_for_a_row_is_only_in_the_archive() -> None:
    record = dead(b"x" * 10_000_000).record("gs://a/b")
    assert (record["payload"], record["payload_bytes"]) == (None, 10_000_000)


# Properties


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def assert_one_outcome(outcome: Row | DeadLetter) -> None:
    record = outcome.record("gs://a/b")
    json.dumps(record, allow_nan=False).encode()
    if isinstance(outcome, DeadLetter):
        assert outcome.errors
        assert outcome.stage in {"decode", "contract", "enrich", "time_bounds"}


@given(st.binary())
@example(b'{"event_type":"order","":""}')
def test_any_bytes_become_exactly_one_row_or_dead_letter(data: bytes) -> None:
    assert_one_outcome(process(message(data), NOW))


@given(JSON)
def test_any_json_becomes_exactly_one_row_or_dead_letter(value: Any) -> None:
    assert_one_outcome(process(message(json.dumps(value).encode()), NOW))


def places(value: Any, steps: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in [(*steps, key), *places(item, (*steps, key))]]


PLACES = [(name, place) for name in TYPES for place in places(EVENTS[name])]


def mutate(name: str, place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = event(name)
    target: Any = changed
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    return changed


SCHEMAS = {name: json.loads((FOLDER / f"{name}.v1.json").read_text()) for name in TYPES}
ORACLES = {
    name: jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    for name, schema in SCHEMAS.items()
}


@given(st.sampled_from(PLACES), JSON)
def test_changed_event_is_valid_or_rejected_at_the_changed_path(
    where: tuple[str, tuple[str | int, ...]], value: Any
) -> None:
    name, place = where
    changed = mutate(name, place, value)
    outcome = process(message(json.dumps(changed).encode()), NOW)
    assert_one_outcome(outcome)
    if isinstance(outcome, DeadLetter) and outcome.stage != "decode":
        path = json_path.from_root(place)
        assert all(error.path.startswith(path) for error in outcome.errors), outcome.errors


@given(st.sampled_from(PLACES), JSON)
def test_jsonschema_rejects_the_same_paths(where: tuple[str, tuple[str | int, ...]], value: Any) -> None:
    name, place = where
    assume(place != ("event_type",))
    changed = mutate(name, place, value)
    outcome = process(message(json.dumps(changed).encode()), NOW)
    assume(not isinstance(outcome, DeadLetter) or outcome.stage == "contract")
    expected = {json_path.from_root(error.absolute_path) for error in ORACLES[name].iter_errors(changed)}
    paths = {error.path for error in outcome.errors} if isinstance(outcome, DeadLetter) else set()
    required = {path.rpartition(".")[0] for path in paths - expected}
    assert (paths & expected) | required == expected


@given(st.sampled_from(PLACES))
def test_a_missing_field_is_named(where: tuple[str, tuple[str | int, ...]]) -> None:
    name, place = where
    assume(isinstance(place[-1], str))
    changed = event(name)
    target: Any = changed
    for step in place[:-1]:
        target = target[step]
    del target[place[-1]]
    letter = dead(changed)
    assert first_error(letter) == ("contract", json_path.from_root(place), "required")


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), st.integers(1, 1825))  # noqa: DTZ001
def test_an_event_is_within_the_bounds_or_a_dead_letter_that_says_so(moment: datetime, retention_days: int) -> None:
    bounded = EventPipeline(process.contracts, Privacy(), retention_days, "tests")
    outcome = bounded(message(event("inventory", timestamp=moment.isoformat())), NOW)
    partition_is_gone = moment.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(retention_days) <= NOW
    if partition_is_gone or moment > NOW + timedelta(days=1):
        assert isinstance(outcome, DeadLetter)
        assert outcome.stage == "time_bounds"
    else:
        assert isinstance(outcome, Row)


@given(st.decimals(0, 10**12, allow_nan=False, allow_infinity=False, places=9))
def test_money_survives_to_the_last_digit(amount: Decimal) -> None:
    payload = json.dumps(event("order")).replace("24.98", f"{amount:f}").encode()
    assert Decimal(row(payload).columns["total_amount"]) == amount


def test_process_is_pure() -> None:
    made = message(event("user_activity"))
    assert process(made, NOW) == process(Message(made.data, dict(made.attributes), "m-1", NOW), NOW)
