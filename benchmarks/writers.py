"""`python -m benchmarks.writers`: CPU and price of a row, by insertAll and by the Storage Write API.

Both write what batches of the benchmark's events become, table by table, to services in another process that answer at
once and without TLS.
"""

import concurrent.futures
import contextlib
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Annotated

import grpc
import msgspec
import typer
from google.cloud.bigquery import SchemaField
from google.cloud.bigquery_storage_v1 import types

from benchmarks import sizes, stand_in
from benchmarks.events import payloads
from benchmarks.machine import FUNCTION_CORE, OTHER_CORE, on_core
from benchmarks.spread import Spread
from benchmarks.tables import number, text
from dataflow.storage_write import StorageWriter, write_client
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.ingest.batch_writer import Inserts, by_table
from functions.ingest.http_client import bigquery_api
from functions.ingest.warehouse import InsertRow, Warehouse
from functions.schema.ddl import declared_table
from functions.schema.definitions import Kind, definitions
from functions.settings import Settings
from functions.system import utc_now
from sluice.cost import prices
from sluice.doc_tables import Table

SETTINGS = Settings(archive_bucket="archive-of-a-project", google_cloud_project="project", code_version="00042-abc")


TIMEOUT = 60.0
BATCHES = 20
LATENCIES = 50

type Batches = Sequence[tuple[str, Sequence[InsertRow]]]
"""Rows, and the table that they go to."""


def batches(events: int) -> Batches:
    """Return the rows and dead letters of batches of events."""
    process = EventPipeline.from_settings(SETTINGS)
    endless = itertools.cycle(payloads("mixed"))
    numbers = itertools.count()
    rows: list[tuple[str, Sequence[InsertRow]]] = []
    for _ in range(BATCHES):
        sent = [
            Message(data, {"event_id": f"{n:036d}"}, f"{n:017d}", utc_now())
            for (data, _), n in zip(itertools.islice(endless, events), numbers, strict=False)
        ]
        outcomes = by_table((process(message, utc_now()) for message in sent), lambda outcome: outcome)
        for table, records in outcomes.items():
            rows.append((table, [InsertRow(record.insert_id, record.encoded(sizes.URI)) for record in records]))
    return rows


_ids = itertools.count()


def new(rows: Batches) -> Batches:
    """Return rows with insertIds that no writer has seen."""
    return [(table, [InsertRow(f"{next(_ids):024d}", row.columns) for row in batch]) for table, batch in rows]


def write(writer: Inserts, rows: Batches) -> None:
    """Write all rows.

    Raises:
        AssertionError: The service did not take all.
    """
    for table, records in rows:
        insertion = writer.insert(table, records, TIMEOUT)
        if insertion.rejected or insertion.retryable:
            raise AssertionError(f"not all rows of {table} were taken: {insertion}")


def cpu(writer: Inserts, rows: Batches) -> float:
    """Return the seconds of CPU of this process, all threads included, that it takes to write rows."""
    rows = new(rows)
    started = time.process_time()
    write(writer, rows)
    return time.process_time() - started


def milliseconds(writer: Inserts, rows: Batches) -> float:
    """Return the median time until a single row is durable."""
    table, records = rows[0]
    taken = []
    for _ in range(LATENCIES):
        single = new([(table, records[:1])])
        started = time.perf_counter()
        write(writer, single)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1000


def usd_of_million(rows: Batches) -> Mapping[str, float]:
    """Return what BigQuery charges for a million rows such as these."""
    billed = [max(len(bytes(_raw(row))), prices.MIN_ROW_BYTES) for _, batch in rows for row in batch]
    return {
        "insertAll": statistics.mean(billed) * prices.INSERTED_BYTES.usd_per_unit * 1e6,
        "Storage Write API": sizes.measure().row * prices.WRITTEN_BYTES.usd_per_unit * 1e6,
    }


def _raw(record: InsertRow) -> msgspec.Raw:
    if not isinstance(record.columns, msgspec.Raw):
        raise TypeError("columns are JSON here")
    return record.columns


