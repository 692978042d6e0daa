"""Situations from public bug reports of other projects, with the right outcome here.

Each comment names the report. The inputs are made up after it.
"""

import base64
import gzip
import json
from typing import Any

import pytest

from functions.core.dead_letters import DeadLetter
from functions.core.message import NotAMessage, parse_request
from functions.core.rows import Row
from functions.system import utc_now
from tests.support.samples import EVENTS, NOW, event, message, process

ORDER = json.dumps(EVENTS["order"])


def outcome(payload: bytes | dict[str, Any], **attributes: str) -> Row | DeadLetter:
    return process(message(payload, **attributes), NOW)


def row(payload: bytes | dict[str, Any], **attributes: str) -> Row:
    result = outcome(payload, **attributes)
    assert isinstance(result, Row), result
    return result


def first_error(payload: bytes | dict[str, Any], **attributes: str) -> tuple[str, str, str, str]:
    result = outcome(payload, **attributes)
    assert isinstance(result, DeadLetter), result
    assert result.message.data == (payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    return (result.stage, *result.errors[0])


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-23",  # kernelci/kcidb #108
        "2026-11-23T11:00:00",  # json-sKema #19, snowplow/enrich #835
        "2026-11-23 11:00:00Z",
        "2026-11-23T11:00Z",
        "2026-11-23T11:00:00+0100",
        "2026-11-23T11:00:00+24:00",
        "2026-11-23T24:00:00Z",
        "20261123T110000Z",
        "2026-W48-1T11:00:00Z",
        "2026-11-23T11:00:00,5Z",
        "2026-11-23T11:00:00.Z",
        "+2026-11-23T11:00:00Z",
        "2026-11-23T11:00:00 Z",
        "1764000000",
        "",
    ],
)
def test_a_time_that_is_not_rfc_3339_is_rejected(time: str) -> None:
    assert first_error(event("order", order_date=time))[:3] == ("contract", "$.order_date", "format")


@pytest.mark.parametrize(  # PeerDB #1254, kafka-connect-bigquery #269
    ("time", "stage"),
    [
        ("0001-01-01T00:00:00Z", "time_bounds"),
        ("0001-01-01T00:00:00+23:59", "contract"),
        ("9999-12-31T23:59:59Z", "time_bounds"),
        ("9999-12-31T23:59:59-23:59", "contract"),
    ],
)
def test_a_year_at_the_end_of_all_years_is_rejected(time: str, stage: str) -> None:
    assert first_error(event("order", order_date=time))[:2] == (stage, "$.order_date")


def test_names_that_differ_in_case_only_are_kept_as_written() -> None:
    # mozilla/gcp-ingestion #1298 and #711, CDAP PLUGIN-221
    names = ("Order_ID", "ORDER_ID", "_PARTITIONTIME")
    kept = row(event("order", **dict.fromkeys(names, "x")))
    assert kept.columns["order_id"] == "o-1"
    assert json.loads(kept.columns["extras"]) == dict.fromkeys(names, "x")


def test_foreign_order_keeps_all_digits_and_rejects_text_as_money() -> None:
    # iglu-central PR 365, dbcrossbar PR 135: ids above 2^53, money as text, null for a customer, local times
    other = {"id": 820982911946154508, "subtotal_price": "238.47", "customer": None, "test": True}
    shop = event("order", order_date="2026-11-23T06:00:00-05:00", **other)
    kept = row(shop)
    assert kept.columns["order_date"] == "2026-11-23T11:00:00Z"
    assert json.loads(kept.columns["extras"]) == other
    assert first_error(shop | {"total_amount": "238.47"})[:3] == ("contract", "$.total_amount", "type")


