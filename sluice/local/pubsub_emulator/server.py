"""A stand-in for Google's Pub/Sub emulator, for machines without the Cloud SDK or Java.

Speaks enough of `google.pubsub.v1` over gRPC that the real clients work unchanged with `PUBSUB_EMULATOR_HOST` set:
topics, subscriptions, publish, pull, acknowledge and ack deadlines. Redelivery, backoff and dead lettering follow
Pub/Sub's documented rules. Everything is in memory. What it cannot do (push, filters, ordering, exactly-once,
StreamingPull) it rejects with UNIMPLEMENTED.

    python -m sluice.local.pubsub_emulator.server --port 8085

The rules are `sluice.local.pubsub_emulator.state`; here they are put on gRPC.
"""

import argparse
import asyncio
import contextlib
import inspect
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.pubsub_v1 import types

from sluice.local.pubsub_emulator.state import MAX_MESSAGE_BYTES, Broker, CallRejected, LeasedMessage, PublishedMessage

MAX_IDLE_WAIT = 1.0  # seconds that a pull waits for a first message


type _Context = grpc.aio.ServicerContext[object, object]
type _Method = Callable[[Any, _Context], object]
type _MethodHandler = grpc.RpcMethodHandler[Any, Any]
type _ServiceHandler = grpc.GenericRpcHandler[Any, Any]


class PubSubService:
    """A `Broker` on gRPC, with the waiting that a pull does."""

    def __init__(self, broker: Broker, clock: Callable[[], float] = time.time) -> None:
        self._broker = broker
        self._clock = clock
        self._changed = asyncio.Event()  # set, and replaced, whenever a waiting pull may find something

    def handlers(self) -> list[_ServiceHandler]:
        """Return the methods of `google.pubsub.v1.Publisher` and `Subscriber`, for a `grpc.aio` server."""
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
        streaming = {"StreamingPull": grpc.stream_stream_rpc_method_handler(_reject_streaming_pull)}
        return [
            grpc.method_handlers_generic_handler(f"google.pubsub.v1.{service}", methods)
            for service, methods in (
                ("Publisher", {name: _handler(name, call) for name, call in publisher.items()}),
                ("Subscriber", {name: _handler(name, call) for name, call in subscriber.items()} | streaming),
            )
        ]

    def _publish(self, request: types.PublishRequest) -> types.PublishResponse:
        raw = types.PublishRequest.pb(request).messages  # proto-plus takes seven times as long per message
        messages = [PublishedMessage(each.data, dict(each.attributes), each.ordering_key) for each in raw]
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
        except CallRejected as error:
            await context.abort(error.code, str(error))

    # Without a response type it is google.protobuf.Empty, no bytes at all.
    return grpc.unary_unary_rpc_method_handler(
        answer, request.deserialize, response.serialize if response else lambda _: b""
    )


async def _reject_streaming_pull(_: object, context: _Context) -> None:
    message = "the Pub/Sub stand-in does not do StreamingPull (SubscriberClient.subscribe): use Pull"
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, message)


def _pull_response(leases: Iterable[LeasedMessage], *, counted: bool) -> types.PullResponse:
    response = types.PullResponse()
    received = types.PullResponse.pb(response).received_messages
    for lease in leases:
        raw = received.add(ack_id=lease.ack_id, delivery_attempt=lease.attempt if counted else 0).message
        message = lease.message
        raw.data, raw.ordering_key, raw.message_id = message.data, message.ordering_key, message.message_id
        raw.attributes.update(message.attributes)
        raw.publish_time.FromMilliseconds(int(message.publish_time * 1e3))
    return response


if __name__ == "__main__":
    main()
