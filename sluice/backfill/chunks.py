"""Chunks: the lines that are processed and loaded together, and the loads that become of them."""

import collections
import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from functions.core.rows import Row
from functions.files.identity import content_digest
from functions.files.sources import Line
from sluice.backfill.events import Event

MAX_LINES = 50_000
MAX_BYTES = 32 * 2**20

MAX_DAYS_OF_A_LOAD = 4_000
"""Maximum partitions that one job can modify (https://cloud.google.com/bigquery/quotas#partitioned_tables)."""


def chunks(lines: Iterable[Line], max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> Iterator[list[Line]]:
    """Yield lines in their order, as many together as fit; the same lines give the same chunks.

    Args:
        lines: The lines of all sources.
        max_lines: Maximum lines of a chunk.
        max_bytes: Maximum size of its lines; a longer line is a chunk of its own.
    """
    chunk: list[Line] = []
    size = 0
    for line in lines:
        if chunk and (len(chunk) == max_lines or size + len(line.data) > max_bytes):
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line.data)
    if chunk:
        yield chunk


@dataclasses.dataclass(frozen=True, slots=True)
class TableLoad:
    """The events of one load job.

    Attributes:
        table: `DATASET.TABLE`.
        events: At least one, each once.
    """

    table: str
    events: Sequence[Event]

    def __str__(self) -> str:
        first, last = self.events[0].line, self.events[-1].line
        return f"{self.table}, from {first.source} line {first.number} to {last.source} line {last.number}"


def loads(events: Iterable[Event], max_days: int = MAX_DAYS_OF_A_LOAD) -> list[TableLoad]:
    """Group events by table, in their order; more than one load for a table where there are too many days.

    Args:
        events: The events of a chunk, each once.
        max_days: Different `event_date`s of a load.
    """
    full_loads: list[TableLoad] = []
    groups: dict[str, list[Event]] = {}
    days: dict[str, set[str]] = collections.defaultdict(set)
    for event in events:
        table = event.table
        if isinstance(event.outcome, Row) and event.identity.kind not in days[table]:
            if len(days[table]) == max_days:
                full_loads.append(TableLoad(table, groups.pop(table)))
                days[table].clear()
            days[table].add(event.identity.kind)
        groups.setdefault(table, []).append(event)
    return [*full_loads, *(TableLoad(table, group) for table, group in groups.items())]


class Seen:
    """The events that a run has met, in a temporary file: there may be more than memory holds."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE seen (identity BLOB PRIMARY KEY, content BLOB) WITHOUT ROWID")

    def new(self, event: Event) -> Event | None:
        """Return an event that is met for the first time on its way into its table; None for a repetition.

        An id that comes with another content is no repetition: the event is new, and its identity has its message's id.
        """
        message = event.outcome.message
        # An event without an id of its own is what its message is, which has one content.
        has_own_id = message.event_id != message.message_id
        content = bytes.fromhex(content_digest(message.data)) if has_own_id else b""
        if self._add((event.table, *event.identity), content):
            return event
        if not has_own_id or self._content((event.table, *event.identity)) == content:
            return None
        distinct = event._replace(identity=event.identity._replace(message_id=message.message_id))
        return distinct if self._add((event.table, *event.identity, content.hex()), content) else None

    def _add(self, key: Sequence[str], content: bytes) -> bool:
        return self._file.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (_key(key), content)).rowcount == 1

    def _content(self, key: Sequence[str]) -> bytes:
        [(content,)] = self._file.execute("SELECT content FROM seen WHERE identity = ?", (_key(key),))
        return bytes(content)


def _key(parts: Sequence[str]) -> bytes:
    return _digest("\0".join(parts).encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
