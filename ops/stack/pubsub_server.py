"""A stand-in for Google's Pub/Sub emulator, for machines without the Cloud SDK or Java.

Speaks enough of `google.pubsub.v1` over gRPC that the real clients work unchanged with `PUBSUB_EMULATOR_HOST` set:
topics, subscriptions, publish, pull, acknowledge and ack deadlines. Redelivery, backoff and dead lettering follow
Pub/Sub's documented rules. Everything is in memory. What it cannot do (push, filters, ordering, exactly-once,
StreamingPull) it refuses with UNIMPLEMENTED.

    python -m ops.stack.pubsub_server --port 8085

`Broker` and `Subscription` are the rules: synchronous, no clock of their own, every `now` in seconds since the epoch.
`PubSubService` puts them on gRPC.
"""

import argparse
import asyncio
import contextlib
import heapq
import inspect
import math
import re
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple, Self

import grpc
from google.pubsub_v1 import types

MAX_MESSAGE_BYTES = 10_000_000
MAX_RESPONSE_BYTES = 3_500_000  # a client refuses a response above gRPC's default of 4 MB
MAX_IDLE_WAIT = 1.0  # seconds that a pull waits for a first message
DELETED_TOPIC = "_deleted-topic_"

_NAME = re.compile(r"projects/[^/]+/(topics|subscriptions)/(?!goog)[A-Za-z][\w.~+%-]{2,254}", re.ASCII)
_NOT_DONE = (
    *("filter", "enable_message_ordering", "enable_exactly_once_delivery", "message_transforms"),
    *("bigquery_config", "cloud_storage_config", "bigtable_config"),
)


type _Context = grpc.aio.ServicerContext[object, object]
type _Method = Callable[[Any, _Context], object]
type _MethodHandler = grpc.RpcMethodHandler[Any, Any]
type _ServiceHandler = grpc.GenericRpcHandler[Any, Any]


class Refused(Exception):
    """A call that Pub/Sub answers with an error status.

    Attributes:
        code: NOT_FOUND, ALREADY_EXISTS, INVALID_ARGUMENT, or UNIMPLEMENTED for what this server does not do.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Message:
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


class Lease(NamedTuple):
    """One delivery of a message, the subscriber's until `expires` (seconds since the epoch)."""

    ack_id: str
    message: Message
    attempt: int
    expires: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What a subscription's settings ask of its deliveries; all times in seconds."""

    ack_deadline: float
    minimum_backoff: float
    maximum_backoff: float
    dead_letter_topic: str
    max_delivery_attempts: int

    @classmethod
    def of(cls, resource: types.Subscription) -> Self:
        """Read the settings, with Pub/Sub's defaults and bounds.

        Raises:
            Refused: A value is out of its bounds, or they ask for what this server does not do.
        """
        settings = types.Subscription.pb(resource)
        asked = [name for name in _NOT_DONE if name in resource]
        asked += ["push_config"] if settings.push_config.push_endpoint else []
        if asked:
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"the Pub/Sub stand-in does not do {', '.join(asked)}")
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
        """Seconds until the next delivery, after that many failed ones."""
        return min(self.maximum_backoff, self.minimum_backoff * 2.0 ** min(attempts - 1, 32))


