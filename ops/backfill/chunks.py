"""Chunks: the lines that are processed and loaded together, and the loads that become of them."""

import collections
import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from functions.row import Row
from ops.backfill.events import Event
from ops.backfill.sources import Line

MAX_LINES = 50_000
MAX_BYTES = 32 * 2**20

MAX_DAYS_OF_A_LOAD = 4_000
"""Partitions that one job can modify (https://cloud.google.com/bigquery/quotas#partitioned_tables)."""


def chunks(lines: Iterable[Line], max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> Iterator[list[Line]]:
    """Lines in their order, as many together as fit; the same lines give the same chunks.

    Args:
        lines: Of all sources.
        max_lines: Of a chunk.
        max_bytes: Of its lines; a longer line is a chunk of its own.
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
class Load:
    """What one load job takes.

    Attributes:
        table: `DATASET.TABLE`.
        events: At least one, each once.
    """

    table: str
    events: Sequence[Event]

    def __str__(self) -> str:
        first, last = self.events[0].line, self.events[-1].line
        return f"{self.table}, from {first.source} line {first.number} to {last.source} line {last.number}"


def loads(events: Iterable[Event], max_days: int = MAX_DAYS_OF_A_LOAD) -> list[Load]:
    """Group events by table, in their order; more than one load for a table where there are too many days.

    Args:
        events: Of a chunk, each once.
        max_days: Different `event_date`s of a load.
    """
    found: list[Load] = []
    groups: dict[str, list[Event]] = {}
    days: dict[str, set[str]] = collections.defaultdict(set)
    for event in events:
        table = event.table
        if isinstance(event.outcome, Row) and event.identity.kind not in days[table]:
            if len(days[table]) == max_days:
                found.append(Load(table, groups.pop(table)))
                days[table].clear()
            days[table].add(event.identity.kind)
        groups.setdefault(table, []).append(event)
    return [*found, *(Load(table, group) for table, group in groups.items())]


class Seen:
    """The events that a run has met, in a temporary file: there may be more than memory holds."""

    def __init__(self) -> None:
        self._file = sqlite3.connect("")
        self._file.execute("PRAGMA journal_mode = OFF")
        self._file.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")

    def is_new(self, event: Event) -> bool:
        """Whether an event is met for the first time on its way into its table."""
        digest = hashlib.blake2b("\0".join((event.table, *event.identity)).encode(), digest_size=16).digest()
        return self._file.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,)).rowcount == 1