@pytest.mark.parametrize(  # snowplow PR 3476, eBPF-Discovery PR 55
    "address",
    [
        "203.0.113.7, 70.41.3.18",
        "203.0.113.7:443",
        "[2001:db8::1]",
        "[2001:db8::1]:443",
        "fe80::1%eth0",
        "203.0.113.007",
        "unknown",
        " 203.0.113.7",
        "203.0.113",
    ],
)
def test_a_forwarded_list_of_addresses_is_no_address(address: str) -> None:
    assert first_error(event("user_activity", ip_address=address))[:3] == ("contract", "$.ip_address", "anyOf")


def test_a_push_may_have_its_names_in_two_spellings() -> None:  # google-cloud-node #1898
    names = {"messageId": "1", "message_id": "1", "publishTime": "2026-11-23T11:00:00Z"}
    body = {"message": {**names, "publish_time": "2026-11-23T11:00:00Z", "data": "e30="}, "subscription": "s"}
    assert parse_request({}, json.dumps(body).encode(), utc_now).data == b"{}"


def test_attributes_without_data_are_an_empty_payload() -> None:  # hono PR 3453
    body = {"message": {"messageId": "1", "publishTime": "2026-11-23T11:00:00Z", "attributes": {"event_id": "e"}}}
    result = process(parse_request({}, json.dumps(body).encode(), utc_now), NOW)
    assert isinstance(result, DeadLetter)
    assert (result.errors[0].message, result.message.event_id) == ("the payload is empty", "e")


@pytest.mark.parametrize(
    ("payload", "rule", "says"),
    [
        (base64.b64encode(ORDER.encode()), "json", "line 1 column 1"),  # google-cloud-python #6127: base64 twice
        (ORDER.encode("utf-16"), "utf-8", "byte 0 (0xff)"),  # google-cloud-ruby #453
        (ORDER.encode("utf-16-le"), "json", "line 1 column 2"),
        (ORDER.replace("Rue", "Ruë").encode("latin-1"), "utf-8", "(0xeb)"),  # iot-nodered #32
        (ORDER.replace("Tea", "\ud83d\ude00").encode("utf-8", "surrogatepass"), "utf-8", "(0xed)"),  # CESU-8
        (gzip.compress(ORDER.encode()), "utf-8", "byte 1 (0x8b)"),
        (b"\xef\xbb\xbf" + ORDER.encode(), "json", "BOM"),  # vector #22541
        (ORDER.replace('"o-1"', '"o-1", "\\u006frder_id": "o-2"').encode(), "uniqueKeys", "$.order_id"),
    ],
    ids=["base64", "utf-16", "utf-16-le", "latin-1", "cesu-8", "gzip", "bom", "escaped key"],
)
def test_another_encoding_is_rejected_with_its_place_and_its_bytes(payload: bytes, rule: str, says: str) -> None:
    stage, _, broken, text = first_error(payload)
    assert (stage, broken) == ("decode", rule)
    assert says in text


@pytest.mark.parametrize("event_id", ["\N{ROBOT FACE}" * 128, "a\0b", "'; DROP TABLE orders; --", 'a"b\\c', "a/b/../c"])
def test_an_odd_event_id_is_an_event_id(event_id: str) -> None:
    assert row(event("order"), event_id=event_id).record("gs://a/b")["ingest"]["event_id"] == event_id


def test_same_id_in_two_types_makes_two_rows() -> None:
    both = [row(event(name), event_id="same") for name in ("order", "inventory")]
    assert len({(row.table, row.insert_id) for row in both}) == 2


def test_a_hundred_odd_attributes_are_kept() -> None:
    attributes = {f"name {number} \N{ROBOT FACE}": "\0\n" for number in range(100)}
    assert row(event("order"), **attributes).message.attributes.items() >= attributes.items()


def test_a_structured_cloud_event_is_no_push() -> None:
    # functions-framework-python #55: Eventarc sends binary mode, where the body is the push
    push = {"message": {"messageId": "1", "publishTime": "2026-11-23T11:00:00Z", "data": "e30="}}
    body = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": push}
    with pytest.raises(NotAMessage, match="not a Pub/Sub push"):
        parse_request({"content-type": "application/cloudevents+json"}, json.dumps(body).encode(), utc_now)
