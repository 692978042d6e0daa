"""The slot of a flush: freed once, early or at its end, and what the scheduler learns of it."""

import asyncio

from functions.ingest.scheduler import FlushScheduler, QueueState
from functions.ingest.slot import FlushSlot


class Slot:
    """A slot of a flush that started at 10, and the number of times that flushes might have started."""

    def __init__(self) -> None:
        self.now = 10.0
        self.starts = 0
        self.scheduler = FlushScheduler(linger=0.5, flush_timeout=25)
        self.scheduler.started(self.now)
        self.slot = FlushSlot(self.scheduler, lambda: self.now, self._start)

    def _start(self) -> None:
        self.starts += 1


async def test_service_time_begins_after_processing() -> None:
    flush = Slot()
    flush.now = 11
    flush.slot.processed()
    flush.now = 14
    assert (flush.slot.started, flush.slot.service_seconds) == (10, 3)


async def test_an_archived_flush_lets_the_next_one_start() -> None:
    flush = Slot()
    flush.slot.archived()
    assert (flush.scheduler.archiving, flush.scheduler.running, flush.starts) == (0, 1, 1)


async def test_a_slot_is_freed_once() -> None:
    flush = Slot()
    flush.slot.free(is_overloaded=False)
    flush.slot.free(is_overloaded=False)
    assert (flush.scheduler.running, flush.starts) == (0, 0)


async def test_a_slot_is_freed_early_once_and_the_next_flush_may_start() -> None:
    flush = Slot()
    flush.slot.free_after(0)
    flush.slot.free_after(1000)
    await asyncio.sleep(0.01)
    assert (flush.scheduler.running, flush.starts) == (0, 1)
    flush.slot.free(is_overloaded=False)
    assert flush.scheduler.running == 0


async def test_a_slot_freed_early_does_not_count_as_an_overload() -> None:
    flush = Slot()
    flush.slot.archived()
    for _ in range(2):
        flush.scheduler.started(flush.now)
        flush.scheduler.archived()
    flush.slot.free_after(0)
    await asyncio.sleep(0.01)
    assert flush.scheduler.next_start(QueueState(1, is_full=False, oldest=flush.now), flush.now) is not None


async def test_a_flush_that_ends_first_is_not_freed_early() -> None:
    flush = Slot()
    flush.slot.free_after(0.001)
    flush.slot.free(is_overloaded=False)
    await asyncio.sleep(0.01)
    assert (flush.scheduler.running, flush.starts) == (0, 0)
