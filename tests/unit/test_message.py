"""The endpoint accepts messages and rejects all other requests."""

import base64
import json
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1.types import PubsubMessage
from starlette.datastructures import Headers

from functions.core.message import (
    SMOKE_TEST_ATTRIBUTE,
    Message,
    NotAMessage,
    from_proto,
    is_smoke_test,
    parse_request,
    proto_time,
)
from functions.system import utc_now

PUBLISHED = datetime(2026, 11, 23, 12, 0, 0, 250000, UTC)


def push(**message: object) -> bytes:
    content = {
        "data": base64.b64encode(b'{"a": 1}').decode(),
        "messageId": "42",
        "message_id": "42",
        "publishTime": "2026-11-23T12:00:00.25Z",
        "attributes": {"event_id": "e-1"},
        "orderingKey": "k",
    } | message
    return json.dumps({"message": content, "subscription": "projects/p/subscriptions/s", "deliveryAttempt": 3}).encode()


EXPECTED = Message(b'{"a": 1}', {"event_id": "e-1"}, "42", PUBLISHED, 3, "k")


def test_a_pulled_message_is_the_same_as_a_pushed_one() -> None:
    pulled = PubsubMessage(
        data=b'{"a": 1}', attributes={"event_id": "e-1"}, message_id="42", publish_time=PUBLISHED, ordering_key="k"
    )
    assert from_proto(PubsubMessage.pb(pulled), 3) == EXPECTED


@pytest.mark.parametrize(("nanos", "microsecond"), [(250_000_499, 250_000), (249_999_500, 250_000)])
def test_times_are_rounded_to_microseconds(nanos: int, microsecond: int) -> None:
    time = Timestamp(seconds=int(PUBLISHED.timestamp()), nanos=nanos)
    assert proto_time(time) == PUBLISHED.replace(microsecond=microsecond)


def test_a_wrapped_push_is_a_message() -> None:
    assert parse_request({}, push(), utc_now) == EXPECTED


def test_an_eventarc_cloud_event_in_binary_mode_is_the_same_message() -> None:
    headers = Headers(
        {
            "ce-id": "42",
            "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
            "ce-source": "//pubsub.googleapis.com/projects/p/topics/t",
            "ce-specversion": "1.0",
        }
    )
    assert parse_request(headers, push(), utc_now) == EXPECTED


def test_an_unwrapped_push_with_metadata_headers_is_the_same_message() -> None:
    headers = Headers(
        {
            "X-Goog-Pubsub-Subscription-Name": "projects/p/subscriptions/s",
            "X-Goog-Pubsub-Message-Id": "42",
            "X-Goog-Pubsub-Publish-Time": "2026-11-23T12:00:00.250Z",
            "X-Goog-Pubsub-Ordering-Key": "k",
            "X-Goog-Pubsub-Delivery-Attempt": "3",
            "event_id": "e-1",
            "Authorization": "Bearer secret",
            "User-Agent": "CloudPubSub-Google",
        }
    )
    assert parse_request(headers, b'{"a": 1}', utc_now) == EXPECTED


def test_an_unwrapped_push_keeps_no_credentials() -> None:
    headers = Headers(
        {
            "x-goog-pubsub-message-id": "1",
            "x-goog-pubsub-publish-time": "2026-11-23T12:00:00Z",
            "authorization": "Bearer secret",
        }
    )
    assert parse_request(headers, b"", utc_now).attributes == {}


def test_a_message_without_data_or_attributes_is_a_message() -> None:
    body = b'{"message": {"messageId": "1", "publishTime": "2026-11-23T12:00:00Z"}}'
    message = parse_request({}, body, utc_now)
    assert (message.data, message.attributes, message.delivery_attempt) == (b"", {}, None)


