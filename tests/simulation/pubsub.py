"""A simulated Pub/Sub: a subscription with leases, redelivery with backoff, and messages that are delivered twice."""

import collections
import dataclasses
import random
from collections.abc import Callable, Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from google.pubsub_v1 import types

from functions.core.message import Message
from tests.simulation.virtual_time import Loop

MIN_BACKOFF = 1.0
MAX_BACKOFF = 20.0
"""Seconds between the deliveries of a message; shorter than those of a deployment, so that a scenario has more."""


@dataclasses.dataclass(slots=True)
class Delivered:
    """A message, and the state of its delivery.

    Attributes:
        message: The message.
        lease: Id of its last lease.
        leased_until: End of the lease; 0 for none.
        attempts: Number of deliveries.
        is_acknowledged: Whether it is delivered no more.
    """

    message: Message
    lease: str = ""
    leased_until: float = 0.0
    attempts: int = 0
    is_acknowledged: bool = False


class PullSubscription:
    """A subscription that is pulled.

    Args:
        rng: Draws which messages a pull returns.
        clock: Returns the seconds since the begin.
        acknowledged: Called with each message that is acknowledged.

    Attributes:
        messages: All messages, by id.
        repeat_share: Share of the messages that are delivered again although they are acknowledged.
    """

    def __init__(self, rng: random.Random, clock: Callable[[], float], acknowledged: Callable[[Message], None]) -> None:
        self._rng = rng
        self._clock = clock
        self._acknowledged = acknowledged
        self._leases: dict[str, Delivered] = {}
        self.repeat_share = 0.0
        self.messages: dict[str, Delivered] = {}

    def publish(self, message: Message) -> None:
        """Take a message."""
        self.messages[message.message_id] = Delivered(message)

    def pull(self, max_messages: int) -> types.PullResponse:
        """Lease some of the messages, in any order."""
        free = [
            each for each in self.messages.values() if not each.is_acknowledged and each.leased_until <= self._clock()
        ]
        count = min(max_messages, len(free), self._rng.choice((1, 3, 10, 1_000)))
        return types.PullResponse(received_messages=[self._lease(each) for each in self._rng.sample(free, count)])

    def _lease(self, delivered: Delivered) -> types.ReceivedMessage:
        delivered.attempts += 1
        delivered.lease = f"{delivered.message.message_id}-{delivered.attempts}"
        delivered.leased_until = self._clock() + 60.0
        self._leases[delivered.lease] = delivered
        message = delivered.message
        published = Timestamp()
        published.FromDatetime(message.publish_time)
        return types.ReceivedMessage(
            ack_id=delivered.lease,
            delivery_attempt=delivered.attempts,
            message=types.PubsubMessage(
                data=message.data,
                attributes=dict(message.attributes),
                message_id=message.message_id,
                publish_time=published,
            ),
        )

    def modify(self, ack_ids: Iterable[str], seconds: float) -> None:
        """Extend leases, or end them."""
        for lease in ack_ids:
            delivered = self._leases[lease]
            if delivered.lease == lease and delivered.leased_until > self._clock():
                delivered.leased_until = self._clock() + seconds

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """Deliver messages no more, unless their lease has ended."""
        for lease in ack_ids:
            delivered = self._leases[lease]
            if delivered.is_acknowledged or delivered.lease != lease:
                continue
            delivered.is_acknowledged = self._rng.random() >= self.repeat_share
            self._acknowledged(delivered.message)


class PushSubscription:
    """A subscription that pushes each message to an instance until it is acknowledged.

    Args:
        rng: Draws instances, latencies and repetitions.
        loop: The loop of Pub/Sub.
        push: Sends a message to an instance, and calls back with the status of its answer; returns False if there is
            no instance.
        ack_deadline: Seconds after which a message without an answer is delivered again.
        repeat_share: Share of the messages that are delivered again although they are acknowledged.
        max_attempts: Number of deliveries after which a message is given up; 0 for no limit.
        give_up: Called with the messages that are given up.

    Attributes:
        unacknowledged: Ids of messages that are not acknowledged.
    """

    def __init__(
        self,
        rng: random.Random,
        loop: Loop,
        push: Callable[[Message, Callable[[int], None]], bool],
        ack_deadline: float,
        repeat_share: float,
        max_attempts: int = 0,
        give_up: Callable[[Message], object] = lambda _: None,
    ) -> None:
        self._max_attempts = max_attempts
        self._give_up = give_up
        self._attempts: dict[str, int] = collections.defaultdict(int)
        self._rng = rng
        self._loop = loop
        self._push = push
        self._ack_deadline = ack_deadline
        self._repeat_share = repeat_share
        self.unacknowledged: set[str] = set()

    def publish(self, message: Message) -> None:
        """Take a message, and deliver it soon."""
        self.unacknowledged.add(message.message_id)
        self._deliver(message, MIN_BACKOFF)
        if self._rng.random() < self._repeat_share:
            self._loop.call_later(self._rng.random() * MAX_BACKOFF, self._deliver, message, MAX_BACKOFF)

    def _deliver(self, message: Message, backoff: float) -> None:
        self._attempts[message.message_id] += 1
        is_over = False

        def end(status: int) -> None:
            nonlocal is_over
            if is_over:
                return
            is_over = True
            if 200 <= status < 300:
                self.unacknowledged.discard(message.message_id)
            elif message.message_id not in self.unacknowledged:
                return
            elif self._attempts[message.message_id] == self._max_attempts:
                self.unacknowledged.discard(message.message_id)
                self._give_up(message)
            else:
                pause = backoff * (0.5 + self._rng.random())
                self._loop.call_later(pause, self._deliver, message, min(2 * backoff, MAX_BACKOFF))

        self._loop.call_later(self._ack_deadline, end, 0)
        if not self._push(message, end):
            self._loop.call_later(self._rng.random(), end, 503)
