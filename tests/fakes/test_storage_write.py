"""The Storage Write API, by a service that does what the emulator cannot: fail, hang, end connections, change."""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import msgspec
import pytest
from google.cloud.bigquery_storage_v1 import types
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from dataflow.recent_ids import RecentIds
from dataflow.storage_write import StorageWriter, write_client
from functions import log
from functions.ingest.http_client import ApiError
from functions.ingest.warehouse import InsertResult, InsertRow
from tests.support.waiting import PATIENCE, wait_until

SECRET = "alice@example.com"
INT64, STRING = types.TableFieldSchema.Type.INT64, types.TableFieldSchema.Type.STRING
DONE = InsertResult({}, {})

type Answer = Callable[[list[dict[str, Any]]], types.AppendRowsResponse]


def schema(**columns: int) -> types.TableSchema:
    fields = [types.TableFieldSchema(name=name, type_=kind, mode="NULLABLE") for name, kind in columns.items()]
    return types.TableSchema(fields=fields)


def taken(**fields: Any) -> types.AppendRowsResponse:
    return types.AppendRowsResponse(append_result=types.AppendRowsResponse.AppendResult(), **fields)


def failed(code: grpc.StatusCode, reason: str = "", *bad: int) -> types.AppendRowsResponse:
    """An answer with an error, which quotes what was sent."""
    response = types.AppendRowsResponse()
    status = types.AppendRowsResponse.pb(response).error
    status.code, status.message = code.value[0], f"no row for {SECRET}"
    if reason:
        packed = Packed()
        packed.Pack(types.StorageError.pb(types.StorageError(code=reason, error_message=SECRET)))
        status.details.append(packed)
    response.row_errors = [types.RowError(index=index, code="FIELDS_ERROR", message="bad") for index in bad]
    return response


class Service:
    """A Storage Write API of one table.

    Attributes:
        schema: The table's schema.
        answers: Answers of the next requests, or errors that end their connection; then all rows are taken.
        rows: All rows that were taken.
        requests: All requests.
        connections: Number of connections so far.
        schema_errors: Errors of the next calls that ask for the schema.
        reads: Number of times that the schema was asked for.
        hangs: Whether requests have no answer.
        is_impatient: Whether each connection ends after an answer.
    """

    def __init__(self) -> None:
        self.schema = schema(id=INT64)
        self.answers: collections.deque[types.AppendRowsResponse | grpc.StatusCode] = collections.deque()
        self.schema_errors: collections.deque[grpc.StatusCode] = collections.deque()
        self.rows: list[dict[str, Any]] = []
        self.requests: list[types.AppendRowsRequest] = []
        self.connections = 0
        self.reads = 0
        self.hangs = False
        self.is_impatient = False

    def append(
        self, requests: Iterator[types.AppendRowsRequest], context: grpc.ServicerContext
    ) -> Iterator[types.AppendRowsResponse]:
        self.connections += 1
        message: Any = None
        for request in requests:
            self.requests.append(request)
            if self.hangs:
                given_up = threading.Event()
                context.add_callback(given_up.set)
                given_up.wait()
                return
            if request.write_stream:
                file = FileDescriptorProto(name="row.proto", syntax="proto2")
                file.message_type.append(request.proto_rows.writer_schema.proto_descriptor)
                pool = descriptor_pool.DescriptorPool()
                pool.Add(file)
                message = message_factory.GetMessageClass(pool.FindMessageTypeByName(file.message_type[0].name))
            answer = self.answers.popleft() if self.answers else taken()
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, f"no row for {SECRET}")
            elif not answer.error.code:
                rows = map(message.FromString, request.proto_rows.rows.serialized_rows)
                self.rows += [json_format.MessageToDict(row) for row in rows]
            yield answer
            if self.is_impatient:
                return

    def stream(self, request: types.GetWriteStreamRequest, context: grpc.ServicerContext) -> types.WriteStream:
        self.reads += 1
        if self.schema_errors:
            context.abort(self.schema_errors.popleft(), SECRET)
        return types.WriteStream(name=request.name, table_schema=self.schema)

    @property
    def ids(self) -> list[int]:
        return [int(row["id"]) for row in self.rows]


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def server(service: Service) -> Iterator[grpc.Server]:
    """The service, at an address that the client finds."""
    methods = {
        "AppendRows": grpc.stream_stream_rpc_method_handler(
            service.append, types.AppendRowsRequest.deserialize, types.AppendRowsResponse.serialize
        ),
        "GetWriteStream": grpc.unary_unary_rpc_method_handler(
            service.stream, types.GetWriteStreamRequest.deserialize, types.WriteStream.serialize
        ),
    }
    handler = grpc.method_handlers_generic_handler("google.cloud.bigquery.storage.v1.BigQueryWrite", methods)
    running = grpc.server(concurrent.futures.ThreadPoolExecutor())
    running.add_generic_rpc_handlers([handler])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", f"127.0.0.1:{port}")
        yield running
    running.stop(None).wait()


