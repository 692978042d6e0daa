"""Batches of messages, bounded by rows and by bytes, within a bundle or across bundles."""

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from dataflow.messages import pack, unpack
from functions.core.message import Message

Packed = tuple[int, int, bytes]
"""A batch on its way between workers: number of its messages, bytes of their payloads and attributes, and `pack`."""


class Filling:
    """Fills batches with messages.

    Args:
        rows: Maximum number of messages in a batch.
        size: Maximum number of their bytes; a larger message has a batch of its own.

    Attributes:
        batch: The messages that wait for others.
    """

    def __init__(self, rows: int, size: int) -> None:
        self.batch: list[Message] = []
        self._rows = rows
        self._max_size = size
        self._size = 0

    def add(self, message: Message) -> list[Message] | None:
        """Add a message. Return the batch before it if both do not fit into one."""
        size = message.size
        complete = None
        if self.batch and (len(self.batch) == self._rows or self._size + size > self._max_size):
            complete, self.batch, self._size = self.batch, [], 0
        self.batch.append(message)
        self._size += size
        return complete

    @property
    def is_full(self) -> bool:
        """Whether no other message fits into the batch."""
        return len(self.batch) >= self._rows or self._size >= self._max_size


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
        self._filling = Filling(self._rows, self._size)

    def process(self, element: Message) -> Iterator[WindowedValue]:
        """Add a message; yield the batch before it if both do not fit into one."""
        if batch := self._filling.add(element):
            yield _of_oldest(batch)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yield the rest."""
        if batch := self._filling.batch:
            yield _of_oldest(batch)


def _of_oldest(batch: list[Message]) -> WindowedValue:
    """Return a batch with the time of its oldest message, which holds the watermark until it is written."""
    oldest = min(message.publish_time for message in batch)
    return GlobalWindows.windowed_value(batch, Timestamp(oldest.timestamp()))


class BatchAcrossBundles(beam.DoFn):
    """Joins the batches of a key across bundles; each waits for `linger` seconds at most.

    Its elements are batches, so that runners shuffle and keep a few large elements instead of each message.

    Args:
        rows: Maximum number of messages in a batch.
        size: Maximum number of their bytes; a larger message has a batch of its own.
        linger: Seconds after its first message at which a batch is complete.
        clock: Returns the time in seconds since 1970.
    """

    PARTS = BagStateSpec("parts", beam.coders.BytesCoder())
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
        element: tuple[int, Packed],
        window: Any = beam.DoFn.WindowParam,
        parts: Any = beam.DoFn.StateParam(PARTS),
        filled: Any = beam.DoFn.StateParam(FILLED),
        lingered: Any = beam.DoFn.TimerParam(LINGERED),
        ended: Any = beam.DoFn.TimerParam(ENDED),
    ) -> Iterator[list[Message]]:
        """Add a part of a batch; yield the batches that are complete with it."""
        _, (more_rows, more_size, part) = element
        rows, size = filled.read() or (0, 0)
        is_new = rows == 0
        rows, size = rows + more_rows, size + more_size
        parts.add(part)
        if rows >= self._rows or size >= self._size:
            batches, messages = self._split(unpack(parts.read()), size)
            yield from batches
            parts.clear()
            if not messages:
                filled.clear()
                lingered.clear()
                return
            rows, size, rest = packed(messages)
            parts.add(rest)
            is_new = True
        filled.write((rows, size))
        if is_new:
            lingered.set(self._clock() + self._linger)
            ended.set(window.end)

    def _split(self, messages: list[Message], size: int) -> tuple[list[list[Message]], list[Message]]:
        """Return the batches that are complete, and the messages that wait for others."""
        if size <= self._size:
            return [messages[: self._rows]], messages[self._rows :]
        filling = Filling(self._rows, self._size)
        batches = [batch for batch in map(filling.add, messages) if batch]
        return ([*batches, filling.batch], []) if filling.is_full else (batches, filling.batch)

    @on_timer(LINGERED)
    def on_lingered(
        self,
        parts: Any = beam.DoFn.StateParam(PARTS),
        filled: Any = beam.DoFn.StateParam(FILLED),
    ) -> Iterator[list[Message]]:
        """Yield the batch whose linger time is over."""
        yield from self._complete(parts, filled)

    @on_timer(ENDED)
    def on_ended(
        self,
        parts: Any = beam.DoFn.StateParam(PARTS),
        filled: Any = beam.DoFn.StateParam(FILLED),
    ) -> Iterator[list[Message]]:
        """Yield the rest when the input ends, as when a job drains."""
        yield from self._complete(parts, filled)

    def _complete(self, parts: Any, filled: Any) -> Iterator[list[Message]]:
        batch = unpack(parts.read())
        parts.clear()
        filled.clear()
        if batch:
            yield batch


class Batch(beam.PTransform):
    """Batches messages within each bundle, or across bundles if `linger` is given.

    Args:
        rows: Maximum number of messages in a batch.
        size: Maximum number of their bytes; a larger message has a batch of its own.
        linger: Maximum seconds that a message waits for those of other bundles; None or 0 to batch within bundles.
        shards: Number of batches that fill, and of those that are written, concurrently.
        clock: Returns the time in seconds since 1970.
    """

    def __init__(
        self, rows: int, size: int, linger: float | None, shards: int, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._of_bundle = BatchBundle(rows, size)
        self._across_bundles = BatchAcrossBundles(rows, size, linger, clock) if linger else None
        self._shards = shards

    def expand(self, messages: Any) -> Any:
        """Return the batches."""
        batches = messages | "Bundle" >> beam.ParDo(self._of_bundle).with_output_types(list[Message])
        if not self._across_bundles:
            return batches
        return (
            batches
            | "Key" >> beam.Map(keyed, self._shards).with_output_types(tuple[int, Packed])
            | "Batch" >> beam.ParDo(self._across_bundles).with_output_types(list[Message])
        )


def keyed(batch: Sequence[Message], shards: int) -> tuple[int, Packed]:
    """Return a batch with its key, which is the same in a retry of the bundle."""
    return zlib.crc32(batch[0].message_id.encode()) % shards, packed(batch)  # `hash` differs between processes


def packed(batch: Sequence[Message]) -> Packed:
    """Return a batch as workers exchange it."""
    return len(batch), sum(message.size for message in batch), pack(batch)
