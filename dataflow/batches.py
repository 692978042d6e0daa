"""Batches of messages, bounded by rows and by bytes: of a bundle, or across bundles for a little while."""

import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from dataflow.messages import MessageCoder
from functions.message import Message


class BatchBundle(beam.DoFn):
    """Batches the messages of each bundle. Bundles of files are large; those of a stream may have ten messages.

    Args:
        rows: Maximum number of messages in a batch.
        size: Maximum number of their bytes; a larger message has a batch of its own.
    """

    def __init__(self, rows: int, size: int) -> None:
        self._rows = rows
        self._size = size

    def start_bundle(self) -> None:
        """Begin with an empty batch."""
        self._batch: list[Message] = []
        self._bytes = 0

    def process(self, element: Message) -> Iterator[list[Message]]:
        """Add a message; yield the batch before it if both do not fit into one."""
        if self._batch and (len(self._batch) == self._rows or self._bytes + element.size > self._size):
            yield self._batch
            self._batch, self._bytes = [], 0
        self._batch.append(element)
        self._bytes += element.size

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yield the rest."""
        if self._batch:
            window = GlobalWindow()
            yield WindowedValue(self._batch, window.max_timestamp(), [window])


class BatchAcrossBundles(beam.DoFn):
    """Batches the messages of a key across bundles; a message waits for `linger` seconds at most.

    Args:
        rows: Maximum number of messages in a batch.
        size: Maximum number of their bytes; a larger message has a batch of its own.
        linger: Seconds after its first message at which a batch is complete.
        clock: Returns the time in seconds since 1970.
    """

    MESSAGES = BagStateSpec("messages", MessageCoder())
    FILLED = ReadModifyWriteStateSpec("filled", beam.coders.TupleCoder([beam.coders.VarIntCoder()] * 2))
    LINGERED = TimerSpec("lingered", TimeDomain.REAL_TIME)
    ENDED = TimerSpec("ended", TimeDomain.WATERMARK)

    def __init__(self, rows: int, size: int, linger: float, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._size = size
        self._linger = linger
        self._clock = clock

    def process(
        self,
        element: tuple[int, Message],
        window: Any = beam.DoFn.WindowParam,
        messages: Any = beam.DoFn.StateParam(MESSAGES),
        filled: Any = beam.DoFn.StateParam(FILLED),
        lingered: Any = beam.DoFn.TimerParam(LINGERED),
        ended: Any = beam.DoFn.TimerParam(ENDED),
    ) -> Iterator[list[Message]]:
        """Add a message; yield the batch before it if both do not fit into one, and a batch that is full."""
        _, message = element
        rows, size = filled.read() or (0, 0)
        if rows and size + message.size > self._size:
            yield from self._complete(messages, filled)
            rows, size = 0, 0
        if rows == 0:
            lingered.set(self._clock() + self._linger)
            ended.set(window.end)
        messages.add(message)
        rows, size = rows + 1, size + message.size
        filled.write((rows, size))
        if rows >= self._rows or size >= self._size:
            lingered.clear()
            yield from self._complete(messages, filled)

    @on_timer(LINGERED)
    def on_lingered(
        self,
        messages: Any = beam.DoFn.StateParam(MESSAGES),
        filled: Any = beam.DoFn.StateParam(FILLED),
    ) -> Iterator[list[Message]]:
        """Yield what has waited long enough."""
        yield from self._complete(messages, filled)

    @on_timer(ENDED)
    def on_ended(
        self,
        messages: Any = beam.DoFn.StateParam(MESSAGES),
        filled: Any = beam.DoFn.StateParam(FILLED),
    ) -> Iterator[list[Message]]:
        """Yield the rest when the input ends, as when a job drains."""
        yield from self._complete(messages, filled)

    def _complete(self, messages: Any, filled: Any) -> Iterator[list[Message]]:
        batch = list(messages.read())
        messages.clear()
        filled.clear()
        if batch:
            yield batch


class Batch(beam.PTransform):
    """Messages to batches: of each bundle, or across bundles where `linger` is given.

    Args:
        rows: Maximum number of messages in a batch.
        size: Maximum number of their bytes; a larger message has a batch of its own.
        linger: Seconds that a message may wait for others; None: until the end of its bundle.
        shards: Keys among which the messages are distributed across bundles: as many batches fill at once.
        clock: Returns the time in seconds since 1970.
    """

    def __init__(
        self, rows: int, size: int, linger: float | None, shards: int, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._rows, self._size, self._linger, self._shards, self._clock = rows, size, linger, shards, clock

    def expand(self, messages: Any) -> Any:
        """Return the batches."""
        if self._linger is None:
            return messages | "Batch" >> beam.ParDo(BatchBundle(self._rows, self._size)).with_output_types(
                list[Message]
            )
        shards = self._shards

        def key(message: Message) -> tuple[int, Message]:
            return zlib.crc32(message.message_id.encode()) % shards, message  # `hash` differs between processes

        return (
            messages
            | "Key" >> beam.Map(key).with_output_types(tuple[int, Message])
            | "Batch"
            >> beam.ParDo(BatchAcrossBundles(self._rows, self._size, self._linger, self._clock)).with_output_types(
                list[Message]
            )
        )
