"""A dead letter as a row: all columns, bounds, digests."""

import base64
import json
from datetime import UTC, datetime

import pytest

from functions.core.dead_letters import DeadLetter, EventRejected, KnownNames, Stage, Violation, clip, content_digest
from functions.core.message import MAX_EVENT_BYTES, Message
from functions.core.pipeline import MAX_EXTRAS_BYTES
from tests.support.samples import NOW, event, message, process

PUBLISHED = datetime(2026, 11, 23, 11, 59, tzinfo=UTC)
MESSAGE = Message(b"{}", {"event_id": "e-1"}, "m-1", PUBLISHED, 3, "k")
VIOLATION = Violation("$.items[0].price", "maximum", "5 is too much")


def dead_letter(data: bytes = b"{}") -> DeadLetter:
    return DeadLetter(
        Message(data, {"event_id": "e-1"}, "m-1", PUBLISHED, 3, "k"),
        Stage.CONTRACT,
        [VIOLATION],
        NOW,
        "v1",
        "order",
        "2",
        KnownNames(["order"], ["items", "price"]),
    )


def test_a_dead_letter_has_all_columns_of_its_table() -> None:
    record = dead_letter().record("gs://a/b")
    digests = {"fingerprint": record.pop("fingerprint"), "content_digest": record.pop("content_digest")}
    assert record == {
        "event_id": "e-1",
        "message_id": "m-1",
        "publish_time": "2026-11-23T11:59:00Z",
        "failed_at": "2026-11-23T12:00:00Z",
        "event_type": "order",
        "schema_version": "2",
        "stage": "contract",
        "errors": [{"path": "$.items[0].price", "rule": "maximum", "message": "5 is too much"}],
        "place": "$.items[*].price",
        "payload": "e30=",
        "payload_bytes": 2,
        "attributes": '{"event_id":"e-1"}',
        "delivery_attempt": 3,
        "archive_uri": "gs://a/b",
        "code_version": "v1",
    }
    assert digests == {"fingerprint": dead_letter().fingerprint, "content_digest": content_digest(MESSAGE)}


def test_digests_are_the_same_in_every_version() -> None:
    assert content_digest(MESSAGE) == "fa6ab315d22bb5567563241b"
    assert dead_letter().fingerprint == "a78b96501372a57a"


@pytest.mark.parametrize(("length", "is_kept"), [(MAX_EVENT_BYTES, True), (MAX_EVENT_BYTES + 1, False)])
def test_a_payload_that_is_no_event_is_left_to_the_archive(length: int, is_kept: bool) -> None:
    payload = b"x" * length
    record = dead_letter(payload).record("gs://a/b")
    assert record["payload"] == (base64.b64encode(payload).decode() if is_kept else None)
    assert record["payload_bytes"] == length


def test_texts_are_cut_after_500_characters() -> None:
    assert clip("x" * 500) == "x" * 500
    assert clip("x" * 501) == "x" * 499 + "…"
    assert clip(None) is None


def test_unknown_fields_that_are_too_long_reject_the_event() -> None:
    # A quote is one byte of the payload, and three of the path of an unknown field in JSON.
    quotes = "'" * ((MAX_EXTRAS_BYTES - 20) // 3)
    longest = 10 ** (MAX_EXTRAS_BYTES - len(json.dumps({"['\\" + "\\".join(quotes) + "']": 1}, separators=(",", ":"))))
    assert not isinstance(process(message(event("order") | {quotes: longest}), NOW), DeadLetter)
    outcome = process(message(event("order") | {quotes: longest * 10}), NOW)
    assert isinstance(outcome, DeadLetter)
    [violation] = outcome.errors
    assert (outcome.stage, violation.path, violation.rule) == (Stage.CONTRACT, "$", "maxBytes")
    assert f"{MAX_EXTRAS_BYTES + 1} bytes, more than {MAX_EXTRAS_BYTES}" in violation.message


def test_a_dead_letter_names_time_code_and_contract_of_its_rejection() -> None:
    outcome = process(message(event("order", status="lost")), NOW)
    assert isinstance(outcome, DeadLetter)
    assert (outcome.failed_at, outcome.code_version, outcome.event_type, outcome.schema_version) == (
        NOW,
        "tests",
        "order",
        "1",
    )


def test_a_row_that_bigquery_rejects_becomes_a_dead_letter() -> None:
    row = process(message(event("order")), NOW)
    assert not isinstance(row, DeadLetter)
    assert row.dead_letter(Stage.WAREHOUSE, [VIOLATION], PUBLISHED) == DeadLetter(
        row.message, Stage.WAREHOUSE, [VIOLATION], PUBLISHED, "tests", "order", "1"
    )


def test_a_rejection_has_its_stage_and_violations_as_arguments() -> None:
    assert EventRejected(Stage.DECODE, [VIOLATION]).args == (Stage.DECODE, [VIOLATION])
