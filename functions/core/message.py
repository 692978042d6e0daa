"""Pub/Sub messages and the three forms in which they reach an HTTP endpoint."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_EVENT_BYTES = 2 * 2**20
"""Maximum size of a payload. JSON escapes a byte of text to three at most, and base64 makes three bytes four. So its
row and its dead letter fit into the 10 MB of an insertAll request
(https://cloud.google.com/bigquery/quotas#streaming_inserts)."""

MAX_REQUEST_BYTES = 16 * 2**20
"""Maximum size of a push. A message has 10 MB (https://cloud.google.com/pubsub/quotas#resource_limits). Base64 makes
a third more, with 100 attributes of 1 280 bytes at most."""

MAX_EVENT_ID = 128
"""Maximum number of characters of an event id: a query looks up 10 000 of them in one request of 10 MB."""

SMOKE_TEST_IDS = "^smoke-[0-9a-f]{32}-"
"""Regular expression, for Python and for GoogleSQL, of the event ids that are reserved for `sluice smoke`. Its events
prove a deployment and are no data: what reads events again leaves them out."""

SMOKE_TEST_ATTRIBUTE = "sluice_smoke_test"
"""Attribute of a message of `sluice smoke`: its run, `smoke-` and 32 hex digits, with which the event id begins."""

_is_reserved = re.compile(SMOKE_TEST_IDS).match


def is_smoke_test(event_id: str) -> bool:
    """Return whether an identity is that of an event of `sluice smoke`; no other event can have one."""
    return _is_reserved(event_id) is not None


class NotAMessage(ValueError):
    """The request carries no Pub/Sub message; says what is missing or wrong and where."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One delivery of a Pub/Sub message.

    Attributes:
        data: The payload exactly as the producer published it.
        attributes: The message's attributes.
        message_id: Pub/Sub's id, the same on every delivery.
        publish_time: When Pub/Sub accepted the message, with a time zone; the time of arrival where a push lacks it.
        delivery_attempt: 1 on the first delivery; None without a dead-letter policy.
        ordering_key: The producer's ordering key; empty without one.
    """

    data: bytes
    attributes: dict[str, str]
    message_id: str
    publish_time: datetime
    delivery_attempt: int | None = None
    ordering_key: str = ""

    @property
    def size(self) -> int:
        """Bytes of payload and attributes."""
        size = len(self.data)
        for name, value in self.attributes.items():
            size += len(name) + len(value)
        return size

    @property
    def event_id(self) -> str:
        """The event's identity: the producer's own if it set a usable one, else the message's."""
        own = self.attributes.get("event_id")
        if not own or len(own) > MAX_EVENT_ID or (own.startswith("smoke-") and self.has_reserved_id):
            return self.message_id
        return own

    @property
    def has_reserved_id(self) -> bool:
        """Return whether the producer's own id is reserved for `sluice smoke`, which has not sent the message."""
        own = self.attributes.get("event_id", "")
        return is_smoke_test(own) and not own.startswith(f"{self.attributes.get(SMOKE_TEST_ATTRIBUTE)}-")


type _MessageId = Annotated[str, Meta(min_length=1, max_length=MAX_EVENT_ID)]
type _PublishTime = Annotated[datetime, Meta(tz=True)]
type _DeliveryAttempt = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _PubsubMessage(msgspec.Struct, rename="camel", gc=False):
    """https://cloud.google.com/pubsub/docs/reference/rest/v1/PubsubMessage.

    In the JSON of protocol buffers, null is the same as a field that is missing.
    """

    message_id: _MessageId
    publish_time: _PublishTime | None = None
    data: bytes | None = None
    attributes: dict[str, str] | None = None
    ordering_key: str | None = None


class _Push(msgspec.Struct, rename="camel", gc=False):
    """https://cloud.google.com/pubsub/docs/push#receive_push."""

    message: _PubsubMessage
    delivery_attempt: _DeliveryAttempt | None = None


_decode_push = msgspec.json.Decoder(_Push).decode

_METADATA = "x-goog-pubsub-"
_MESSAGE_ID = _METADATA + "message-id"
_OWN_ATTRIBUTES = ("event_id", "schema_version", SMOKE_TEST_ATTRIBUTE)


def parse_request(headers: Mapping[str, str], body: bytes, now: Callable[[], datetime]) -> Message:
    """Read the message of a request.

    Takes a push (wrapped), an Eventarc CloudEvent in binary mode (whose body is the same), and an unwrapped
    push with metadata headers. The latter mixes attributes with the transport's own headers, credentials among
    them, so only the attributes that Sluice reads are taken from it.

    Args:
        headers: The request's headers, looked up without regard to case.
        body: The request's body.
        now: Returns the time, in UTC, for a push without the time at which it was published.

    Raises:
        NotAMessage: The request is none of these.
    """
    if _MESSAGE_ID in headers:
        return _unwrapped(headers, body)
    try:
        push = _decode_push(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotAMessage(f"not a Pub/Sub push: {error}") from error
    message = push.message
    return Message(
        message.data or b"",
        message.attributes or {},
        message.message_id,
        message.publish_time or now(),
        push.delivery_attempt,
        message.ordering_key or "",
    )


def _unwrapped(headers: Mapping[str, str], body: bytes) -> Message:
    """https://cloud.google.com/pubsub/docs/payload-unwrapping."""
    attempt = headers.get(_METADATA + "delivery-attempt")
    try:
        return Message(
            data=body,
            attributes={name: headers[name] for name in _OWN_ATTRIBUTES if name in headers},
            message_id=msgspec.convert(headers[_MESSAGE_ID], _MessageId),
            publish_time=msgspec.convert(headers[_METADATA + "publish-time"], _PublishTime),
            delivery_attempt=msgspec.convert(attempt, _DeliveryAttempt, strict=False) if attempt else None,
            ordering_key=headers.get(_METADATA + "ordering-key", ""),
        )
    except KeyError as error:
        raise NotAMessage(f"not a Pub/Sub push: header {error} is missing") from error
    except ValueError as error:
        raise NotAMessage(f"not a Pub/Sub push: {error} - in the {_METADATA}* headers") from error


def from_proto(proto: Any, delivery_attempt: int | None = None) -> Message:  # noqa: ANN401 - no import of Google's types
    """Return the message of a `google.pubsub.v1.PubsubMessage`, as protocol buffers have it.

    Args:
        proto: The message.
        delivery_attempt: 1 on the first delivery; None if it is not counted.
    """
    attributes = proto.attributes
    return Message(
        proto.data,
        {name: attributes[name] for name in attributes},  # `dict(attributes)` takes twice the time.
        proto.message_id,
        proto_time(proto.publish_time),
        delivery_attempt,
        proto.ordering_key,
    )


def proto_time(timestamp: Any) -> datetime:  # noqa: ANN401 - no import of Google's types
    """Return a `google.protobuf.Timestamp`, rounded to microseconds as `parse_request` rounds the time of a push."""
    return datetime.fromtimestamp(timestamp.seconds, UTC) + timedelta(microseconds=(timestamp.nanos + 500) // 1000)
