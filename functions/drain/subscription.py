"""The subscription that `drain` pulls: messages, their leases, and their acknowledgements."""

import itertools
import logging
import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import grpc
from google.api_core.exceptions import DeadlineExceeded, GoogleAPIError, ServiceUnavailable
from google.api_core.retry import Retry
from google.cloud.pubsub_v1 import SubscriberClient, types

from functions import log
from functions.core.message import Message, from_proto
from functions.system import SYSTEM, System, Thread

LEASE_SECONDS = 60
"""Seconds for which a lease is extended."""

EXTEND_EVERY = LEASE_SECONDS / 3
"""Seconds between two extensions, and at most before the first: the subscription's ack deadline has to be longer."""

MAX_PULLED = 1_000
"""Maximum number of messages that a pull returns (https://cloud.google.com/pubsub/quotas#resource_limits)."""

_MAX_IDS = 1_000
"""Maximum number of acknowledgement ids in a request, which has 512 KiB at most."""

_RETRY = Retry(timeout=20.0)
_TIMEOUT = 10.0

_EXIT_SECONDS = 1.0
"""Maximum seconds that the end waits for the extension of leases. One that does not end by then changes nothing."""

logger = logging.getLogger("functions.main")


class Lease(NamedTuple):
    """A message that was pulled, and that nobody else is given until its lease ends.

    Attributes:
        ack_id: Pub/Sub's id of this delivery.
        message: The message.
    """

    ack_id: str
    message: Message


class Subscription:
    """Pulls messages, and keeps their leases until they are acknowledged, or until the context ends.

    A lease that is not extended any more ends after a minute, and Pub/Sub delivers the message again.

    Args:
        client: Pub/Sub, for this context only: the platform freezes an instance between two runs, and a connection that
            was lost meanwhile would look like an empty subscription.
        name: `projects/PROJECT/subscriptions/NAME`.
        system: The machine.
    """

    def __init__(self, client: SubscriberClient, name: str, system: System = SYSTEM) -> None:
        self._client = client
        self._name = name
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._system = system
        self._ended = system.event()
        self._extender: Thread | None = None

    def __enter__(self) -> Self:
        """Connect, and extend leases from now on.

        Raises:
            google.api_core.exceptions.ServiceUnavailable: Pub/Sub does not answer.
        """
        # Otherwise a pull would end at its deadline, as if the subscription were empty.
        connection = grpc.channel_ready_future(self._client.transport.grpc_channel)
        try:
            connection.result(_TIMEOUT)
        except grpc.FutureTimeoutError as error:
            message = f"Pub/Sub did not answer within {_TIMEOUT:g} s"
            raise ServiceUnavailable(message) from error  # type: ignore[no-untyped-call]
        finally:
            connection.cancel()
        self._extender = self._system.start(self._extend_leases, "leases")
        return self

    def __exit__(self, *_: object) -> None:
        """Extend no lease any more."""
        self._ended.set()
        if self._extender is not None:
            self._extender.join(_EXIT_SECONDS)
        self._client.close()

    def pull(self, max_messages: int, seconds: float) -> list[Lease]:
        """Return the next messages, as soon as there are any; none if none arrives in time.

        Args:
            max_messages: Their maximum number; Pub/Sub may return fewer at any time.
            seconds: Maximum seconds to wait.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Pub/Sub rejected the request or is not available.
        """
        request = types.PullRequest(subscription=self._name, max_messages=min(max_messages, MAX_PULLED))
        try:
            answer = self._client.pull(request=request, retry=None, timeout=seconds)
        except DeadlineExceeded:
            return []
        # The messages as protocol buffers: the wrappers around them cost more than the processing of an event.
        received = types.PullResponse.pb(answer).received_messages
        leases = [Lease(each.ack_id, from_proto(each.message, each.delivery_attempt or None)) for each in received]
        with self._lock:
            self._held.update(lease.ack_id for lease in leases)
        return leases

    def acknowledge(self, leases: Sequence[Lease]) -> None:
        """Acknowledge messages; Pub/Sub may deliver one again all the same.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Pub/Sub rejected the request or is not available.
        """
        for batch in itertools.batched((lease.ack_id for lease in leases), _MAX_IDS, strict=False):
            self._client.acknowledge(subscription=self._name, ack_ids=list(batch), retry=_RETRY, timeout=_TIMEOUT)
            with self._lock:
                self._held.difference_update(batch)

    def _extend_leases(self) -> None:
        while not self._ended.wait(EXTEND_EVERY):
            with self._lock:
                held = list(self._held)
            self._extend(held)

    def _extend(self, ack_ids: Iterable[str]) -> None:
        for batch in itertools.batched(ack_ids, _MAX_IDS, strict=False):
            try:
                self._client.modify_ack_deadline(
                    subscription=self._name,
                    ack_ids=list(batch),
                    ack_deadline_seconds=LEASE_SECONDS,
                    retry=_RETRY,
                    timeout=_TIMEOUT,
                )
            except GoogleAPIError as error:  # The messages are delivered again, and become duplicates.
                logger.warning("leases are not extended: %s", log.safe_message(error))