class Subscription:
    """The messages of one subscription: waiting for delivery, or leased to a subscriber.

    Args:
        resource: The settings as created.
        dead_letter: Takes a lease whose last attempt has failed; answers whether it could.
    """

    def __init__(
        self, resource: types.Subscription, dead_letter: Callable[["Subscription", Lease, float], bool]
    ) -> None:
        self.resource = resource
        self.rules = Rules.of(resource)
        self._dead_letter = dead_letter
        self._order = count(1)
        self._waiting: list[tuple[float, int, Message, int]] = []  # heap: ready at, order, message, attempts made
        self._leases: dict[str, Lease] = {}
        self._expiries: list[tuple[float, str]] = []  # heap: expires, ack id; stale once the lease has changed
        self._ack_prefix = f"{resource.name}:"
        self._life = secrets.token_hex(4)  # so that an ack id from before a restart meets no new lease

    def enqueue(self, message: Message, ready: float, attempts: int = 0) -> None:
        """Have the message delivered from `ready` on, after so many attempts."""
        heapq.heappush(self._waiting, (ready, next(self._order), message, attempts))

    def lease(self, max_messages: int, now: float) -> list[Lease]:
        """Hand out what is ready, oldest first, for the length of the ack deadline."""
        leases: list[Lease] = []
        size = 0
        while self._waiting and self._waiting[0][0] <= now and len(leases) < max_messages:
            size += self._waiting[0][2].size
            if leases and size > MAX_RESPONSE_BYTES:
                break
            _, order, message, attempts = heapq.heappop(self._waiting)
            ack_id = f"{self._ack_prefix}{self._life}-{order}"
            leases.append(Lease(ack_id, message, attempts + 1, now + self.rules.ack_deadline))
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
        """When the next waiting message may be delivered; infinity for never."""
        return self._waiting[0][0] if self._waiting else math.inf

    @property
    def next_expiry(self) -> float:
        """When, at the earliest, a lease runs out; infinity for never."""
        return self._expiries[0][0] if self._expiries else math.inf

    def _hold(self, lease: Lease) -> None:
        self._leases[lease.ack_id] = lease
        heapq.heappush(self._expiries, (lease.expires, lease.ack_id))

    def _release(self, ack_ids: Iterable[str]) -> list[Lease]:
        ids = list(ack_ids)
        _require(bool(ids), "No ack ids specified")
        for ack_id in ids:
            _require(ack_id.startswith(self._ack_prefix), f"Invalid ack id: {ack_id}")
        return [self._leases.pop(ack_id) for ack_id in ids if ack_id in self._leases]

    def _give_back(self, lease: Lease, now: float) -> None:
        last = self.rules.dead_letter_topic and lease.attempt >= self.rules.max_delivery_attempts
        if not (last and self._dead_letter(self, lease, now)):
            self.enqueue(lease.message, now + self.rules.backoff(lease.attempt), lease.attempt)


