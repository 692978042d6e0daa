"""The BigQuery emulator's Storage Write API, with what it lacks made up for."""

import concurrent.futures

import grpc
from google.cloud.bigquery_storage_v1 import types
from local_bigquery.catalog import tables
from local_bigquery.grpc import server, write

_SERVICE = "google.cloud.bigquery.storage.v1.BigQueryWrite"

MAX_CONNECTIONS = 64
"""Maximum number of connections that append rows, each of which has a thread. The emulator's own 17th would hang."""

MAX_REQUEST_BYTES = 10_000_000
"""Maximum bytes of a request, as in BigQuery (https://cloud.google.com/bigquery/quotas#write-api-limits)."""


def get_write_stream(request: types.GetWriteStreamRequest) -> types.WriteStream:
    """Return a stream, with its table's schema where the full view is asked for."""
    stream: types.WriteStream = write.get(request)
    if request.view == types.WriteStreamView.FULL:
        columns = tables.columns(*write._stream(request.name).table)
        stream.table_schema = types.TableSchema(fields=[write._field(column) for column in columns])
    return stream


def start(host: str, port: int) -> tuple[grpc.Server, int]:
    """Serve as the emulator does, with more threads and BigQuery's limit of a request."""
    threads = concurrent.futures.ThreadPoolExecutor(MAX_CONNECTIONS)
    serving = grpc.server(threads, options=[("grpc.max_receive_message_length", MAX_REQUEST_BYTES)])
    handlers = [grpc.method_handlers_generic_handler(name, methods) for name, methods in server.SERVICES.items()]
    serving.add_generic_rpc_handlers(handlers)
    port = serving.add_insecure_port(f"{host}:{port}")
    serving.start()
    return serving, port


def install() -> None:
    """Give the emulator in this process what it lacks."""
    get = server._unary(get_write_stream, types.GetWriteStreamRequest, types.WriteStream)
    server.SERVICES[_SERVICE]["GetWriteStream"] = get
    server.start = start
