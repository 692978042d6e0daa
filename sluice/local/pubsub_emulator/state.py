"""Pub/Sub's rules, in memory: leases, redelivery, backoff, dead letters.

Synchronous, and without a clock of its own: every `now` is seconds since the epoch.
"""

import heapq
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple, Self

import grpc
from google.pubsub_v1 import types

MAX_MESSAGE_BYTES = 10_000_000
MAX_RESPONSE_BYTES = 3_500_000  # a client rejects a response above gRPC's default of 4 MB
DELETED_TOPIC = "_deleted-topic_"

_NAME = re.compile(r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][\w.~+%-]{2,254}", re.ASCII)
_NOT_DONE = (
    *("filter", "enable_message_ordering", "enable_exactly_once_delivery", "message_transforms"),
    *("bigquery_config", "cloud_storage_config", "bigtable_config"),
)


class CallRejected(Exception):
    """A call that Pub/Sub answers with an error status.

    Attributes:
        code: NOT_FOUND, ALREADY_EXISTS, INVALID_ARGUMENT, or UNIMPLEMENTED for what this server does not do.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class PublishedMessage:
    """One message.

    Attributes:
        data: The payload; may be empty when there are attributes.
        attributes: The producer's attributes.
        ordering_key: Handed through; the order is not kept.
        message_id: Decimal, rising over the whole broker; empty until published.
        publish_time: Seconds since the epoch; 0 until published.
    """

    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str = ""
    message_id: str = ""
    publish_time: float = 0.0

    @property
    def size(self) -> int:
        """Bytes of payload and attributes."""
        return len(self.data) + sum(len(f"{key}{value}".encode()) for key, value in self.attributes.items())


class LeasedMessage(NamedTuple):
    """One delivery of a message, the subscriber's until `expires` (seconds since the epoch)."""

    ack_id: str
    message: PublishedMessage
    attempt: int
    expires: float


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings of a subscription's deliveries; all times in seconds."""

    ack_deadline: float
    minimum_backoff: float
    maximum_backoff: float
    dead_letter_topic: str
    max_delivery_attempts: int

    @classmethod
    def of(cls, resource: types.Subscription) -> Self:
        """Read the settings, with Pub/Sub's defaults and bounds.

        Raises:
            CallRejected: A value is out of its bounds, or a setting is not supported by this server.
        """
        settings = types.Subscription.pb(resource)
        asked = [name for name in _NOT_DONE if name in resource]
        asked += ["push_config"] if settings.push_config.push_endpoint else []
        if asked:
            raise CallRejected(grpc.StatusCode.UNIMPLEMENTED, f"the Pub/Sub stand-in does not do {', '.join(asked)}")
        deadline = settings.ack_deadline_seconds or 10
        _require(10 <= deadline <= 600, f"ack_deadline_seconds is 10 to 600, not {deadline}")
        retry, low, high = settings.retry_policy, 0.0, 0.0
        if settings.HasField("retry_policy"):
            low = retry.minimum_backoff.ToNanoseconds() / 1e9 if retry.HasField("minimum_backoff") else 10.0
            high = retry.maximum_backoff.ToNanoseconds() / 1e9 if retry.HasField("maximum_backoff") else 600.0
            _require(0 <= low <= high <= 600, f"retry_policy is 0 to 600 s, not {low} to {high}")
        dead, attempts = settings.dead_letter_policy.dead_letter_topic, 0
        if dead:
            attempts = settings.dead_letter_policy.max_delivery_attempts or 5
            _require(5 <= attempts <= 100, f"max_delivery_attempts is 5 to 100, not {attempts}")
        return cls(float(deadline), low, high, dead, attempts)

    def backoff(self, attempts: int) -> float:
        """Return seconds until the next delivery, after that many failed ones."""
        return min(self.maximum_backoff, self.minimum_backoff * 2.0 ** min(attempts - 1, 32))


