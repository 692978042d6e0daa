"""A connection of the Storage Write API: requests to append rows, which are answered in their order."""

import collections
import concurrent.futures
import queue
import threading
from collections.abc import Sequence
from typing import Any

import grpc
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteTransport
from google.cloud.bigquery_storage_v1.types import AppendRowsRequest, AppendRowsResponse


class AppendFailed(Exception):
    """Raised for a failed call. The text quotes no payload.

    Attributes:
        code: Status of gRPC.
        reason: Reason in words of the Storage Write API (`TABLE_NOT_FOUND`); empty where it gives none.
    """

    def __init__(self, code: grpc.StatusCode, reason: str = "") -> None:
        super().__init__(f"{code.name} {reason}".rstrip())
        self.code = code
        self.reason = reason


class AppendConnection:
    """Appends rows over one stream of gRPC, which several threads may share.

    The client library's own `AppendRowsStream` polls for an answer, which takes up to a second, and its streams cannot
    be cancelled while they are being opened.

    Args:
        transport: BigQuery's Storage Write API.
        first: Template of the first request: name of the stream, and descriptor of its rows.
    """

    def __init__(self, transport: BigQueryWriteTransport, first: AppendRowsRequest) -> None:
        self._first: AppendRowsRequest | None = first
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[AppendRowsRequest | None] = queue.SimpleQueue()
        self._unanswered: collections.deque[concurrent.futures.Future[AppendRowsResponse]] = collections.deque()
        self._is_closed = False
        routing = ("x-goog-request-params", f"write_stream={first.write_stream}")
        append_rows: Any = transport.append_rows
        self._call = append_rows(iter(self._requests.get, None), metadata=(routing,))
        threading.Thread(target=self._read, name="append-rows", daemon=True).start()

    @property
    def is_closed(self) -> bool:
        """Whether no more requests can be sent.

        It was closed, or BigQuery has ended it, as it does after 10 minutes without a request.
        """
        return self._is_closed

    def append(self, rows: Sequence[bytes], timeout: float) -> AppendRowsResponse:
        """Append rows, all or none; blocks.

        Args:
            rows: Serialized messages.
            timeout: Maximum seconds to wait for the answer. Then the connection is closed, which fails all requests.

        Returns:
            The answer, which may be an error.

        Raises:
            Failed: There is no answer.
        """
        request = AppendRowsRequest()
        future: concurrent.futures.Future[AppendRowsResponse] = concurrent.futures.Future()
        with self._lock:
            if self._is_closed:
                raise AppendFailed(grpc.StatusCode.UNAVAILABLE)
            if self._first is not None:
                request, self._first = self._first, None
            AppendRowsRequest.pb(request).proto_rows.rows.serialized_rows.extend(rows)
            self._unanswered.append(future)
            self._requests.put(request)
        try:
            return future.result(timeout)
        except TimeoutError:
            self._call.cancel()
            raise AppendFailed(grpc.StatusCode.DEADLINE_EXCEEDED) from None

    def close(self) -> None:
        """Accept no more requests, and end the connection when all are answered."""
        with self._lock:
            self._is_closed = True
            self._requests.put(None)

    def _read(self) -> None:
        """Resolve the future of each answer, until the connection ends."""
        code = grpc.StatusCode.UNAVAILABLE
        try:
            for response in self._call:
                self._unanswered.popleft().set_result(response)
        except grpc.RpcError as error:
            code = error.code()
        finally:
            self.close()
            while self._unanswered:
                self._unanswered.popleft().set_exception(AppendFailed(code))