class Broker:
    """All topics and subscriptions; every method raises `Refused` with the status that Pub/Sub answers with."""

    def __init__(self) -> None:
        self._topics: dict[str, types.Topic] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._message_ids = count(1)

    def create_topic(self, resource: types.Topic) -> types.Topic:
        """Add a topic."""
        _require_new(resource.name, "topics", self._topics)
        return self._topics.setdefault(resource.name, resource)

    def topic(self, name: str) -> types.Topic:
        """The topic as created."""
        return _existing(name, self._topics)

    def topics(self, project: str) -> list[types.Topic]:
        """The topics of `projects/{project}`, by name."""
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
        """The subscription of that name."""
        return _existing(name, self._subscriptions)

    def subscriptions(self, project: str) -> list[types.Subscription]:
        """The subscriptions of `projects/{project}`, by name."""
        names = sorted(name for name in self._subscriptions if name.startswith(f"{project}/"))
        return [self._subscriptions[name].resource for name in names]

    def delete_subscription(self, name: str) -> None:
        """Remove a subscription and what it holds."""
        del self._subscriptions[self.subscription(name).resource.name]

    def publish(self, topic: str, messages: list[Message], now: float) -> list[str]:
        """Put each message into every subscription of the topic; answers the message ids, in order."""
        self.topic(topic)
        _require(0 < len(messages) <= 1000, "a publish request takes 1 to 1000 messages")
        _require(all(message.size for message in messages), "Some messages are empty")
        _require(sum(message.size for message in messages) <= MAX_MESSAGE_BYTES, "more than 10 MB in a request")
        return [self._deliver(topic, message, now) for message in messages]

    def pull(self, subscription: str, max_messages: int, now: float) -> list[Lease]:
        """Lease up to `max_messages` that are ready."""
        _require(max_messages > 0, "No max_messages specified")
        self._expire(now)
        return self.subscription(subscription).lease(min(max_messages, 1000), now)

    def acknowledge(self, subscription: str, ack_ids: Iterable[str], now: float) -> None:
        """As `Subscription.acknowledge`; what has expired by now is not acknowledged, it comes again."""
        self._expire(now)
        self.subscription(subscription).acknowledge(ack_ids)

    def modify_ack_deadline(self, subscription: str, ack_ids: Iterable[str], seconds: int, now: float) -> None:
        """As `Subscription.modify_ack_deadline`."""
        _require(0 <= seconds <= 600, f"ack_deadline_seconds is 0 to 600, not {seconds}")
        self._expire(now)
        self.subscription(subscription).modify_ack_deadline(ack_ids, seconds, now)

    def next_due(self, subscription: str) -> float:
        """When a pull that found nothing may find something although nobody calls; infinity for never."""
        expiries = [other.next_expiry for other in self._subscriptions.values()]  # another's may dead-letter to here
        return min(self.subscription(subscription).next_ready, *expiries)

    def _expire(self, now: float) -> None:
        for subscription in self._subscriptions.values():
            subscription.expire(now)

    def _deliver(self, topic: str, message: Message, now: float) -> str:
        published = replace(message, message_id=str(next(self._message_ids)), publish_time=now)
        for subscription in self._subscriptions.values():
            if subscription.resource.topic == topic:
                subscription.enqueue(published, now)
        return published.message_id

    def _dead_letter(self, source: Subscription, lease: Lease, now: float) -> bool:
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


