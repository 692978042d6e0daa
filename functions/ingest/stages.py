"""The way of an event through `ingest`: receive, decode, validate, enrich, archive, insert, acknowledge.

Each event has a request of its own: `ingest_event`. It is written together with the events that are in flight at the
same time: `write_batch`. Its row is made by `functions.core.pipeline.EventPipeline`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from functions.core.dead_letters import DeadLetter
from functions.core.message import Message, parse_request
from functions.ingest.admission import Admission
from functions.ingest.batch_writer import by_table
from functions.ingest.flush import Flush, ProcessedEvent
from functions.ingest.request_body import NextChunk, read_body


async def ingest_event(
    headers: Mapping[str, str],
    next_chunk: NextChunk,
    admission: Admission,
    commit: Callable[[Message], Awaitable[None]],
    now: Callable[[], datetime],
) -> None:
    """Take an event from its request to its acknowledgement. Return when it is durable.

    Args:
        headers: Headers of the request.
        next_chunk: Returns the next bytes of its body.
        admission: Limits what is in flight.
        commit: The group commit: queues the event, and waits until `write_batch` has acknowledged it.
        now: Returns the time, in UTC.

    Raises:
        NotAMessage: The request carries no Pub/Sub message.
        Overloaded: Too much is in flight.
        NotDurable: The event is not durable in time.
        ProcessingFailed: The code has a defect.
    """
    message = await receive(headers, next_chunk, admission, now)
    await commit(message)


async def write_batch(flush: Flush) -> None:
    """Take the events of a batch from the queue to their acknowledgements."""
    events = flush.process()  # Decode, validate and enrich: each event becomes a row or a dead letter.
    await flush.archive(events)  # Nothing is inserted that is not archived.
    tables = by_table(events, lambda event: event.outcome)
    rejected = await asyncio.gather(*(_write_table(flush, table, rows) for table, rows in tables.items()))
    if dead_letters := [event for events in rejected for event in events]:
        await _write_table(flush, DeadLetter.table, dead_letters)


async def receive(
    headers: Mapping[str, str], next_chunk: NextChunk, admission: Admission, now: Callable[[], datetime]
) -> Message:
    """Read the message of a request."""
    length = headers.get("content-length")
    body = await read_body(next_chunk, int(length) if length else None, admission)
    return parse_request(headers, body, now)


async def _write_table(flush: Flush, table: str, events: Sequence[ProcessedEvent]) -> list[ProcessedEvent]:
    """Insert and acknowledge the events of a table. Return those that BigQuery rejects as dead letters."""
    try:
        result = await flush.insert(table, events)
    except Exception as error:
        flush.fail(table, events, error)
        return []
    return flush.acknowledge(events, result)