@pytest.mark.parametrize(
    "missing",
    ["", ', "publishTime": null, "data": null, "attributes": null, "orderingKey": null'],
    ids=["left out", "null"],
)
def test_missing_fields_of_a_push_are_empty_or_the_arrival_time(missing: str) -> None:
    before = datetime.now(UTC)
    message = parse_request(
        {}, f'{{"message": {{"messageId": "1"{missing}}}, "deliveryAttempt": null}}'.encode(), utc_now
    )
    assert (message.data, message.attributes, message.ordering_key, message.delivery_attempt) == (b"", {}, "", None)
    assert before <= message.publish_time <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "truncated"),
        (b"hello", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "required field `message`"),
        (push(messageId=None), "$.message.messageId"),
        (push(messageId=""), "$.message.messageId"),
        (push(publishTime="yesterday"), "$.message.publishTime"),
        (push(publishTime="2026-11-23T12:00:00"), "$.message.publishTime"),
        (push(data="not base64!"), "$.message.data"),
        (push(attributes={"a": 1}), "$.message.attributes"),
        (b'{"deliveryAttempt": 9223372036854775808, "message": {"messageId": "1"}}', "$.deliveryAttempt"),
        (b'{"deliveryAttempt": -1, "message": {"messageId": "1"}}', "$.deliveryAttempt"),
        (b'{"message": ' * 100_000, "recursion"),
    ],
)
def test_invalid_push_is_rejected_with_the_place(body: bytes, said: str) -> None:
    with pytest.raises(NotAMessage, match=r"^not a Pub/Sub push") as rejected:
        parse_request({}, body, utc_now)
    assert said in str(rejected.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-goog-pubsub-message-id": "1"},
        {"x-goog-pubsub-message-id": "1", "x-goog-pubsub-publish-time": "soon"},
        {"x-goog-pubsub-message-id": "1", "x-goog-pubsub-publish-time": "2026-11-23T12:00:00"},
        {
            "x-goog-pubsub-message-id": "1",
            "x-goog-pubsub-publish-time": "2026-11-23T12:00:00Z",
            "x-goog-pubsub-delivery-attempt": "9223372036854775808",
        },
    ],
)
def test_metadata_headers_that_are_missing_or_wrong_are_named(headers: dict[str, str]) -> None:
    with pytest.raises(NotAMessage, match="x-goog-pubsub"):
        parse_request(headers, b"", utc_now)


RUN = f"smoke-{'0123456789abcdef' * 2}"


@pytest.mark.parametrize(
    ("own", "attributes", "is_reserved", "is_smoke"),
    [
        (f"{RUN}-order", {SMOKE_TEST_ATTRIBUTE: RUN}, False, True),
        (f"{RUN}-order", {}, True, False),
        (f"{RUN}-", {}, True, False),
        (f"{RUN}-order", {SMOKE_TEST_ATTRIBUTE: ""}, True, False),
        (f"{RUN}-order", {SMOKE_TEST_ATTRIBUTE: f"smoke-{'0' * 32}"}, True, False),
        ("smoke-alarm-7", {}, False, False),
        ("smoke-alarm-7", {SMOKE_TEST_ATTRIBUTE: RUN}, False, False),
        (RUN, {}, False, False),
        (f"{RUN.upper()}-order", {}, False, False),
        (f"a {RUN}-order", {}, False, False),
        (f"{RUN}-{'x' * 128}", {SMOKE_TEST_ATTRIBUTE: RUN}, False, False),
    ],
)
def test_ids_of_the_smoke_test_are_reserved_for_its_own_events(
    own: str, attributes: dict[str, str], is_reserved: bool, is_smoke: bool
) -> None:
    message = Message(b"", {"event_id": own, **attributes}, "42", PUBLISHED)
    assert message.has_reserved_id == is_reserved
    assert message.event_id == ("42" if is_reserved or len(own) > 128 else own)
    assert is_smoke_test(message.event_id) == is_smoke


def test_an_unwrapped_push_of_the_smoke_test_keeps_its_identity() -> None:
    headers = {"x-goog-pubsub-message-id": "1", "x-goog-pubsub-publish-time": "2026-11-23T12:00:00Z"}
    message = parse_request(Headers(headers | {"event_id": f"{RUN}-order", SMOKE_TEST_ATTRIBUTE: RUN}), b"", utc_now)
    assert message.event_id == f"{RUN}-order"


def test_event_id_defaults_to_the_message_id() -> None:
    assert Message(b"", {"event_id": "mine"}, "42", PUBLISHED).event_id == "mine"
    assert Message(b"", {}, "42", PUBLISHED).event_id == "42"
    assert Message(b"", {"event_id": ""}, "42", PUBLISHED).event_id == "42"


def test_an_unwrapped_push_without_optional_headers_is_a_message() -> None:
    headers = Headers({"X-Goog-Pubsub-Message-Id": "42", "X-Goog-Pubsub-Publish-Time": "2026-11-23T12:00:00Z"})
    assert (received := parse_request(headers, b"{}", utc_now)).ordering_key == ""
    assert received.delivery_attempt is None


def test_headers_are_read_by_their_documented_lower_case_names() -> None:
    headers = {
        "x-goog-pubsub-message-id": "42",
        "x-goog-pubsub-publish-time": "2026-11-23T12:00:00.250Z",
        "x-goog-pubsub-ordering-key": "k",
        "x-goog-pubsub-delivery-attempt": "3",
        "event_id": "e-1",
    }
    assert parse_request(headers, b'{"a": 1}', utc_now) == EXPECTED
