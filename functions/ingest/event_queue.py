"""The queue of events that wait for a flush, and the acknowledgement of each of them."""

import asyncio
import collections
from typing import NamedTuple

import msgspec

from functions.core.message import Message
from functions.ingest.scheduler import QueueState
from functions.settings import Settings


class Failure(NamedTuple):
    """The reason for which an event is not durable.

    Attributes:
        error: What its request raises: `NotDurable`, `Overloaded` or `ProcessingFailed`.
        reason: The error's message.
    """

    error: type[Exception]
    reason: str


type Ack = asyncio.Future[Failure | None]
"""The acknowledgement of an event: resolved with None when the event is durable."""


def resolve(ack: Ack, failure: Failure | None = None) -> bool:
    """Resolve an acknowledgement. Return False if it was resolved before, or its request was cancelled."""
    if ack.done():
        return False
    ack.set_result(failure)
    return True


class QueuedEvent(msgspec.Struct, eq=False):
    """An event that waits for its flush.

    Attributes:
        message: The message.
        size: Bytes of payload and attributes.
        arrived: When it was queued, in seconds of the group commit's clock.
        ack: Its acknowledgement.
    """

    message: Message
    size: int
    arrived: float
    ack: Ack


class Batch(NamedTuple):
    """The events that leave the queue together, in order of arrival.

    Attributes:
        events: Events of the next flush.
        expired: Events that were queued for too long.
    """

    events: list[QueuedEvent]
    expired: list[QueuedEvent]


class EventQueue:
    """Queues events in order of arrival.

    Args:
        settings: The maximum size of a batch.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_events = settings.batch_rows
        self._max_bytes = settings.batch_bytes
        self._events: collections.deque[QueuedEvent] = collections.deque()
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of queued events."""
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Whether the events fill a batch."""
        return len(self._events) >= self._max_events or self._bytes >= self._max_bytes

    @property
    def state(self) -> QueueState:
        """The state from which the scheduler decides. The queue is not empty."""
        return QueueState(len(self._events), self.is_full, self._events[0].arrived)

    def append(self, event: QueuedEvent) -> None:
        """Append an event."""
        self._events.append(event)
        self._bytes += event.size

    def pop_last(self) -> QueuedEvent:
        """Remove the event that arrived last."""
        event = self._events.pop()
        self._bytes -= event.size
        return event

    def next_batch(self, max_events: int, arrived_since: float) -> Batch:
        """Remove the events of the next batch: at least one, however large it is, unless all are expired.

        Args:
            max_events: Maximum number of events, besides that of the settings.
            arrived_since: Time of arrival before which an event is expired.
        """
        batch = Batch([], [])
        size = 0
        max_events = min(max_events, self._max_events)
        while self._events and len(batch.events) < max_events:
            event = self._events[0]
            if batch.events and size + event.size > self._max_bytes:
                break
            self._events.popleft()
            self._bytes -= event.size
            if event.arrived < arrived_since:
                batch.expired.append(event)
            else:
                batch.events.append(event)
                size += event.size
        return batch
