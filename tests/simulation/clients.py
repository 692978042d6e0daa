"""The transports of the clients that Sluice uses, over the simulated network: urllib3, requests and gRPC."""

import http
import io
import os
import types as python_types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import google.cloud.bigquery
import google.cloud.storage
import grpc
import requests
import urllib3
from google.api_core.exceptions import ServiceUnavailable
from google.api_core.retry import retry_base, retry_unary
from google.auth.credentials import AnonymousCredentials
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1 import types
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.simulation.machine import current_machine
from tests.simulation.network import Answer, ConnectionLost, Network, NotConnected, Request, TimedOut
from tests.simulation.pubsub import PullSubscription

type Serve = Callable[[Request], Answer]

_TIMEOUT = 60.0
_POOL: Any = None


@contextmanager
def google_clients_in_virtual_time() -> Iterator[None]:
    """Let the retries of Google's clients pause by the clock of the machine that they run on."""

    def monotonic() -> float:
        return current_machine().system.monotonic()

    def sleep(seconds: float) -> None:
        current_machine().sleep(seconds)

    def uniform(least: float, most: float) -> float:
        return current_machine().system.uniform(least, most)

    clock = python_types.SimpleNamespace(monotonic=monotonic, sleep=sleep)
    dice = python_types.SimpleNamespace(uniform=uniform)
    with (
        mock.patch.object(retry_unary, "time", clock),
        mock.patch.multiple(retry_base, time=clock, random=dice),
    ):
        yield


def urlopen(network: Network, name: str, serve: Serve) -> Callable[..., Any]:
    """Return the method of a `urllib3.PoolManager` that reaches a service."""

    def open_url(
        method: str, url: str, body: bytes, headers: dict[str, str], timeout: urllib3.Timeout, **_: Any
    ) -> Any:
        request = Request(method, url, body, headers)
        seconds = timeout.total if isinstance(timeout.total, int | float) else _TIMEOUT
        try:
            rows = body.count(b'"insertId"') if network.queues else 0
            answer = network.call(current_machine(), _text(name, request), lambda: serve(request), seconds, rows)
        except NotConnected as error:
            raise urllib3.exceptions.NewConnectionError(_POOL, str(error)) from None
        except ConnectionLost as error:
            raise urllib3.exceptions.ProtocolError(str(error)) from None
        except TimedOut as error:
            raise urllib3.exceptions.ReadTimeoutError(_POOL, url, str(error)) from None
        return python_types.SimpleNamespace(status=answer.status, data=answer.body)

    return open_url


class _Session:
    """The session of Google's clients; that of `requests` would take half of a scenario's time.

    Attributes:
        is_mtls: Whether it has a client certificate.
    """

    is_mtls = False

    def __init__(self, network: Network, name: str, serve: Serve) -> None:
        self._network = network
        self._name = name
        self._serve = serve

    def request(
        self,
        method: str,
        url: str,
        data: Any = None,
        headers: Mapping[str, Any] | None = None,
        timeout: Any = None,
        stream: bool = False,
        **_: Any,
    ) -> requests.Response:
        """Send a request."""
        body = data.read() if hasattr(data, "read") else data.encode() if isinstance(data, str) else data or b""
        sent = Request(method, url, body, headers or {})
        seconds = timeout[1] if isinstance(timeout, tuple) else timeout or _TIMEOUT
        try:
            answer = self._network.call(
                current_machine(), _text(self._name, sent), lambda: self._serve(sent), float(seconds)
            )
        except (NotConnected, ConnectionLost) as error:
            raise requests.exceptions.ConnectionError(str(error)) from None
        except TimedOut as error:
            raise requests.exceptions.ReadTimeout(str(error)) from None
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.body)
        if stream:
            response.raw = urllib3.HTTPResponse(
                response.raw, dict(answer.headers), answer.status, preload_content=False
            )
        response.request = requests.Request(method, url)  # type: ignore[assignment]  # errors name both
        response.url = url
        response.reason = http.HTTPStatus(answer.status).phrase
        return response


def storage_client(network: Network, serve: Serve) -> google.cloud.storage.Client:
    """Return Google's own client of Cloud Storage."""
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")  # as functions/clients.py does
    session = _Session(network, "storage", serve)
    return google.cloud.storage.Client("project", credentials=AnonymousCredentials(), _http=session)  # type: ignore[no-untyped-call]


type Query = Callable[[str, Mapping[str, Any]], list[google.cloud.bigquery.Row]]
"""Returns the rows of a query with its parameters."""


