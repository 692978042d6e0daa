"""Any message becomes one row or one dead letter, in time, and both fit their destination.

About fifteen seconds long; `make fuzz` takes as long as `SLUICE_FUZZ_SECONDS` says. The bytes of each payload that ever
broke one of these are in `regressions/`, and are tried first, always.
"""

import base64
import json
import logging
import os
import pathlib
import random
import sys
import time
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from functions.core import json_path
from functions.core.message import Message, NotAMessage, parse_request
from functions.core.pipeline import EventPipeline
from functions.system import utc_now
from tests.support import hostile_events
from tests.support.core_properties import PROCESSES, check, check_envelope, steps_of
from tests.support.ingest_worker import Worker
from tests.support.samples import NOW
from tests.support.waiting import FACTOR, LIMIT

logger = logging.getLogger(__name__)

SECONDS = float(os.environ.get("SLUICE_FUZZ_SECONDS", "15"))

RELATIVES = 20
"""Payloads that are tried beside each that Hypothesis draws."""

FOLDER = pathlib.Path(__file__).parent / "regressions"
REGRESSIONS = {file.name: file for file in sorted(FOLDER.iterdir())}

EVENT_SECONDS = 0.05 * FACTOR
"""Maximum seconds of CPU for an event of up to 16 KiB."""

pytestmark = pytest.mark.timeout(SECONDS + LIMIT)

thoroughly = settings(
    max_examples=200,
    deadline=None,
    derandomize=False,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def keep_on(property_: Callable[[], None], share: float, payloads: int = 1) -> None:
    """Try a property with always other examples, for its share of the time."""
    started = time.monotonic()
    rounds = 0
    while time.monotonic() - started < SECONDS * share:
        property_()
        rounds += 1
    count = rounds * thoroughly.max_examples * payloads
    logger.info("%s payloads, %.0f/s", count, count / (time.monotonic() - started))


@pytest.mark.parametrize("name", REGRESSIONS)
@pytest.mark.parametrize("process", PROCESSES, ids=["keep", "truncate", "hash"])
def test_regression_payloads_are_processed(name: str, process: EventPipeline) -> None:
    data = REGRESSIONS[name].read_bytes()
    check(Message(data, {}, "m-1", NOW), process)
    body = json.dumps({"message": {"messageId": "1", "publishTime": NOW.isoformat(), "data": "DATA"}}).encode()
    assert parse_request({}, body.replace(b"DATA", base64.b64encode(data)), utc_now).data == data
    for headers in ({}, {"x-goog-pubsub-message-id": "1", "x-goog-pubsub-publish-time": NOW.isoformat()}):
        try:
            check(parse_request(headers, data, utc_now))
        except NotAMessage:
            assert not headers


@pytest.mark.check
def test_any_event_becomes_a_valid_outcome_within_the_time_limit() -> None:
    slowest = 0.0

    @thoroughly
    @given(hostile_events.payloads(), hostile_events.ATTRIBUTES, st.sampled_from(PROCESSES), st.integers(0, 2**32))
    def holds(drawn: bytes, attributes: dict[str, str], process: EventPipeline, seed: int) -> None:
        nonlocal slowest
        for data in (drawn, *hostile_events.relatives(drawn, random.Random(seed), RELATIVES)):
            message = Message(data, attributes, "m-1", NOW)
            try:
                seconds = check(message, process)
                if seconds > EVENT_SECONDS:  # or it was a pause of the garbage collector
                    seconds = min(check(message, process) for _ in range(3))
                allowed = EVENT_SECONDS * max(1, len(data) / (16 * 2**10))
                assert seconds < allowed, f"{len(data)} bytes took {seconds * 1000:.0f} ms"
            except Exception as error:
                error.add_note(f"the payload, which belongs into {FOLDER.name}/: {data!r}")
                raise
            slowest = max(slowest, seconds)

    keep_on(holds, 0.7, 1 + RELATIVES)
    logger.info("the slowest took %.1f ms", slowest * 1000)


MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "data": st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode())
        | st.text(max_size=5)
        | st.none(),
        "messageId": st.text(max_size=3) | st.just("1") | st.integers() | st.just("9" * 200),
        "publishTime": hostile_events.TIMES | st.integers() | st.floats(),
        "attributes": st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3) | st.none(),
        "orderingKey": st.text(max_size=3) | st.none(),
    },
)
PUSHES = st.fixed_dictionaries(
    {},
    optional={
        "message": MESSAGES | st.text(max_size=3) | st.none(),
        "deliveryAttempt": st.none() | st.integers() | st.floats() | st.text(max_size=3),
        "subscription": st.text(max_size=3),
    },
)
BODIES = PUSHES.map(json.dumps).map(str.encode).flatmap(lambda body: st.just(body) | hostile_events.damaged(body))

HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "x-goog-pubsub-message-id": st.sampled_from(["1", "", "9" * 129, "é"]),
        "x-goog-pubsub-publish-time": hostile_events.TIMES | st.sampled_from(["", "0", "1e400", "\uff19"]),
        "x-goog-pubsub-delivery-attempt": st.sampled_from(
            ["1", "", "-1", "1.0", "9" * 5000, "\uff11", " 1 ", "1_0", "x"]
        ),
        "x-goog-pubsub-ordering-key": st.text(max_size=3),
        "event_id": st.sampled_from(["", "e-1", "x" * 200, "é"]),
        "schema_version": st.sampled_from(["", "1", "x"]),
        "authorization": st.just("Bearer secret"),
    },
)


@pytest.mark.check
def test_a_request_is_a_message_or_not_and_nothing_else() -> None:
    @thoroughly
    @given(HEADERS, BODIES | hostile_events.payloads() | st.binary())
    def holds(headers: dict[str, str], body: bytes) -> None:
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        for given_headers in (headers, Headers(raw=raw)):
            try:
                message = parse_request(given_headers, body, utc_now)
            except NotAMessage as error:
                text = str(error)
            else:
                text = str(message.attributes)
                check(message)
            assert text
            assert "secret" not in text

    keep_on(holds, 0.2)


@pytest.mark.check
def test_the_archive_gives_back_any_message() -> None:
    texts = st.text(max_size=20)

    @thoroughly
    @given(
        st.builds(
            Message,
            data=hostile_events.payloads() | st.binary() | texts.map(str.encode),
            attributes=st.dictionaries(texts, texts, max_size=4),
            message_id=st.text(min_size=1, max_size=128),
            publish_time=st.datetimes(timezones=st.timezones()).map(
                lambda moment: msgspec.json.decode(msgspec.json.encode(moment), type=type(moment))
            ),
            ordering_key=texts,
        ),
        st.none() | texts,
    )
    def holds(message: Message, event_type: str | None) -> None:
        check_envelope(message, event_type)

    keep_on(holds, 0.1)


@given(st.lists(st.text() | st.integers(0, 10**6), max_size=6))
def test_a_path_leads_back_to_where_it_came_from(steps: list[str | int]) -> None:
    assert steps_of(json_path.from_root(steps)) == steps


