"""Publishing events to a topic."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from google.api_core.exceptions import (
    Aborted,
    DeadlineExceeded,
    GoogleAPIError,
    InternalServerError,
    ServiceUnavailable,
    Unknown,
)
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.publisher.exceptions import FlowControlLimitError, MessageTooLargeError
from google.cloud.pubsub_v1.types import BatchSettings, LimitExceededBehavior, PublisherOptions, PublishFlowControl

from functions.events import event_types

_UNCONFIRMED = 1_000
_PATIENCE_SECONDS = 20.0

_OPTIONS = PublisherOptions(
    flow_control=PublishFlowControl(message_limit=_UNCONFIRMED, limit_exceeded_behavior=LimitExceededBehavior.BLOCK),
    retry=Retry(
        predicate=if_exception_type(Aborted, DeadlineExceeded, InternalServerError, ServiceUnavailable, Unknown),
        initial=0.1,
        maximum=5.0,
        timeout=_PATIENCE_SECONDS,
    ),
    timeout=_PATIENCE_SECONDS,
)
_BATCH = BatchSettings(max_messages=100, max_latency=0.02)

FAILURES = (GoogleAPIError, GoogleAuthError, MessageTooLargeError, FlowControlLimitError)
"""What `publish` raises where a message cannot be published."""


class Publication(NamedTuple):
    """What a producer gives to Pub/Sub."""

    data: bytes
    attributes: Mapping[str, str]


def publish(
    publications: Iterable[Publication],
    topic: str,
    *,
    rate: float | None = None,
    published: Callable[[], object] = lambda: None,
) -> int:
    """Publish to a topic, and return when Pub/Sub has accepted all of it.

    Args:
        publications: What to publish; may be endless.
        topic: Full name, `projects/PROJECT/topics/TOPIC`.
        rate: Messages per second; as fast as they are accepted by default.
        published: Called for each message that Pub/Sub has accepted, in any thread.

    Returns:
        How many messages were published.

    Raises:
        One of `FAILURES`: A message was refused, is too large, or was not accepted within 20 seconds.
    """
    client = PublisherClient(batch_settings=_BATCH, publisher_options=_OPTIONS)
    started = time.monotonic()
    unconfirmed: set[futures.Future[str]] = set()
    count = 0
    try:
        for publication in publications:
            if rate is not None:
                time.sleep(max(0.0, started + count / rate - time.monotonic()))
            future = client.publish(topic, publication.data, **publication.attributes)
            future.add_done_callback(lambda done: None if done.exception() else published())
            unconfirmed.add(future)
            count += 1
            if len(unconfirmed) >= _UNCONFIRMED:
                unconfirmed = _confirm(unconfirmed, futures.FIRST_COMPLETED)
        _confirm(unconfirmed, futures.ALL_COMPLETED)
    finally:
        client.stop()
    return count


def _confirm(unconfirmed: set[futures.Future[str]], until: str) -> set[futures.Future[str]]:
    done, still = futures.wait(unconfirmed, return_when=until)
    for future in done:
        future.result()
    return still


def from_lines(lines: Iterable[bytes]) -> Iterator[Publication]:
    """Make each line of NDJSON a message with an identity of its own, so that a retried publish is no second event."""
    for line in lines:
        if line.strip():
            yield Publication(line.rstrip(b"\r\n"), {"event_id": str(uuid.uuid4())})


_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


def shift_to(newest: datetime, lines: Iterable[bytes]) -> list[bytes]:
    """Move events in time, all by the same distance.

    Args:
        newest: The time that the newest event gets.
        lines: NDJSON; what is no event with a time stays as it is.
    """
    fields = {name: event_type.time_field for name, event_type in event_types().items()}
    read = list(lines)
    timed: dict[int, tuple[dict[str, Any], str, datetime]] = {}
    for index, line in enumerate(read):
        try:
            event = _decode(line)
            field = fields[event["event_type"]]
            timed[index] = (event, field, datetime.fromisoformat(event[field]).astimezone(UTC))
        except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, ValueError):
            continue
    distance = newest - max((time for _, _, time in timed.values()), default=newest)
    for index, (event, field, event_time) in timed.items():
        event[field] = _rfc3339(event_time + distance)
        read[index] = _encode(event)
    return read


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
