"""A proxy before Pub/Sub that changes nothing, and records which events a subscriber acknowledges."""

import contextlib
import functools

import grpc
from google.pubsub_v1 import types

from sluice.local import pubsub
from tests.history.records import Acknowledgement, Recorder

_SUBSCRIBER = "google.pubsub.v1.Subscriber"


class PubSubProxy:
    """Listens on a port. Use it as an asynchronous context.

    An acknowledgement is recorded when it arrives here: by then its events must be durable.

    Args:
        upstream: `HOST:PORT` of the emulator.

    Attributes:
        recorder: Records the acknowledgements; None for nobody.
        address: `HOST:PORT` of the proxy.
    """

    def __init__(self, upstream: str) -> None:
        self.recorder: Recorder | None = None
        self.address = ""
        self._upstream = upstream
        self._events: dict[str, str] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "PubSubProxy":
        self._channel = await self._stack.enter_async_context(pubsub.open_channel(self._upstream))
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        methods = {
            name: grpc.unary_unary_rpc_method_handler(functools.partial(self._call, name))
            for name in ("Pull", "Acknowledge", "ModifyAckDeadline")
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SUBSCRIBER, methods),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._stack.push_async_callback(server.stop, 1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _call(self, method: str, request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        if method == "Acknowledge" and self.recorder:
            ack_ids = types.AcknowledgeRequest.deserialize(request).ack_ids
            self.recorder.add(Acknowledgement([self._events[ack_id] for ack_id in ack_ids]))
        call = self._channel.unary_unary(f"/{_SUBSCRIBER}/{method}", bytes, bytes)
        try:
            answer: bytes = await call(request, timeout=context.time_remaining())
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")
        if method == "Pull":
            for received in types.PullResponse.pb(types.PullResponse.deserialize(answer)).received_messages:
                self._events[received.ack_id] = received.message.attributes["event_id"]
        return answer