class Subscription:
    """The messages of one subscription: waiting for delivery, or leased to a subscriber.

    Args:
        resource: The settings as created.
        dead_letter: Takes a lease whose last attempt has failed; answers whether it could.
    """

    def __init__(
        self, resource: types.Subscription, dead_letter: Callable[["Subscription", LeasedMessage, float], bool]
    ) -> None:
        self.resource = resource
        self.rules = Rules.of(resource)
        self._dead_letter = dead_letter
        self._order = count(1)
        # A heap of the time at which a message is ready, order, message, and number of attempts.
        self._waiting: list[tuple[float, int, PublishedMessage, int]] = []
        self._leases: dict[str, LeasedMessage] = {}
        self._expiries: list[tuple[float, str]] = []  # heap: expires, ack id; stale once the lease has changed
        self._ack_prefix = f"{resource.name}:"
        self._life = secrets.token_hex(4)  # so that an ack id from before a restart meets no new lease

    def enqueue(self, message: PublishedMessage, ready: float, attempts: int = 0) -> None:
        """Have the message delivered from `ready` on, after so many attempts."""
        heapq.heappush(self._waiting, (ready, next(self._order), message, attempts))

    def lease(self, max_messages: int, now: float) -> list[LeasedMessage]:
        """Hand out what is ready, oldest first, for the length of the ack deadline."""
        leases: list[LeasedMessage] = []
        size = 0
        while self._waiting and self._waiting[0][0] <= now and len(leases) < max_messages:
            size += self._waiting[0][2].size
            if leases and size > MAX_RESPONSE_BYTES:
                break
            _, order, message, attempts = heapq.heappop(self._waiting)
            ack_id = f"{self._ack_prefix}{self._life}-{order}"
            leases.append(LeasedMessage(ack_id, message, attempts + 1, now + self.rules.ack_deadline))
            self._hold(leases[-1])
        return leases

    def acknowledge(self, ack_ids: Iterable[str]) -> None:
        """End these leases for good; an id without a lease (expired, acknowledged before) is ignored."""
        self._release(ack_ids)

    def modify_ack_deadline(self, ack_ids: Iterable[str], seconds: float, now: float) -> None:
        """Let these leases end `seconds` from now; 0 gives them back at once (a nack)."""
        for lease in self._release(ack_ids):
            if seconds:
                self._hold(lease._replace(expires=now + seconds))
            else:
                self._give_back(lease, now)

    def expire(self, now: float) -> None:
        """Give back every lease that has run out."""
        while self.next_expiry <= now:
            expires, ack_id = heapq.heappop(self._expiries)
            lease = self._leases.get(ack_id)
            if lease and lease.expires == expires:
                self._give_back(self._leases.pop(ack_id), expires)

    @property
    def next_ready(self) -> float:
        """The time at which the next waiting message may be delivered; infinity for never."""
        return self._waiting[0][0] if self._waiting else math.inf

    @property
    def next_expiry(self) -> float:
        """The earliest time at which a lease expires; infinity for never."""
        return self._expiries[0][0] if self._expiries else math.inf

    def _hold(self, lease: LeasedMessage) -> None:
        self._leases[lease.ack_id] = lease
        heapq.heappush(self._expiries, (lease.expires, lease.ack_id))

    def _release(self, ack_ids: Iterable[str]) -> list[LeasedMessage]:
        ids = list(ack_ids)
        _require(bool(ids), "No ack ids specified")
        for ack_id in ids:
            _require(ack_id.startswith(self._ack_prefix), f"Invalid ack id: {ack_id}")
        return [self._leases.pop(ack_id) for ack_id in ids if ack_id in self._leases]

    def _give_back(self, lease: LeasedMessage, now: float) -> None:
        last = self.rules.dead_letter_topic and lease.attempt >= self.rules.max_delivery_attempts
        if not (last and self._dead_letter(self, lease, now)):
            self.enqueue(lease.message, now + self.rules.backoff(lease.attempt), lease.attempt)