def measure(events: int, repetitions: int) -> Table:
    """Measure both writers in turn, by batches of so many events."""
    rows = batches(events)
    count = sum(len(batch) for _, batch in rows)
    usd = usd_of_million(rows)
    spent: dict[str, list[float]] = {name: [] for name in usd}
    with on_core(FUNCTION_CORE), writers() as compared:
        for writer in compared.values():
            write(writer, rows)  # connections are open then, and schemas read
        for _ in range(repetitions):
            for name, writer in compared.items():
                spent[name].append(cpu(writer, rows) / count * 1e6)
        latencies = {name: milliseconds(writer, rows) for name, writer in compared.items()}
    cells = []
    for name, seconds in spent.items():
        spread = Spread.of(seconds)
        on_dataflow = spread.median * prices.DATAFLOW_VCPU_HOURS.usd_per_unit / 3600
        cells.append([name, text(spread), f"{on_dataflow:.4f}", f"{usd[name]:.4f}", number(latencies[name])])
    heads = [">µs of CPU for a row", ">USD of Dataflow's CPU", ">USD of BigQuery", ">ms for one row"]
    note = (
        f"USD for a million rows. Batches of {events} events, {count // BATCHES} rows in {len(rows) // BATCHES} tables."
    )
    return Table("writers", "Writers of rows", ["", *heads], cells, note)


@contextlib.contextmanager
def writers() -> Iterator[Mapping[str, Inserts]]:
    """Both writers, with services of their own, while the context lasts."""
    project = SETTINGS.google_cloud_project or ""
    with stand_in.running() as rest, _storage_api() as address, _environment(rest.url, address):
        storage = StorageWriter(write_client(), project, SETTINGS.dataset)
        yield {"insertAll": Warehouse(bigquery_api(), project, SETTINGS.dataset), "Storage Write API": storage}
        storage.close()


@contextlib.contextmanager
def _environment(rest: str, address: str) -> Iterator[None]:
    variables = {"BIGQUERY_EMULATOR_HOST": rest, "BIGQUERY_STORAGE_EMULATOR_HOST": address}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _storage_api() -> Iterator[str]:
    """Run a Storage Write API that accepts all rows unread, in a process of its own, and yield its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    with on_core(OTHER_CORE):
        process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(connection: Connection) -> None:
    schemas = {
        definition.name.rpartition(".")[2]: declared_table(definition.ddl).schema
        for definition in definitions(SETTINGS.google_cloud_project or "", SETTINGS)
        if definition.kind is Kind.TABLE
    }

    def stream(request: types.GetWriteStreamRequest, _: grpc.ServicerContext) -> types.WriteStream:
        fields = _fields(schemas[request.name.split("/")[5]])
        return types.WriteStream(name=request.name, table_schema=types.TableSchema(fields=fields))

    taken = types.AppendRowsResponse.serialize(
        types.AppendRowsResponse(append_result=types.AppendRowsResponse.AppendResult())
    )

    def append(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        return (taken for _ in requests)

    methods = {
        "GetWriteStream": grpc.unary_unary_rpc_method_handler(
            stream, types.GetWriteStreamRequest.deserialize, types.WriteStream.serialize
        ),
        "AppendRows": grpc.stream_stream_rpc_method_handler(append),
    }
    options = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(), options=options)
    service = grpc.method_handlers_generic_handler("google.cloud.bigquery.storage.v1.BigQueryWrite", methods)
    server.add_generic_rpc_handlers([service])
    connection.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


_NAMES = {"INTEGER": "INT64", "FLOAT": "DOUBLE", "FLOAT64": "DOUBLE", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
"""Types as the Storage Write API calls them, where another name is usual."""


def _fields(fields: Iterable[SchemaField]) -> list[types.TableFieldSchema]:
    return [
        types.TableFieldSchema(
            name=field.name,
            type_=_NAMES.get(field.field_type, field.field_type),
            mode=field.mode,
            fields=_fields(field.fields),
        )
        for field in fields
    ]


def main(
    events: Annotated[int, typer.Option(min=1, help="Events in a batch, as BATCH_ROWS.")] = 500,
    repetitions: Annotated[int, typer.Option(min=1, help="Measurements of each writer, in turn.")] = 9,
) -> None:
    """Measure what it takes to write a row: CPU of this process, and USD."""
    measure(events, repetitions).show()


if __name__ == "__main__":
    typer.run(main)