def grown(size: int) -> dict[str, bytes]:
    """Payloads of about a size, each of which costs some naive way more than its length."""
    head = b'{"event_type":"inventory","inventory_id":"i","product_id":"p","warehouse_id":"w","quantity_change":1,'
    head += b'"reason":"sale","timestamp":"2026-11-23T11:59:58Z"'

    def unknown(value: bytes) -> bytes:
        return head + b',"more":' + value + b"}"

    def times(unit: bytes, rest: bytes = b"") -> bytes:
        return unit * (size // len(unit)) + rest

    numbered = b",".join(b'"%07d":0' % index for index in range(min(size // 12, 49_000)))
    return {
        "one long text": unknown(b'"' + times(b"x") + b'"'),
        "wide text": unknown(b'"' + times("\U0001f600".encode()) + b'"'),
        "escapes": unknown(b'"' + times(rb"\u00e9") + b'"'),
        "quoted colons": unknown(b'"' + times(rb"\":") + b'"'),
        "lone surrogates": unknown(b'"' + times(rb"\ud800") + b'"'),
        "backslashes": unknown(b'"' + times(b"\\\\") + b'"'),
        "not closed": unknown(b'"' + times(b"x")),
        "white space": unknown(times(b" ", b"1")),
        "lines": unknown(times(b"\n", b"1")),
        "an integer": unknown(times(b"9")),
        "a fraction": unknown(b"0." + times(b"7")),
        "a column's fraction": head.replace(b'"quantity_change":1', b'"quantity_change":1.' + times(b"0")) + b"}",
        "an exponent": unknown(b"1e" + times(b"9")),
        "zeros": unknown(b"1" + times(b"0", b".0")),
        "numbers": unknown(b"[" + b"1.5," * (min(size // 4, 49_000)) + b"1]"),
        "arrays": unknown(b"[" + b"[]," * (min(size // 3, 49_000)) + b"1]"),
        "objects": unknown(b"[" + b'{"a":1},' * (min(size // 8, 24_000)) + b"1]"),
        "too many arrays": unknown(b"[" + times(b"[],", b"1]")),
        "deep": unknown(times(b"[")),
        "deep and closed": unknown(b"[" * (size // 2) + b"]" * (size // 2)),
        "deep objects": unknown(times(b'{"a":')),
        "unknown fields": head + b"," + numbered + b"}",
        "unknown fields, then one twice": head + b"," + numbered + b',"0000000":0}',
        "one key many times": head + b"," + b",".join([b'"k":0'] * min(size // 6, 49_000)) + b"}",
        "a long key": head + b',"' + times(b"k") + b'":0}',
        "a long key of quotes": head + b',"' + times(b"'") + b'":0}',
        "a long type": b'{"event_type":"' + times(b"x") + b'"}',
        "a long time": head.replace(b"11:59:58Z", b"11:59:58." + times(b"0") + b"Z") + b"}",
        "a long agent": b'{"event_type":"user_activity","user_agent":"' + times(b"Mozilla/5.0 (") + b'"}',
        "items of the wrong kind": b'{"event_type":"order","items":[' + b"{}," * min(size // 3, 49_000) + b"{}]}",
        "items with unknown fields": b'{"event_type":"order","order_id":"o","customer_id":"c","status":"pending",'
        b'"order_date":"2026-11-23T11:59:58Z","shipping_address":{"street":"s","city":"c","country":"f"},'
        b'"total_amount":1,"items":['
        + b",".join(
            b'{"product_id":"p","product_name":"n","quantity":1,"price":1,'
            + b",".join(b'"%03d":0' % index for index in range(min(40, size // 1000 // 8 + 1)))
            + b"}"
            for _ in range(1000)
        )
        + b"]}",
        "not UTF-8 at the end": unknown(b'"' + times(b"x", b'\xff"')),
        "nothing but NUL": times(b"\x00"),
        "nothing but quotes": times(b'"'),
    }


SMALL, LARGE = 64 * 2**10, 2 * 2**20 - 1000
GROWN = grown(16)


def cpu(data: bytes) -> float:
    message = Message(data, {}, "m-1", NOW)
    best = float("inf")
    for _ in range(3):
        started = time.thread_time()
        PROCESSES[0](message, NOW)
        best = min(best, time.thread_time() - started)
    return best


@pytest.mark.parametrize("kind", GROWN)
def test_time_grows_no_faster_than_the_payload(kind: str) -> None:
    small, large = grown(SMALL)[kind], grown(LARGE)[kind]
    short, long = cpu(small), cpu(large)
    logger.info("%s: %s bytes %.1f ms, %s bytes %.1f ms", kind, len(small), short * 1000, len(large), long * 1000)
    assert long < 0.5, f"{long:.3f} s for {len(large)} bytes"
    assert long < 0.01 + 4 * short * len(large) / len(small)
    if sys.platform == "linux":
        assert memory_of(large) < MEMORY
    check(Message(large, {}, "m-1", NOW))


MEMORY = 64 * 2**20
"""Bytes that an event of 2 MiB may need on its way, besides what it was and what it becomes."""


def memory_of(data: bytes) -> int:
    """Bytes by which this process grew at most while it took an event."""
    this = Worker(os.getpid())
    message = Message(data, {}, "m-1", NOW)
    this.forget_peak()
    before = this.resident()
    PROCESSES[0](message, NOW)
    return this.peak() - before
