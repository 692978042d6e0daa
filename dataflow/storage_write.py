"""Writes rows by the Storage Write API, over gRPC: to the default stream of each table, as protocol buffers.

It costs a fifth of `insertAll`, and three times its CPU. BigQuery knows no insertId here: a row that two workers append
is there twice (docs/decisions.md).
"""

import functools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
import msgspec
from google.api_core import exceptions
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport
from google.cloud.bigquery_storage_v1.types import (
    AppendRowsRequest,
    AppendRowsResponse,
    GetWriteStreamRequest,
    ProtoSchema,
    StorageError,
    TableSchema,
    WriteStreamView,
)

from dataflow.append_connection import AppendConnection, AppendFailed
from dataflow.recent_ids import RecentIds
from dataflow.row_encoder import InvalidRow, RowEncoder, UnknownColumn
from functions.core.dead_letters import Violation
from functions.ingest.http_client import ApiError
from functions.ingest.retry import Call, Service
from functions.ingest.warehouse import InsertResult, InsertRow

MAX_REQUEST_BYTES = 9_500_000
"""Maximum bytes of the rows of a request. BigQuery takes less than 10 MB, the descriptor included
(https://cloud.google.com/bigquery/quotas#write-api-limits)."""

_ROW_OVERHEAD = 5
"""Maximum bytes beside each row: a tag and its length."""

RECENT_IDS = 50_000
"""Maximum number of insertIds that are remembered for a table: they take 9 MB."""

RECENT_SECONDS = 600.0
"""Seconds for which an insertId is remembered after its last use: longer than the retry of a failed bundle takes, and
short enough to wait for it before deleted rows are published again."""

_CHANNEL_OPTIONS = (("grpc.max_reconnect_backoff_ms", 5_000),)
"""Options of the channel. By default gRPC waits up to two minutes before it reconnects after an outage."""

_RETRYABLE = {
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}
"""https://cloud.google.com/bigquery/docs/write-api-best-practices#error_handling."""


class _Encoded(NamedTuple):
    """Rows of an insert, by position.

    Attributes:
        rows: Serialized messages.
        rejected: Rows that the table cannot hold, with the violations.
        lacking: Rows with a column that the table lacks, and which.
    """

    rows: dict[int, bytes]
    rejected: dict[int, Sequence[Violation]]
    lacking: dict[int, str]


class _Stream:
    """The default stream of a table, as long as the table has the same schema. Safe for threads.

    Args:
        client: The Storage Write API.
        name: `projects/PROJECT/datasets/DATASET/tables/TABLE/streams/_default`.
        schema: The table's schema.

    Attributes:
        schema: The table's schema.
    """

    def __init__(self, client: BigQueryWriteClient, name: str, schema: TableSchema) -> None:
        self.schema = schema
        self._encoder = RowEncoder(schema)
        self._client = client
        self._name = name
        self._lock = threading.Lock()
        self._connection: AppendConnection | None = None

    def encode(self, records: Mapping[int, InsertRow]) -> _Encoded:
        """Encode rows."""
        encoded = _Encoded({}, {}, {})
        for position, record in records.items():
            try:
                row = self._encoder.encode(record.columns)
            except UnknownColumn as error:
                encoded.lacking[position] = str(error)
            except InvalidRow as error:
                encoded.rejected[position] = [error.violation]
            else:
                if len(row) + _ROW_OVERHEAD > MAX_REQUEST_BYTES:
                    encoded.rejected[position] = [Violation("$", "invalid", "the row is too large for BigQuery")]
                else:
                    encoded.rows[position] = row
        return encoded

    def append(self, rows: Sequence[bytes], timeout: float) -> AppendRowsResponse:
        """Append rows over the stream's connection, which is opened where there is none.

        Raises:
            Failed: The rows were not appended, or are not known to be. Rows that BigQuery rejects are in the response.
        """
        with self._lock:
            if self._connection is None or self._connection.is_closed:
                self._connection = AppendConnection(self._client.transport, self._first_request())
            connection = self._connection
        response = connection.append(rows, timeout)
        if response.error.code and not response.row_errors:
            raise _failed(response)
        return response

    def close(self) -> None:
        """End the connection when all of its requests are answered."""
        with self._lock:
            if self._connection:
                self._connection.close()

    def _first_request(self) -> AppendRowsRequest:
        return AppendRowsRequest(
            write_stream=self._name,
            proto_rows=AppendRowsRequest.ProtoData(
                writer_schema=ProtoSchema(proto_descriptor=self._encoder.descriptor)
            ),
            # As `insertAll` has it: a column that a row lacks has its default value.
            default_missing_value_interpretation=AppendRowsRequest.MissingValueInterpretation.DEFAULT_VALUE,
            trace_id="sluice",
        )