class _BigQueryClient(google.cloud.bigquery.Client):
    """Google's own client, but for queries: they are answered with rows. They ask a service and are never repeated."""

    network: Network
    ask: Query

    def query(self, query: str, *, job_config: Any, **_: Any) -> Any:  # type: ignore[override]  # as Sluice calls it
        rows = self.query_and_wait(query, job_config=job_config)
        return python_types.SimpleNamespace(result=lambda **_: rows)

    def query_and_wait(self, query: str, *, job_config: Any, **_: Any) -> Any:  # type: ignore[override]  # the same
        results: list[Any] = []

        def serve() -> Answer:
            results.append(self.ask(query, _parameters(job_config)))
            return Answer(http.HTTPStatus.OK)

        try:
            answer = self.network.call(current_machine(), "bigquery query", serve, _TIMEOUT)
        except (NotConnected, ConnectionLost, TimedOut) as error:
            raise ServiceUnavailable(str(error)) from None  # type: ignore[no-untyped-call]
        if answer.status != http.HTTPStatus.OK:
            raise ServiceUnavailable("error")  # type: ignore[no-untyped-call]
        return results[-1]


def _parameters(job_config: google.cloud.bigquery.QueryJobConfig) -> Mapping[str, Any]:
    texts: dict[str, Any] = {}
    for parameter in job_config.query_parameters:
        if isinstance(parameter, google.cloud.bigquery.ArrayQueryParameter):
            texts[parameter.name] = [str(value) for value in parameter.values]
        else:
            texts[parameter.name] = str(parameter.value)
    return texts


def bigquery_client(network: Network, serve: Serve, ask: Query) -> google.cloud.bigquery.Client:
    """Return Google's own client of BigQuery."""
    session = _Session(network, "bigquery", serve)
    client = _BigQueryClient("project", AnonymousCredentials(), session, location="US")  # type: ignore[arg-type,no-untyped-call]
    client.network, client.ask = network, ask
    return client


def subscriber_client(network: Network, subscription: PullSubscription) -> SubscriberClient:
    """Return Google's own client of a subscription that is pulled."""
    transport = SubscriberGrpcTransport(channel=_Channel(network, subscription))
    return SubscriberClient(transport=transport)


class _RpcError(grpc.RpcError, grpc.Call):
    """The error of a call."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__()
        self._code = code
        self._details = details

    def result(self) -> Any:
        raise self

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return ()

    initial_metadata = trailing_metadata

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, _: object) -> bool:
        return False


_CODES = {
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
}


class _Channel(grpc.Channel):
    """A channel to Pub/Sub."""

    def __init__(self, network: Network, subscription: PullSubscription) -> None:
        self._network = network
        self._methods: dict[str, Callable[[Any], Any]] = {
            "Pull": lambda request: subscription.pull(request.max_messages),
            "Acknowledge": lambda request: subscription.acknowledge(request.ack_ids),
            "ModifyAckDeadline": lambda request: subscription.modify(request.ack_ids, request.ack_deadline_seconds),
        }

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Any:
        name = method.rpartition("/")[2]
        return _Rpc(self._network, name, self._methods.get(name))

    def subscribe(
        self,
        callback: Callable[[grpc.ChannelConnectivity], None],
        try_to_connect: bool | None = False,
    ) -> None:
        del try_to_connect
        callback(grpc.ChannelConnectivity.READY)

    def unsubscribe(self, callback: object) -> None:
        """Do nothing: a callback is called at once, and never again."""

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        return self.unary_unary  # Sluice uses no streams: the client only wraps what it gets.

    stream_unary = unary_stream
    stream_stream = unary_stream

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is no connection."""


class _Rpc:
    """A method of Pub/Sub."""

    def __init__(self, network: Network, name: str, serve: Callable[[Any], Any] | None) -> None:
        self._network = network
        self._name = name
        self._serve = serve

    def __call__(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        assert self._serve is not None, self._name
        results: list[Any] = []

        def serve() -> Answer:
            assert self._serve is not None
            results.append(self._serve(request))
            return Answer(200)

        try:
            answer = self._network.call(current_machine(), f"pubsub {self._name}", serve, timeout or _TIMEOUT)
        except (NotConnected, ConnectionLost) as error:
            raise _RpcError(grpc.StatusCode.UNAVAILABLE, str(error)) from None
        except TimedOut as error:
            raise _RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, str(error)) from None
        if answer.status != http.HTTPStatus.OK:
            raise _RpcError(_CODES.get(answer.status, grpc.StatusCode.UNAVAILABLE), "error")
        [result] = results
        return result if result is not None else types.PullResponse()

    def with_call(self, request: Any, timeout: float | None = None, **arguments: Any) -> Any:
        return self(request, timeout, **arguments), None

    def future(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError  # gRPC wants the method; Google's synchronous client never calls it.


def _text(name: str, request: Request) -> str:
    return f"{name} {request.method} {request.url.partition('?')[0][-70:]}"
