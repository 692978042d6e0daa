"""A stand-in for Pub/Sub that rejects every call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc


class _Rejection(grpc.GenericRpcHandler):  # type: ignore[type-arg] # It takes no arguments at run time.
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self._code = code
        self._text = text

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(self._code, self._text))


@contextlib.contextmanager
def running(code: grpc.StatusCode, text: str) -> Iterator[str]:
    """Serve it while the context lasts; gives the address for PUBSUB_EMULATOR_HOST.

    Args:
        code: Code of all answers.
        text: Message of all answers.
    """
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Rejection(code, text)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