@pytest.fixture
def writer(server: grpc.Server) -> Iterator[StorageWriter]:
    del server
    made = StorageWriter(write_client(), "p", "d")
    yield made
    made.close()


def insert(writer: StorageWriter, *ids: int, timeout: float = PATIENCE, **columns: Any) -> InsertResult:
    """Insert rows, whose insertIds are their ids."""
    rows = [msgspec.Raw(msgspec.json.encode({"id": number, **columns})) for number in ids]
    return writer.insert(
        "orders", [InsertRow(str(insert_id), row) for insert_id, row in zip(ids, rows, strict=True)], timeout
    )


def test_a_connection_is_opened_once(writer: StorageWriter, service: Service) -> None:
    """Its first request names the stream and describes the rows; the schema is read once."""
    assert insert(writer, 1, 2) == insert(writer, 3) == DONE
    assert service.ids == [1, 2, 3]
    assert (service.connections, service.reads) == (1, 1)
    first, second = service.requests
    assert first.write_stream == "projects/p/datasets/d/tables/orders/streams/_default"
    assert not second.write_stream
    assert not second.proto_rows.writer_schema.proto_descriptor.field


def test_threads_share_a_connection(writer: StorageWriter, service: Service) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(result == DONE for result in pool.map(lambda number: insert(writer, number), range(200)))
    assert sorted(service.ids) == list(range(200))
    assert service.connections == 1


def test_rejected_rows_are_removed_and_the_others_sent_again(writer: StorageWriter, service: Service) -> None:
    """BigQuery takes no row of a request with a bad one, and may find another one then."""
    service.answers += [
        failed(grpc.StatusCode.INVALID_ARGUMENT, "", 1, 2),
        failed(grpc.StatusCode.INVALID_ARGUMENT, "", 1),
    ]
    rejected, unfinished, _ = insert(writer, 0, 1, 2, 3, 4)
    assert {position: [*map(tuple, errors)] for position, errors in rejected.items()} == {
        position: [("$", "invalid", "bad")] for position in (1, 2, 3)
    }
    assert not unfinished
    assert service.ids == [0, 4]


@pytest.mark.parametrize("code", ["ABORTED", "CANCELLED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNKNOWN"])
def test_a_passing_error_is_retried(writer: StorageWriter, service: Service, code: str) -> None:
    """The error is in an answer, at the end of a connection, or where the schema is read."""
    error = grpc.StatusCode[code]
    service.schema_errors.append(error)
    service.answers += [failed(error), error]
    assert insert(writer, 1) == DONE
    assert service.ids == [1]
    assert (service.connections, service.reads) == (2, 2)


def test_an_error_that_does_not_pass_in_time_is_unfinished(writer: StorageWriter, service: Service) -> None:
    """It names the table and the code, and quotes nothing."""
    service.answers += [failed(grpc.StatusCode.UNAVAILABLE)] * 1_000
    rejected, unfinished, is_overloaded = insert(writer, 1, 2, timeout=2)
    assert not rejected
    assert unfinished == dict.fromkeys((0, 1), "orders: UNAVAILABLE")
    assert is_overloaded


def test_unavailable_server_makes_rows_retryable(writer: StorageWriter, server: grpc.Server) -> None:
    server.stop(None).wait()
    assert insert(writer, 1, timeout=2) == ({}, {0: "orders: UNAVAILABLE"}, True)


def test_a_connection_that_hangs_is_given_up_in_time(writer: StorageWriter, service: Service) -> None:
    """The connection is opened again for the next rows."""
    assert insert(writer, 1) == DONE
    service.hangs = True
    assert insert(writer, 2, timeout=1) == ({}, {0: "orders: DEADLINE_EXCEEDED"}, True)
    service.hangs = False
    assert insert(writer, 3) == DONE
    assert service.ids == [1, 3]


def test_connection_closed_by_bigquery_is_reopened(writer: StorageWriter, service: Service) -> None:
    """BigQuery ends an idle connection after ten minutes. The next one gets the description of the rows again."""
    service.is_impatient = True
    assert [insert(writer, number) for number in range(3)] == [DONE] * 3
    assert service.ids == [0, 1, 2]
    assert service.connections == 3