class PubSubService:
    """A `Broker` on gRPC, with the waiting that a pull does."""

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.time) -> None:
        self._broker = broker
        self._clock = clock
        self._changed = asyncio.Event()  # set, and replaced, whenever a waiting pull may find something

    def handlers(self) -> list[_ServiceHandler]:
        """The methods of `google.pubsub.v1.Publisher` and `Subscriber`, for a `grpc.aio` server."""
        broker, clock = self._broker, self._clock
        publisher: dict[str, _Method] = {
            "CreateTopic": lambda r, _: broker.create_topic(r),
            "GetTopic": lambda r, _: broker.topic(r.topic),
            "DeleteTopic": lambda r, _: broker.delete_topic(r.topic),
            "ListTopics": lambda r, _: types.ListTopicsResponse(topics=broker.topics(r.project)),
            "Publish": lambda r, _: self._publish(r),
        }
        subscriber: dict[str, _Method] = {
            "CreateSubscription": lambda r, _: broker.create_subscription(r),
            "GetSubscription": lambda r, _: broker.subscription(r.subscription).resource,
            "DeleteSubscription": lambda r, _: broker.delete_subscription(r.subscription),
            "ListSubscriptions": lambda r, _: types.ListSubscriptionsResponse(
                subscriptions=broker.subscriptions(r.project)
            ),
            "Pull": self._pull,
            "Acknowledge": lambda r, _: broker.acknowledge(r.subscription, r.ack_ids, clock()),
            "ModifyAckDeadline": lambda r, _: self._modify_ack_deadline(r),
        }
        streaming = {"StreamingPull": grpc.stream_stream_rpc_method_handler(_refuse_streaming_pull)}
        return [
            grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", methods)
            for service, methods in (
                ("Publisher", {name: _handler(name, call) for name, call in publisher.items()}),
                ("Subscriber", {name: _handler(name, call) for name, call in subscriber.items()} | streaming),
            )
        ]

    def _publish(self, request: types.PublishRequest) -> types.PublishResponse:
        raw = types.PublishRequest.pb(request).messages  # proto-plus takes seven times as long per message
        messages = [Message(each.data, dict(each.attributes), each.ordering_key) for each in raw]
        message_ids = self._broker.publish(request.topic, messages, self._clock())
        self._wake_pulls()
        return types.PublishResponse(message_ids=message_ids)

    def _modify_ack_deadline(self, request: types.ModifyAckDeadlineRequest) -> None:
        seconds = request.ack_deadline_seconds
        self._broker.modify_ack_deadline(request.subscription, request.ack_ids, seconds, self._clock())
        self._wake_pulls()

    async def _pull(self, request: types.PullRequest, context: _Context) -> types.PullResponse:
        # An empty answer comes a second before the caller's deadline, as from Google's emulator.
        patience = min(MAX_IDLE_WAIT, (context.time_remaining() or math.inf) - 1.0)
        end = self._clock() + (0.0 if request.return_immediately else patience)
        counted = bool(self._broker.subscription(request.subscription).rules.dead_letter_topic)
        while True:
            changed, now = self._changed, self._clock()
            leases = self._broker.pull(request.subscription, request.max_messages, now)
            if leases or now >= end:
                return _pull_response(leases, counted=counted)
            due = min(end, self._broker.next_due(request.subscription))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), due - now)

    def _wake_pulls(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def serve(port: int) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT; one line on stdout says when it is ready.

    Raises:
        RuntimeError: The port is taken.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", 2 * MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", 2 * MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),  # otherwise a second server shares the port silently
        ]
    )
    server.add_generic_rpc_handlers(tuple(PubSubService(Broker()).handlers()))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sys.stdout.write(f"Pub/Sub stand-in ready on 127.0.0.1:{bound}\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop(grace=0.2)


def main() -> None:
    """Run the server from the command line."""
    parser = argparse.ArgumentParser(description="A stand-in for Google's Pub/Sub emulator.")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1; 0 takes a free one")
    asyncio.run(serve(parser.parse_args().port))


def _handler(name: str, method: _Method) -> _MethodHandler:
    """Put a method on gRPC, with the request and response types that the API's naming gives it."""
    resource = name.removeprefix("Create").removeprefix("Get")
    request = getattr(types, f"{name}Request", None) or getattr(types, resource)
    response = getattr(types, f"{name}Response", None) or getattr(types, resource, None)

    async def answer(message: object, context: _Context) -> object:
        try:
            result = method(message, context)
            return await result if inspect.isawaitable(result) else result
        except Refused as refused:
            await context.abort(refused.code, str(refused))

    # Without a response type it is google.protobuf.Empty, no bytes at all.
    return grpc.unary_unary_rpc_method_handler(
        answer, request.deserialize, response.serialize if response else lambda _: b""
    )


async def _refuse_streaming_pull(_: object, context: _Context) -> None:
    message = "the Pub/Sub stand-in does not do StreamingPull (SubscriberClient.subscribe): use Pull"
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, message)


def _pull_response(leases: Iterable[Lease], *, counted: bool) -> types.PullResponse:
    response = types.PullResponse()
    received = types.PullResponse.pb(response).received_messages
    for lease in leases:
        raw = received.add(ack_id=lease.ack_id, delivery_attempt=lease.attempt if counted else 0).message
        message = lease.message
        raw.data, raw.ordering_key, raw.message_id = message.data, message.ordering_key, message.message_id
        raw.attributes.update(message.attributes)
        raw.publish_time.FromMilliseconds(int(message.publish_time * 1e3))
    return response


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, message)


def _require_new(name: str, kind: str, known: Mapping[str, object]) -> None:
    match = _NAME.fullmatch(name)
    _require(bool(match and match[1] == kind), f"Invalid [{kind}] name: (name={name})")
    if name in known:
        raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"Resource already exists: {name}")


def _existing[T](name: str, known: Mapping[str, T]) -> T:
    if name not in known:
        raise Refused(grpc.StatusCode.NOT_FOUND, f"Resource not found: {name}")
    return known[name]


if __name__ == "__main__":
    main()
