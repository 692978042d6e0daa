"""The Pub/Sub dead-letter subscription as a source of lines."""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Self

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
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.types import PubsubMessage

from functions.archive.envelope import Envelope
from functions.core.message import Message
from functions.files.sources import Line, Unreadable
from sluice.backfill.run import Settled

PUBLISHED = "CloudPubSubDeadLetterSourceTopicPublishTime"
"""Attribute that Pub/Sub adds: the time at which it first accepted the message
(https://cloud.google.com/pubsub/docs/handling-failures#track-delivery-attempts)."""

LEASE_SECONDS = 30
"""Seconds of a lease. After a crash, messages are redelivered that soon."""

_EXTEND_SECONDS = 8.0
_AT_ONCE = 1_000
"""Maximum messages of a pull, and ids of a call; a call takes 512 KiB of them
(https://cloud.google.com/pubsub/quotas#resource_limits)."""

_EMPTY_PAUSE = 0.2
_CALL_SECONDS = 20.0

_RETRY = Retry(
    predicate=if_exception_type(Aborted, InternalServerError, ServiceUnavailable, Unknown),
    initial=0.1,
    maximum=5.0,
    timeout=_CALL_SECONDS,
)

_log = logging.getLogger(__name__)


class Lease(NamedTuple):
    """A leased message, which is not redelivered until the lease ends."""

    ack_id: str


class Undeliverable:
    """The messages of a subscription, leased while the context lasts. Messages that are not acknowledged are returned.

    It is a listener of the backfill, which acknowledges the messages of durable events.

    Args:
        subscription: Full name, `projects/PROJECT/subscriptions/SUBSCRIPTION`.
        patience: Seconds without a message after which the subscription counts as empty.
        limit: Maximum messages; None for all.
    """

    def __init__(self, subscription: str, patience: float = 10.0, limit: int | None = None) -> None:
        self._subscription = subscription
        self._patience = patience
        self._limit = limit
        self._client = SubscriberClient()
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="leases", daemon=True)
        self.acknowledged = 0

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._keeper.join()
        with contextlib.suppress(GoogleAPIError, GoogleAuthError):  # The leases run out by themselves.
            self._extend(self._leases(), 0)
        self._client.close()

    def lines(self, advance: Callable[[int], object] = lambda _: None) -> Iterator[Line]:
        """Yield the envelope of each message until the subscription is empty.

        Raises:
            Unreadable: The subscription cannot be read.
        """
        try:
            for number, (ack_id, message) in enumerate(itertools.islice(self._pull(), self._limit), start=1):
                advance(1)
                data = msgspec.json.encode(Envelope.from_message(original(message), None))
                yield Line(self._subscription, number, data, Lease(ack_id))
        except (GoogleAPIError, GoogleAuthError) as error:
            raise Unreadable(f"{self._subscription}: {error}") from error

    def _pull(self) -> Iterator[tuple[str, PubsubMessage]]:
        heard = time.monotonic()
        while time.monotonic() - heard < self._patience:
            try:
                answer = self._client.pull(
                    subscription=self._subscription, max_messages=_AT_ONCE, retry=_RETRY, timeout=self._patience
                )
            except DeadlineExceeded:  # So long there was nothing.
                continue
            if not answer.received_messages:
                time.sleep(_EMPTY_PAUSE)
                continue
            ids = [received.ack_id for received in answer.received_messages]
            with self._lock:
                self._held.update(ids)
            self._extend(ids, LEASE_SECONDS)
            yield from ((received.ack_id, received.message) for received in answer.received_messages)
            heard = time.monotonic()

    def __call__(self, settled: Iterable[Settled]) -> None:
        """Acknowledge the messages of events that are durable.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Pub/Sub rejected the call or did not answer; it redelivers.
        """
        self.acknowledge(
            [result.event.line.origin.ack_id for result in settled if isinstance(result.event.line.origin, Lease)]
        )

    def acknowledge(self, ack_ids: Sequence[str]) -> None:
        """Acknowledge messages: Pub/Sub deletes them.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Pub/Sub rejected the call or did not answer; it redelivers.
        """
        for batch in itertools.batched(ack_ids, _AT_ONCE, strict=False):
            self._client.acknowledge(
                subscription=self._subscription, ack_ids=list(batch), retry=_RETRY, timeout=_CALL_SECONDS
            )
            with self._lock:
                self._held.difference_update(batch)
                self.acknowledged += len(batch)

    def _leases(self) -> list[str]:
        with self._lock:
            return list(self._held)

    def _keep(self) -> None:
        while not self._ended.wait(_EXTEND_SECONDS):
            try:
                self._extend(self._leases(), LEASE_SECONDS)
            except (GoogleAPIError, GoogleAuthError) as error:  # They come again: a repetition, no loss.
                _log.warning("leases are not extended: %s", error)

    def _extend(self, ids: Sequence[str], seconds: int) -> None:
        for batch in itertools.batched(ids, _AT_ONCE, strict=False):
            self._client.modify_ack_deadline(
                subscription=self._subscription,
                ack_ids=list(batch),
                ack_deadline_seconds=seconds,
                retry=_RETRY,
                timeout=_CALL_SECONDS,
            )


def original(message: PubsubMessage) -> Message:
    """Return a message of the dead-letter topic as it was in its original topic, as far as Pub/Sub preserves it.

    The event id is the attribute `event_id` or, without one, the id of this message, as Pub/Sub does not preserve
    the original id.
    """
    attributes = dict(message.attributes)
    accepted = message.publish_time  # with nanoseconds, which nothing else knows of
    published = _instant(attributes.get(PUBLISHED, "")) or datetime.combine(accepted.date(), accepted.timetz())
    return Message(
        data=message.data,
        attributes=attributes,
        message_id=message.message_id,
        publish_time=published,
        ordering_key=message.ordering_key,
    )


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
