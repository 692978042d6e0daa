"""Scenarios that tests run in the environment of Beam, which has no pytest (`tests.support.beam_process.Scenarios`).

All of them name their runner: `DirectRunner` tries to download another one.
"""

import base64
import bz2
import concurrent.futures
import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

import apache_beam as beam
import msgspec
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.direct.clock import TestClock
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue
from google.cloud.pubsub_v1.types import PubsubMessage as Proto

from dataflow import main, pipeline
from dataflow.batches import Batch
from dataflow.messages import MessageCoder, from_bytes, from_pubsub
from dataflow.write import WriteBatches
from functions.core.message import Message
from functions.ingest.flush_report import FlushReport

_RUNNER = "--runner=BundleBasedDirectRunner"

_clock = TestClock()
_batches: list[list[str]] = []
_attempts: list[int] = []
_failures = 0


class Step(msgspec.Struct):
    """A step of a stream.

    Attributes:
        bundle: Messages that arrive together.
        event_time: Their time in the stream, in seconds.
        watermark: To which the watermark rises afterwards, in seconds.
        seconds: By which the clock goes on afterwards.
    """

    bundle: list[Message] = []
    event_time: float = 0
    watermark: float | None = None
    seconds: float = 0


class Ended(NamedTuple):
    """The end of a pipeline.

    Attributes:
        error: Why it failed; empty where it did not.
        attempts: How often batches were written.
    """

    error: str
    attempts: int


def coded(message: Message) -> Message:
    """Return a message that was encoded and decoded by the coder that Beam has for messages."""
    coder = beam.coders.registry.get_coder(Message)
    assert isinstance(coder, MessageCoder)
    decoded: Message = coder.decode(coder.encode(message))
    return decoded


def read(data: bytes, attributes: dict[str, str], seconds: int, nanos: int, ordering_key: str) -> list[Message]:
    """Return a message of Pub/Sub as Dataflow reads it, and as the direct runners do."""
    published = {"seconds": seconds, "nanos": nanos}
    proto = Proto(data=data, attributes=attributes, message_id="1", publish_time=published, ordering_key=ordering_key)
    return [from_bytes(Proto.serialize(proto)), from_pubsub(PubsubMessage._from_message(proto))]


def batches(steps: list[Step], rows: int, size: int, linger: float | None = None, shards: int = 1) -> list[list[str]]:
    """Return the message ids of the batches of a stream, in order."""
    _batches.clear()
    with _stream(steps) as source, beam.Pipeline(options=PipelineOptions([_RUNNER, "--streaming"])) as run:
        _ = run | source | Batch(rows, size, linger, shards, _now) | beam.Map(_collect)
    return _batches


def write(steps: list[Step], arguments: list[str], failures: int = 0) -> Ended:
    """Run the pipeline on a stream.

    Args:
        steps: The stream.
        arguments: Options of the pipeline.
        failures: How many batches fail after they were written.
    """
    global _failures  # noqa: PLW0603 - Beam copies instances
    _failures = failures
    _attempts.clear()
    options = [_RUNNER, "--input_subscription=projects/p/subscriptions/s", *arguments]
    with (
        _stream(steps) as source,
        mock.patch.multiple(pipeline, ReadMessages=lambda *_: source, WriteBatches=_FailsAfterwards),
    ):
        try:
            pipeline.build(options).run().wait_until_finish()
        except Exception as error:
            return Ended(f"{error}", len(_attempts))
    return Ended("", len(_attempts))


def run_main(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run the command in this process. Return its exit code and what it wrote to standard error.

    Args:
        arguments: Its arguments.
        environment: Variables besides those of this process; empty for one that is not set.
    """
    with _environment(environment), mock.patch.object(sys, "argv", ["main", *arguments]):
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                main.main()
        except SystemExit as end:
            return int(end.code or 0), errors.getvalue()
    return 0, errors.getvalue()


def graph(arguments: list[str], environment: dict[str, str]) -> bytes:
    """Return all that a job's graph has of a pipeline: the graph itself, and what is pickled in it."""
    with _environment(environment):
        proto, _ = pipeline.build(arguments).to_runner_api(return_context=True)
    steps = [transform.spec for transform in proto.components.transforms.values()]
    parse = beam_runner_api_pb2.ParDoPayload.FromString
    pickled = [parse(step.payload).do_fn.payload for step in steps if step.urn == "beam:transform:pardo:v1"]
    return b"".join([proto.SerializeToString(), *(bz2.decompress(base64.b64decode(text)) for text in pickled)])


def writers(threads: int) -> int:
    """Return how many writers the threads of a worker have that start at the same time."""
    together = threading.Barrier(threads)

    def start(_: int) -> int:
        write = WriteBatches({"ARCHIVE_BUCKET": "writers", "GOOGLE_CLOUD_PROJECT": "project"}, dry_run=True)
        together.wait()
        write.setup()
        return id(write._writer)

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        return len(set(pool.map(start, range(threads))))


class _FailsAfterwards(WriteBatches):
    def process(self, element: Sequence[Message]) -> Iterator[FlushReport]:
        _attempts.append(len(element))
        reports = list(super().process(element))
        if len(_attempts) <= _failures:
            raise RuntimeError("injected: the worker is lost after the write")
        yield from reports


@contextlib.contextmanager
def _stream(steps: Sequence[Step]) -> Iterator[Any]:
    """Make a stream, whose clock is `_clock` while the context lasts."""
    stream: Any = TestStream(MessageCoder()).with_output_types(Message)
    for step in steps:
        if step.bundle:
            stream = stream.add_elements([TimestampedValue(message, step.event_time) for message in step.bundle])
        if step.watermark is not None:
            stream = stream.advance_watermark_to(step.watermark)
        if step.seconds:
            stream = stream.advance_processing_time(step.seconds)
    with mock.patch("apache_beam.runners.direct.direct_runner.TestClock", return_value=_clock):
        yield stream.advance_watermark_to_infinity()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ, variables):
        yield


def _now() -> float:
    return float(_clock.time())


def _collect(batch: Sequence[Message]) -> None:
    _batches.append([message.message_id for message in batch])


_SCENARIOS: Mapping[str, Callable[..., object]] = {
    scenario.__name__: scenario for scenario in (coded, read, batches, write, run_main, graph, writers)
}


def serve() -> None:
    """Answer requests from standard input, a line each, until it ends."""
    logging.basicConfig(stream=sys.stderr)
    for line in sys.stdin.buffer:
        name, arguments = msgspec.json.decode(line)
        scenario = _SCENARIOS[name]
        hints = scenario.__annotations__
        typed = {key: msgspec.convert(value, hints[key]) for key, value in arguments.items()}
        print(msgspec.json.encode(scenario(**typed)).decode(), flush=True)  # noqa: T201