class StorageWriter:
    """Writes rows into the tables of a dataset, as `functions.ingest.warehouse.Warehouse` does.

    Several threads may share it.

    Args:
        client: The Storage Write API.
        project: The dataset's project.
        dataset: Name of the dataset.
    """

    def __init__(self, client: BigQueryWriteClient, project: str, dataset: str) -> None:
        self._client = client
        self._tables = f"projects/{project}/datasets/{dataset}/tables"
        self._service = Service()
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}
        self._appended: dict[str, RecentIds] = {}

    def insert(self, table: str, records: Sequence[InsertRow], timeout: float) -> InsertResult:
        """Append rows to a table; blocks. One bad row does not fail its neighbours.

        A row that this worker has appended lately is durable, and is left out by its insertId: a failed bundle is
        retried, as long as one of its tables accepts no rows.

        Args:
            table: Name of the table.
            records: The rows, at least one.
            timeout: Maximum seconds, retries included.

        Raises:
            ApiError: BigQuery rejected the request.
        """
        call = Call(self._service, timeout, time.monotonic(), random.uniform)
        ids = [record.insert_id for record in records]
        appended = self._recent_ids(table).remembered(ids)
        first: dict[str, int] = {}
        for position, insert_id in enumerate(ids):
            first.setdefault(insert_id, position)
        waiting = {place: records[place] for insert_id, place in first.items() if insert_id not in appended}
        try:
            insertion = self._insert(table, waiting, call)
        except AppendFailed as error:
            self._forget(table)
            raise _api_error(error) from None
        places = [(position, first[insert_id]) for position, insert_id in enumerate(ids)]
        rejected = {position: insertion.rejected[place] for position, place in places if place in insertion.rejected}
        unfinished = {
            position: insertion.retryable[place] for position, place in places if place in insertion.retryable
        }
        return InsertResult(rejected, unfinished, insertion.is_overloaded)

    def _insert(self, table: str, records: Mapping[int, InsertRow], call: Call) -> InsertResult:
        """Append rows by position.

        Raises:
            Failed: BigQuery rejected the request, for a reason that is not retryable.
        """
        rejected: dict[int, Sequence[Violation]] = {}
        unfinished = dict.fromkeys(records, "")
        try:
            stream = self._stream(table, call)
            encoded = stream.encode(records)
            if encoded.lacking or encoded.rejected:  # Or a column has got another type since the schema was read.
                stream = self._reload(table, call)
                encoded = stream.encode(records)
            rejected |= encoded.rejected
            for rows in _requests(encoded.rows):
                newly_rejected = self._append(table, stream, rows, call)
                rejected |= newly_rejected
                taken = rows.keys() - newly_rejected.keys()
                self._recent_ids(table).add(records[position].insert_id for position in taken)
                for position in rows:
                    del unfinished[position]
        except AppendFailed as error:
            if error.code not in _RETRYABLE:
                raise
            waiting = unfinished.keys() - rejected.keys()
            return InsertResult(rejected, dict.fromkeys(waiting, f"{table}: {error}"), is_overloaded=True)
        reasons = {position: f"{table} lacks a column: {column}" for position, column in encoded.lacking.items()}
        return InsertResult(rejected, reasons)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for stream in self._streams.values():
                stream.close()
        self._client.transport.close()  # type: ignore[no-untyped-call]

    def _append(
        self, table: str, stream: _Stream, rows: Mapping[int, bytes], call: Call
    ) -> dict[int, Sequence[Violation]]:
        """Append the rows of a request, and return those that BigQuery rejects.

        If it rejects some, it appends none; then the others are sent again.

        Raises:
            Failed: BigQuery appended none, and not because some are bad.
        """
        rejected: dict[int, Sequence[Violation]] = {}
        while positions := [position for position in rows if position not in rejected]:
            serialized = [rows[position] for position in positions]
            response = self._retried(call, functools.partial(stream.append, serialized))
            if response.updated_schema.fields:
                self._replace(table, response.updated_schema)
            if not response.row_errors:
                break
            for error in response.row_errors:
                rejected[positions[error.index]] = [Violation("$", "invalid", error.message)]
        return rejected

    def _recent_ids(self, table: str) -> RecentIds:
        with self._lock:
            return self._appended.setdefault(table, RecentIds(RECENT_IDS, RECENT_SECONDS))

    def _stream(self, table: str, call: Call) -> _Stream:
        return self._streams.get(table) or self._reload(table, call)

    def _reload(self, table: str, call: Call) -> _Stream:
        """Return the stream of a table with the schema that the table has now."""
        request = GetWriteStreamRequest(name=self._name(table), view=WriteStreamView.FULL)

        def read(timeout: float) -> TableSchema:
            try:
                return self._client.get_write_stream(request, retry=None, timeout=timeout).table_schema
            except exceptions.GoogleAPICallError as error:
                raise AppendFailed(error.grpc_status_code or grpc.StatusCode.UNKNOWN) from None

        return self._replace(table, self._retried(call, read))

    def _replace(self, table: str, schema: TableSchema) -> _Stream:
        """Return the stream of a table with a schema, over another connection than that of a former schema."""
        with self._lock:
            stream = self._streams.get(table)
            if stream is None or stream.schema != schema:
                if stream:
                    stream.close()
                stream = self._streams[table] = _Stream(self._client, self._name(table), schema)
            return stream

    def _forget(self, table: str) -> None:
        """Forget the schema and the rows of a table, which may be replaced before the next row."""
        with self._lock:
            self._appended.pop(table, None)
            if stream := self._streams.pop(table, None):
                stream.close()

    def _name(self, table: str) -> str:
        return f"{self._tables}/{table}/streams/_default"

    def _retried[Answer](self, call: Call, attempt: Callable[[float], Answer]) -> Answer:
        """Return the answer of the first attempt that does not fail for a retryable reason."""
        while True:
            started = time.monotonic()
            timeout = call.timeout(started)
            try:
                answer = attempt(timeout)
            except AppendFailed as error:
                has_timed_out = error.code is grpc.StatusCode.DEADLINE_EXCEEDED
                if has_timed_out:
                    self._service.answer_time.timed_out(timeout)
                if error.code not in _RETRYABLE:
                    raise
                pause = call.pause(time.monotonic(), after_timeout=has_timed_out)
                if pause is None:
                    raise
            else:
                self._service.answered(time.monotonic() - started)
                return answer
            time.sleep(pause)