def test_a_change_of_the_schema_is_noticed(writer: StorageWriter, service: Service) -> None:
    """BigQuery says so in its answer; what is new is described over another connection."""
    service.answers.append(taken(updated_schema=schema(id=INT64, added=STRING)))
    assert insert(writer, 1) == DONE
    assert insert(writer, 2, added="x") == DONE
    assert service.rows == [{"id": "1"}, {"id": "2", "added": "x"}]
    assert (service.connections, service.reads) == (2, 1)


def test_a_type_that_has_changed_makes_no_dead_letter(writer: StorageWriter, service: Service) -> None:
    """A value that the table can hold by now is written. One that it cannot is rejected, and rejected by its schema."""
    assert insert(writer, 1, added=None) == InsertResult({}, {0: "orders lacks a column: added"})
    service.schema = schema(id=INT64, added=INT64)
    assert insert(writer, 1, added=1) == DONE
    service.schema = schema(id=INT64, added=types.TableFieldSchema.Type.DOUBLE)
    assert insert(writer, 2, added=1.5) == DONE
    assert service.rows[-1] == {"id": "2", "added": 1.5}
    rejected, *_ = insert(writer, 3, added="x")
    assert rejected.keys() == {0}


def test_a_row_is_appended_once_by_a_worker(writer: StorageWriter, service: Service) -> None:
    """A bundle comes again where a table takes none; insertAll, too, drops a second row with an insertId."""
    assert insert(writer, 1, 2, 1) == insert(writer, 2, 3) == DONE
    assert service.ids == [1, 2, 3]


def test_repeated_row_has_the_result_of_the_first(writer: StorageWriter, service: Service) -> None:
    """A row that was not appended is not remembered."""
    service.answers += [failed(grpc.StatusCode.INVALID_ARGUMENT, "", 0), taken()]
    rejected, *_ = insert(writer, 1, 2, 1)
    assert rejected.keys() == {0, 2}
    assert insert(writer, 1) == DONE
    assert service.ids == [2, 1]


def test_rows_are_not_remembered_for_ever(writer: StorageWriter, service: Service) -> None:
    """Rows that come again are remembered for longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dataflow.storage_write.RECENT_IDS", 2)
        for number in (1, 2, 1, 3, 1, 2):
            assert insert(writer, number) == DONE
    assert service.ids == [1, 2, 3, 2]


def test_an_id_is_forgotten_after_a_time_without_use() -> None:
    """Its row may have been deleted; while its bundle fails, it is asked for again and again."""
    clock = iter([0.0, 0.0, 60.0, 60.0, 119.0, 119.0, 180.0, 180.0]).__next__
    ids = RecentIds(10, 60, clock)
    ids.add("ab")
    assert [ids.remembered("a"), ids.remembered("ab"), ids.remembered("ab")] == [{"a"}, {"a"}, set()]


def test_a_column_that_cannot_be_written_is_none_for_other_rows(writer: StorageWriter, service: Service) -> None:
    """It may be of a type that has no encoding, or have a name that only BigQuery allows."""
    span = types.TableFieldSchema.Type.RANGE
    service.schema = schema(id=INT64, span=span, **{"größe": INT64, "order-id": STRING, "class": INT64})
    assert insert(writer, 1, **{"class": 2}) == DONE
    assert service.rows == [{"id": "1", "class": "2"}]
    assert insert(writer, 2, größe=1).retryable == {0: "orders lacks a column: größe"}


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        ("PERMISSION_DENIED", "", "Forbidden: 403 permissionDenied"),
        ("NOT_FOUND", "TABLE_NOT_FOUND", "NotFound: 404 tableNotFound"),
        ("INVALID_ARGUMENT", "SCHEMA_MISMATCH_EXTRA_FIELDS", "BadRequest: 400 schemaMismatchExtraFields"),
        ("FAILED_PRECONDITION", "", "BadRequest: 400 failedPrecondition"),
    ],
)
def test_an_error_of_the_request_fails_it(
    writer: StorageWriter, service: Service, code: str, reason: str, text: str
) -> None:
    """It is nothing that a row has done, and quotes none. The schema is read again before the next row."""
    service.answers.append(failed(grpc.StatusCode[code], reason))
    with pytest.raises(ApiError) as error:
        insert(writer, 1)
    assert str(error.value) == log.safe_message(error.value) == text
    assert insert(writer, 2) == DONE
    assert (service.ids, service.reads) == ([2], 2)


def test_closed_writer_leaves_no_thread(writer: StorageWriter, service: Service) -> None:
    """Its connections end, and no thread is left."""
    assert insert(writer, 1) == DONE
    writer.close()
    wait_until(
        lambda: not [thread for thread in threading.enumerate() if thread.name == "append-rows"], "threads have ended"
    )
