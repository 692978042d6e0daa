"""Publish events to a topic."""

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

import google.auth
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
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.publisher.exceptions import FlowControlLimitError, MessageTooLargeError
from google.cloud.pubsub_v1.types import BatchSettings, LimitExceededBehavior, PublisherOptions, PublishFlowControl

from functions.core.contracts import Contracts
from functions.core.dead_letters import EventRejected
from functions.core.decode import decode
from functions.core.pipeline import MAX_AHEAD
from functions.files.id_fields import IdField, NoEventId, WithoutId
from functions.files.identity import Identify
from functions.files.sources import Line

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
"""Exceptions that `publish` raises where a message cannot be published."""


class Publication(NamedTuple):
    """A message as a producer gives it to Pub/Sub.

    Attributes:
        data: The payload.
        attributes: Attributes of the message.
        position: Number of its line in the file, from 1, without empty lines; 0 where the message is from no file.
    """

    data: bytes
    attributes: Mapping[str, str]
    position: int = 0


def publish(
    publications: Iterable[Publication],
    topic: str,
    *,
    rate: float | None = None,
    published: Callable[[Publication], object] = lambda _: None,
) -> int:
    """Publish to a topic, and return when Pub/Sub has accepted all of it.

    An interruption ends it when Pub/Sub has accepted what was handed over; a second interruption does not wait.

    Args:
        publications: Messages to publish; may be endless.
        topic: Full name, `projects/PROJECT/topics/TOPIC`.
        rate: Messages per second; None for as fast as Pub/Sub accepts them.
        published: Called for each message that Pub/Sub has accepted, in any thread.

    Returns:
        Number of published messages.

    Raises:
        One of `FAILURES`: A message was rejected, is too large, or was not accepted within 20 seconds.
    """
    client = PublisherClient(batch_settings=_BATCH, publisher_options=_OPTIONS, credentials=_credentials())
    unconfirmed: set[futures.Future[str]] = set()
    failed: list[futures.Future[str]] = []
    count = 0

    def settled(publication: Publication, future: futures.Future[str]) -> None:
        if future.exception():
            failed.append(future)
        else:
            published(publication)

    try:
        for publication in publications if rate is None else paced(publications, rate):
            if failed:  # It would be seen only when there are many, which takes long at a low rate.
                failed[0].result()
            future = client.publish(topic, publication.data, **publication.attributes)
            future.add_done_callback(functools.partial(settled, publication))
            unconfirmed.add(future)
            count += 1
            if len(unconfirmed) >= _UNCONFIRMED:
                unconfirmed = _confirm(unconfirmed, futures.FIRST_COMPLETED)
        _confirm(unconfirmed, futures.ALL_COMPLETED)
    except BaseException:
        futures.wait(unconfirmed)
        raise
    finally:
        client.stop()
    return count


def _credentials() -> Credentials | None:
    """Return credentials with a token; None for the emulator. The client would retry for a token that it cannot get."""
    if os.environ.get("PUBSUB_EMULATOR_HOST"):
        return None
    credentials: Credentials
    credentials, _ = google.auth.default(["https://www.googleapis.com/auth/pubsub"])
    credentials.refresh(Request())  # type: ignore[no-untyped-call]
    return credentials


def paced[T](items: Iterable[T], rate: float) -> Iterator[T]:
    """Yield items at a rate.

    Args:
        items: Items to yield; may be endless. Each is taken before the wait for its time.
        rate: Items per second.
    """
    started = time.monotonic()
    for count, item in enumerate(items):
        time.sleep(max(0.0, started + count / rate - time.monotonic()))
        yield item


def _confirm(unconfirmed: set[futures.Future[str]], until: str) -> set[futures.Future[str]]:
    done, still = futures.wait(unconfirmed, return_when=until)
    for future in done:
        future.result()
    return still


def from_lines(
    lines: Iterable[Line],
    id_fields: Sequence[IdField],
    without_id: WithoutId,
    attributes: Mapping[str, str] = {},
    skip: int = 0,
) -> Iterator[Publication]:
    """Return a message with an event id for each line, so that a retried publish is not a second event.

    Args:
        lines: Lines of NDJSON.
        id_fields: Fields with the ids, as for `sluice backfill`; if empty, the id is made of the content of the line.
        without_id: Receives the lines without these fields, which are not published.
        attributes: Attributes of all messages; an `event_id` among them is the id.
        skip: Number of lines that are not published. They count where equal lines get different ids.
    """
    identify = Identify(id_fields)
    for position, line in enumerate(lines, start=1):
        try:
            event_id = identify(line).used
        except NoEventId as reason:
            if position > skip:
                without_id.add(line, reason)
        else:
            if position > skip:
                yield Publication(line.data, {"event_id": event_id, **attributes}, position)


_encode = msgspec.json.Encoder(decimal_format="number").encode


def shift_to(newest: datetime, publications: Iterable[Publication]) -> Iterator[Publication]:
    """Shift the times of events by the same duration, of invalid ones too. Others are unchanged, and so are all ids.

    An event that is more than a day after `newest` is unchanged if others are not: its time represents
    "never", and would shift the others into the distant past.

    Args:
        newest: The time that the newest event gets.
        publications: The messages to publish.
    """
    contracts = Contracts.load()
    timed = [(publication, _time(contracts, publication.data)) for publication in publications]
    times = [time.moment for _, time in timed if time]
    latest = newest + MAX_AHEAD
    if any(moment <= latest for moment in times):
        times = [moment for moment in times if moment <= latest]
    last = max(times, default=newest)
    for publication, time_of_event in timed:
        if time_of_event is None or time_of_event.moment > last:
            yield publication
        else:
            yield publication._replace(data=_shifted(publication.data, time_of_event, newest - last))


type _Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class _Time(NamedTuple):
    """The field with the time of an event, and that time."""

    field: str
    moment: datetime


def _time(contracts: Contracts, line: bytes) -> _Time | None:
    """Return the time of an event with a known type, valid or not."""
    try:
        event = decode(line)
        field = contracts.choose(event, {}).event_type.time_field
        moment = msgspec.convert(event.get(field), _Moment).astimezone(UTC)
    except (EventRejected, msgspec.ValidationError, OverflowError):
        return None
    return _Time(field, moment)


def _shifted(line: bytes, time_of_event: _Time, distance: timedelta) -> bytes:
    try:
        moment = time_of_event.moment + distance
    except OverflowError:
        return line
    text = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _encode(decode(line) | {time_of_event.field: text})