class Broker:
    """All topics and subscriptions; every method raises `CallRejected` with the status that Pub/Sub answers with."""

    def __init__(self) -> None:
        self._topics: dict[str, types.Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._message_ids = count(1)

    def create_topic(self, resource: types.Topic) -> types.Topic:
        """Add a topic."""
        _require_new(resource.name, "topics", self._topics)
        return self._topics.setdefault(resource.name, resource)

    def topic(self, name: str) -> types.Topic:
        """Return the topic as created."""
        return _existing(name, self._topics)

    def topics(self, project: str) -> list[types.Topic]:
        """Return the topics of `projects/{project}`, by name."""
        return [self._topics[name] for name in sorted(self._topics) if name.startswith(f"{project}/")]

    def delete_topic(self, name: str) -> None:
        """Remove a topic; its subscriptions keep what they hold."""
        del self._topics[self.topic(name).name]
        for subscription in self._subscriptions.values():
            if subscription.resource.topic == name:
                subscription.resource.topic = DELETED_TOPIC

    def create_subscription(self, resource: types.Subscription) -> types.Subscription:
        """Add a subscription to what its topic gets from now on; the topics that it names must exist."""
        _require_new(resource.name, "subscriptions", self._subscriptions)
        subscription = Subscription(resource, self._dead_letter)
        for topic in filter(None, (resource.topic, subscription.rules.dead_letter_topic)):
            self.topic(topic)
        resource.ack_deadline_seconds = int(subscription.rules.ack_deadline)
        self._subscriptions[resource.name] = subscription
        return resource

    def subscription(self, name: str) -> Subscription:
        """Return the subscription of that name."""
        return _existing(name, self._subscriptions)

    def subscriptions(self, project: str) -> list[types.Subscription]:
        """Return the subscriptions of `projects/{project}`, by name."""
        names = sorted(name for name in self._subscriptions if name.startswith(f"{project}/"))
        return [self._subscriptions[name].resource for name in names]

    def delete_subscription(self, name: str) -> None:
        """Remove a subscription and what it holds."""
        del self._subscriptions[self.subscription(name).resource.name]

    def publish(self, topic: str, messages: list[PublishedMessage], now: float) -> list[str]:
        """Put each message into every subscription of the topic; answers the message ids, in order."""
        self.topic(topic)
        _require(0 < len(messages) <= 1000, "a publish request takes 1 to 1000 messages")
        _require(all(message.size for message in messages), "Some messages are empty")
        _require(sum(message.size for message in messages) <= MAX_MESSAGE_BYTES, "more than 10 MB in a request")
        return [self._deliver(topic, message, now) for message in messages]

    def pull(self, subscription: str, max_messages: int, now: float) -> list[LeasedMessage]:
        """Lease up to `max_messages` that are ready."""
        _require(max_messages > 0, "No max_messages specified")
        self._expire(now)
        return self.subscription(subscription).lease(min(max_messages, 1000), now)

    def acknowledge(self, subscription: str, ack_ids: Iterable[str], now: float) -> None:
        """Call `Subscription.acknowledge`. Messages whose lease has expired are not acknowledged, but redelivered."""
        self._expire(now)
        self.subscription(subscription).acknowledge(ack_ids)

    def modify_ack_deadline(self, subscription: str, ack_ids: Iterable[str], seconds: int, now: float) -> None:
        """Call `Subscription.modify_ack_deadline`."""
        _require(0 <= seconds <= 600, f"ack_deadline_seconds is 0 to 600, not {seconds}")
        self._expire(now)
        self.subscription(subscription).modify_ack_deadline(ack_ids, seconds, now)

    def next_due(self, subscription: str) -> float:
        """Return when a pull that found nothing may find messages without another call; infinity for never."""
        expiries = [other.next_expiry for other in self._subscriptions.values()]  # another's may dead-letter to here
        return min(self.subscription(subscription).next_ready, *expiries)

    def _expire(self, now: float) -> None:
        for subscription in self._subscriptions.values():
            subscription.expire(now)

    def _deliver(self, topic: str, message: PublishedMessage, now: float) -> str:
        published = replace(message, message_id=str(next(self._message_ids)), publish_time=now)
        for subscription in self._subscriptions.values():
            if subscription.resource.topic == topic:
                subscription.enqueue(published, now)
        return published.message_id

    def _dead_letter(self, source: Subscription, lease: LeasedMessage, now: float) -> bool:
        if source.rules.dead_letter_topic not in self._topics:
            return False
        _, project, _, subscription_id = source.resource.name.split("/")
        published = datetime.fromtimestamp(lease.message.publish_time, UTC).isoformat(timespec="milliseconds")
        added = {
            "CloudPubSubDeadLetterSourceSubscription": subscription_id,
            "CloudPubSubDeadLetterSourceSubscriptionProject": project,
            "CloudPubSubDeadLetterSourceDeliveryCount": str(lease.attempt),
            "CloudPubSubDeadLetterSourceTopicPublishTime": published.replace("+00:00", "Z"),
        }
        copy = replace(lease.message, attributes={**lease.message.attributes, **added})
        self._deliver(source.rules.dead_letter_topic, copy, now)
        return True


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise CallRejected(grpc.StatusCode.INVALID_ARGUMENT, message)


def _require_new(name: str, kind: str, resources: Mapping[str, object]) -> None:
    match = _NAME.fullmatch(name)
    _require(bool(match and match[1] == kind), f"Invalid [{kind}] name: (name={name})")
    if name in resources:
        raise CallRejected(grpc.StatusCode.ALREADY_EXISTS, f"Resource already exists: {name}")


def _existing[T](name: str, resources: Mapping[str, T]) -> T:
    if name not in resources:
        raise CallRejected(grpc.StatusCode.NOT_FOUND, f"Resource not found: {name}")
    return resources[name]
