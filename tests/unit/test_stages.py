"""The way of an event: the stages that a batch runs through, in their order."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.datastructures import Headers

from functions.core.message import Message
from functions.ingest.admission import Admission
from functions.ingest.flush import ProcessedEvent
from functions.ingest.stages import ingest_event, write_batch
from functions.ingest.warehouse import InsertResult
from functions.settings import Settings
from functions.system import utc_now
from tests.support.samples import NOW, event, message, process


class Flush:
    """Records the stages that it is taken through. BigQuery rejects the rows of `rejected`."""

    def __init__(self, *event_types: str, rejected: str = "", broken: str = "") -> None:
        self.calls: list[str] = []
        self._event_types = event_types
        self._rejected = rejected
        self._broken = broken

    def process(self) -> list[ProcessedEvent]:
        self.calls.append("process")
        outcomes = [process(message(event(name)), NOW) for name in self._event_types]
        return [ProcessedEvent(outcome, 1, asyncio.Future()) for outcome in outcomes]

    async def archive(self, events: Sequence[ProcessedEvent]) -> None:
        self.calls.append(f"archive {len(events)}")

    async def insert(self, table: str, events: Sequence[ProcessedEvent]) -> InsertResult:
        self.calls.append(f"insert {table} {len(events)}")
        if table == self._broken:
            raise TimeoutError
        return InsertResult({}, {})

    def acknowledge(self, events: Sequence[ProcessedEvent], _: InsertResult) -> Sequence[ProcessedEvent]:
        self.calls.append(f"acknowledge {len(events)}")
        return [event for event in events if event.outcome.table == self._rejected]

    def fail(self, table: str, events: Sequence[ProcessedEvent], _: Exception) -> None:
        self.calls.append(f"fail {table} {len(events)}")


async def written(flush: Any) -> list[str]:
    await write_batch(flush)
    calls: list[str] = flush.calls
    return calls


async def test_a_batch_is_archived_before_it_is_inserted_and_acknowledged() -> None:
    assert await written(Flush("order", "order")) == ["process", "archive 2", "insert orders 2", "acknowledge 2"]


async def test_each_table_has_one_insert() -> None:
    calls = await written(Flush("order", "inventory", "order"))
    assert sorted(calls[2:]) == ["acknowledge 1", "acknowledge 2", "insert inventory 1", "insert orders 2"]


async def test_a_table_that_fails_fails_its_own_events() -> None:
    calls = await written(Flush("order", "inventory", broken="orders"))
    assert sorted(calls[2:]) == ["acknowledge 1", "fail orders 1", "insert inventory 1", "insert orders 1"]


async def test_rejected_rows_are_inserted_as_dead_letters() -> None:
    calls = await written(Flush("order", rejected="orders"))
    assert calls[2:] == ["insert orders 1", "acknowledge 1", "insert dead_letters 1", "acknowledge 1"]


@pytest.mark.parametrize("length", [{}, {"content-length": "34"}])
async def test_an_event_is_received_and_then_committed(length: dict[str, str]) -> None:
    admission = Admission(Settings(archive_bucket="archive"))
    committed: list[Message] = []
    in_flight: list[tuple[int, int]] = []

    async def next_chunk() -> tuple[bytes, bool]:
        in_flight.append((admission.reading, admission.size))
        return b'{"message": {"messageId": "m-1"}}', False

    async def commit(received: Message) -> None:
        in_flight.append((admission.reading, admission.size))
        committed.append(received)

    await ingest_event(Headers(length), next_chunk, admission, commit, utc_now)
    assert [received.message_id for received in committed] == ["m-1"]
    assert in_flight == [(1, int(length.get("content-length", 0))), (0, 0)]