def _requests(rows: Mapping[int, bytes]) -> Iterator[dict[int, bytes]]:
    """Divide rows into requests that BigQuery takes."""
    request: dict[int, bytes] = {}
    size = 0
    for position, row in rows.items():
        if request and size + len(row) + _ROW_OVERHEAD > MAX_REQUEST_BYTES:
            yield request
            request, size = {}, 0
        request[position] = row
        size += len(row) + _ROW_OVERHEAD
    if request:
        yield request


_CODES: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def _failed(response: AppendRowsResponse) -> AppendFailed:
    """Return the error of a response, whose message may quote what was sent."""
    status = AppendRowsResponse.pb(response).error
    detail = StorageError.pb()()
    for packed in status.details:
        if packed.Unpack(detail):
            return AppendFailed(_code(status.code), StorageError.StorageErrorCode(detail.code).name)
    return AppendFailed(_code(status.code))


def _code(number: int) -> grpc.StatusCode:
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)


def _api_error(error: AppendFailed) -> ApiError:
    """Return an error as the REST API would answer with it."""
    first, *others = (error.reason or error.code.name).lower().split("_")
    reason = first + "".join(map(str.title, others))
    status = exceptions.from_grpc_status(error.code, "").code  # type: ignore[no-untyped-call]
    body = {"error": {"errors": [{"reason": reason}]}}
    return ApiError(int(status or 500), msgspec.json.encode(body))


def write_client() -> BigQueryWriteClient:
    """Return a client of the Storage Write API, with Application Default Credentials.

    It is one of the emulator at BIGQUERY_STORAGE_EMULATOR_HOST (`HOST:PORT`), if that is set.
    """
    if emulator := os.environ.get("BIGQUERY_STORAGE_EMULATOR_HOST"):
        channel = grpc.insecure_channel(emulator, _CHANNEL_OPTIONS)
        transport: Any = BigQueryWriteGrpcTransport(channel=channel)
    else:
        transport = functools.partial(BigQueryWriteGrpcTransport, channel=_create_channel)
    return BigQueryWriteClient(transport=transport)  # type: ignore[no-untyped-call]


def _create_channel(host: str, *, options: Sequence[tuple[str, Any]] = (), **arguments: Any) -> grpc.Channel:
    channel: grpc.Channel = BigQueryWriteGrpcTransport.create_channel(
        host, options=[*options, *_CHANNEL_OPTIONS], **arguments
    )
    return channel
