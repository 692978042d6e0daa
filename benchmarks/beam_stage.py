"""CPU of the stage, with Apache Beam and without. `benchmarks/beam.py` runs it in .venv/beam.

The stage is all that a worker does with a message: from the bytes that Pub/Sub has to an archive object and requests
with encoded rows. The requests are not sent.
"""

import functools
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import apache_beam as beam
import msgspec
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions
from google.cloud.pubsub_v1.types import PubsubMessage as Proto

from benchmarks.events import Kind, event_id, payloads
from dataflow.batches import Batch, BatchAcrossBundles, BatchBundle, Packed, keyed
from dataflow.messages import from_bytes, from_pubsub, to_message
from dataflow.write import WriteBatches
from functions.archive.writer import Archive
from functions.core.message import Message
from functions.ingest.http_client import Api
from functions.settings import Settings

VARIABLES = {"ARCHIVE_BUCKET": "archive", "GOOGLE_CLOUD_PROJECT": "project", "CODE_VERSION": "benchmark"}
SETTINGS = Settings.from_environment(VARIABLES)
SHARDS = 8
SMALL_BUNDLE = 10

_messages: list[bytes] = []
"""Messages that the pipelines read; filled by `main`."""


class Way(NamedTuple):
    """A way from messages to written batches.

    Attributes:
        handed_over: Whether the runner hands each message over to the stage, as Dataflow does, encoded; else it is read
            in the stage itself.
        bundle: Messages in a bundle of a stream, whose batches wait for each other; None: files, with large bundles.
    """

    handed_over: bool = False
    bundle: int | None = None


WAYS = {
    "beam": Way(),
    "beam, handed over": Way(handed_over=True),
    "beam, a stream": Way(bundle=SETTINGS.batch_rows),
    "beam, a stream of small bundles": Way(bundle=SMALL_BUNDLE),
    "beam, a stream of small bundles, handed over": Way(handed_over=True, bundle=SMALL_BUNDLE),
}


def serialized(count: int, kind: Kind) -> list[bytes]:
    """Return serialized messages of the simulated shop, 1 % bad ones among them, each with ids of its own."""
    events = [data for data, _ in payloads(kind)]
    now = int(time.time())
    return [
        Proto.serialize(
            Proto(
                data=events[number % len(events)],
                attributes={"event_id": event_id(number)},
                message_id=f"{number:017d}",
                publish_time={"seconds": now, "nanos": number % 1_000 * 1_000_000},
            )
        )
        for number in range(count)
    ]


def send_nothing() -> None:
    """Answer all requests of the services at once: all went well."""

    def post(_: Api, path: str, content_type: str, body: bytes, seconds: float) -> bytes:
        del content_type, body, seconds
        return b'{"name":"object"}' if path.startswith("/upload/") else b"{}"

    os.environ |= {"BIGQUERY_EMULATOR_HOST": "http://nobody", "STORAGE_EMULATOR_HOST": "http://nobody"}
    Api.post = post  # type: ignore[assignment,method-assign]


def writes() -> Callable[[list[Message]], int]:
    """Return a function that writes a batch as the pipeline does, and returns how many events that were."""
    writer = WriteBatches(VARIABLES)
    writer.setup()
    return lambda batch: sum(report.events for report in writer.process(batch))


def plain(count: int) -> int:
    """Parse, batch and write messages in a loop. Return how many were written."""
    write = writes()
    batch: list[Message] = []
    size = written = 0
    for data in _messages[:count]:
        message = from_bytes(data)
        if batch and (len(batch) == SETTINGS.batch_rows or size + message.size > SETTINGS.batch_bytes):
            written += write(batch)
            batch, size = [], 0
        batch.append(message)
        size += message.size
    return written + write(batch)


def read(count: int) -> Iterator[bytes]:
    """Yield so many of the messages."""
    yield from _messages[:count]


def by_beam(way: Way, count: int) -> int:
    """Do the same on FnApiRunner, in this process. Return how many were written."""
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))

    def source(name: str, number: int) -> beam.PCollection:
        numbers = pipeline | f"{name} number" >> beam.Create([number])
        return numbers | name >> beam.FlatMap(read).with_output_types(bytes)

    data = source("Read", count)
    if way.handed_over:  # The runner flattens by itself, between two stages.
        data = (data, source("Nothing", 0)) | beam.Flatten()
    messages = data | beam.Map(to_message).with_output_types(Message)
    rows, size = SETTINGS.batch_rows, SETTINGS.batch_bytes
    if way.bundle is None:
        batches = messages | Batch(rows, size, None, SHARDS)
    else:
        small = messages | beam.ParDo(BatchBundle(way.bundle, size)).with_output_types(list[Message])
        parts = small | beam.Map(keyed, SHARDS).with_output_types(tuple[int, Packed])
        batches = parts | beam.ParDo(BatchAcrossBundles(rows, size, 1.0))
    _ = batches | beam.ParDo(WriteBatches(VARIABLES))
    result = pipeline.run()
    result.wait_until_finish()
    [events] = result.metrics().query(beam.metrics.MetricsFilter().with_name("events"))["distributions"]
    written: int = events.committed.sum
    return written


def cpu(write: Callable[[int], int], count: int) -> float:
    """Return the microseconds of CPU for a message, without what a pipeline takes for its first one.

    Raises:
        AssertionError: Another number of messages was written.
    """

    def seconds(number: int) -> float:
        gc.collect()
        before = time.process_time()
        written = write(number)
        taken = time.process_time() - before
        if written != number:
            raise AssertionError(f"{written} of {number} messages were written")
        return taken

    first = seconds(1)
    return (seconds(count) - first) / (count - 1) * 1e6


def measure(rounds: int, count: int) -> dict[str, dict[str, list[float]]]:
    """Return the microseconds of CPU for a message by what is measured, by way, and by round."""
    measured: dict[str, dict[str, list[float]]] = {"rows": {}, "all": {}, "parse": {}}

    def add(what: str, way: str, write: Callable[[int], int]) -> None:
        measured[what].setdefault(way, []).append(cpu(write, count))

    with_archive: Callable[..., int] = Archive.write
    plain(min(count, 1_000))  # The first messages load contracts and user agents, the first pipeline more of Beam.
    by_beam(WAYS["beam"], 1)
    for _ in range(rounds):
        for what, archive in (("rows", lambda *_: 0), ("all", with_archive)):
            Archive.write = archive  # type: ignore[method-assign]
            add(what, "plain", plain)
            for name, way in WAYS.items():
                add(what, name, functools.partial(by_beam, way))
        add("parse", "plain", functools.partial(_parse, from_bytes))
        add("parse", "beam", functools.partial(_parse, _parse_by_beam))
    return measured


def _parse(parse: Callable[[bytes], Message], count: int) -> int:
    return len([parse(data) for data in _messages[:count]])


def _parse_by_beam(data: bytes) -> Message:
    return from_pubsub(PubsubMessage._from_proto_str(data))  # as ReadFromPubSub does


def main() -> None:
    """Measure with so many rounds and messages as the arguments say, and print JSON."""
    rounds, count = map(int, sys.argv[1:])
    send_nothing()
    _messages[:] = serialized(count, "mixed")
    sys.stdout.write(msgspec.json.encode(measure(rounds, count)).decode())
