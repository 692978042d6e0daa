"""Batch mode without the network: from a pulled message to its line in a load file."""

import itertools
import time
from collections.abc import Iterator, Sequence

import msgspec
from google.cloud.pubsub_v1 import types

from benchmarks.core import SETTINGS, pushes
from functions.archive.writer import Archive
from functions.core.message import Message, parse_request
from functions.core.pipeline import EventPipeline
from functions.drain.load_files import LoadFiles, load_formats
from functions.drain.subscription import MAX_PULLED, Subscription
from functions.ingest.batch_writer import BatchWriter
from functions.ingest.flush_report import FlushReport
from functions.ingest.http_client import Api
from functions.system import utc_now

LARGE_BYTES = 500
"""Bytes of the messages by which others compare: https://github.com/johanesalxd/dataflow-pubsub-perf-test."""


class Drained(msgspec.Struct, frozen=True, kw_only=True):
    """Time that batch mode takes for a message.

    Attributes:
        events: Kind of the events: `mixed` as everywhere, or `orders of 500 bytes`.
        message_bytes: Mean bytes of their payloads.
        microseconds: CPU for each message from the answer to the pull to the load file, by round.
    """

    events: str
    message_bytes: float
    microseconds: list[float]


class _Pulls:
    """A client of Pub/Sub whose messages are here already, as the bytes of its answers.

    Args:
        messages: The messages.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        self._answers = [
            types.PullResponse.serialize(_answer(page))
            for page in itertools.batched(messages, MAX_PULLED, strict=False)
        ]
        self._next: Iterator[bytes] = iter(())

    def again(self) -> None:
        """Begin with the first message again."""
        self._next = iter(self._answers)

    def pull(self, **_: object) -> types.PullResponse:
        """Parse the next answer."""
        return types.PullResponse.deserialize(next(self._next, b""))

    def acknowledge(self, **_: object) -> None:
        """Acknowledge nothing."""


def _answer(messages: Sequence[Message]) -> types.PullResponse:
    """Return the answer to a pull, with ids as long as Pub/Sub's."""
    return types.PullResponse(
        received_messages=[
            types.ReceivedMessage(
                ack_id=f"{message.message_id:0>180}",
                delivery_attempt=1,
                message=types.PubsubMessage(
                    data=message.data,
                    attributes=message.attributes,
                    message_id=message.message_id,
                    publish_time=message.publish_time,
                ),
            )
            for message in messages
        ]
    )


def drain(rounds: int, events: int) -> list[Drained]:
    """Measure all that a run does for its messages, but for the network.

    Args:
        rounds: Number of rounds of each kind.
        events: Number of messages in a round, which are one chunk.

    Raises:
        AssertionError: A message is in no load file.
    """
    mixed = [parse_request({}, body, utc_now) for body in pushes("mixed", events, with_bad=True)]
    orders = [parse_request({}, body, utc_now) for body in pushes("order", events, with_bad=False)]
    kinds = {"mixed": mixed, f"orders of {LARGE_BYTES} bytes": _large(orders, events)}
    return [
        Drained(
            events=name,
            message_bytes=sum(len(message.data) for message in messages) / len(messages),
            microseconds=_measure(rounds, messages),
        )
        for name, messages in kinds.items()
    ]


def _large(messages: Sequence[Message], count: int) -> list[Message]:
    """Return as many messages, repeating the largest ones, whose mean size is `LARGE_BYTES` at least."""
    by_size = sorted(messages, key=lambda message: len(message.data), reverse=True)
    sums = itertools.accumulate(len(message.data) for message in by_size)
    enough = sum(total >= number * LARGE_BYTES for number, total in enumerate(sums, 1))
    return list(itertools.islice(itertools.cycle(by_size[:enough]), count))


def _measure(rounds: int, messages: Sequence[Message]) -> list[float]:
    process, uploaded, reports = EventPipeline.from_settings(SETTINGS), list[int](), list[FlushReport]()

    def upload(_: str, url: str, body: bytes, **__: object) -> "_Answer":
        del url
        uploaded.append(len(body))
        return _Answer()

    api = Api("", upload)  # type: ignore[arg-type] # the connection alone is missing
    files = LoadFiles(api, "archive", load_formats(SETTINGS))
    writer = BatchWriter(process, Archive(api, "archive", process.contracts.event_types), files, 25, reports.append)
    pulls = _Pulls(messages)
    subscription = Subscription(pulls, "subscription")
    microseconds = []
    for _ in range(rounds + 1):
        pulls.again()
        started = time.process_time()
        leases = list(itertools.chain.from_iterable(iter(lambda: subscription.pull(MAX_PULLED, 1), [])))
        writer.write([lease.message for lease in leases], utc_now())
        subscription.acknowledge(leases)
        microseconds.append((time.process_time() - started) / len(messages) * 1e6)
        if reports[-1].durable != len(messages):
            raise AssertionError(f"{reports[-1].durable} of {len(messages)} messages are in load files")
    return microseconds[1:]


class _Answer:
    """The answer to an upload."""

    status = 200
    data = b'{"name":"object"}'
