"""Checks a recorded history: replays it, and looks for violations of the invariants."""

import collections
import dataclasses
import pathlib
from collections.abc import Collection, Iterable
from typing import Self

from functions.core.dead_letters import TABLE as DEAD_LETTERS
from tests.history import invariants
from tests.history.invariants import Contents, Expected, Row, Violation
from tests.history.lines import is_load_file
from tests.history.records import (
    ACKNOWLEDGING,
    STORING,
    Acknowledgement,
    Answer,
    Archived,
    End,
    Insert,
    Loaded,
    Pending,
    Published,
    Record,
    Recorder,
    Shown,
    StoredRow,
    Upload,
    read_records,
)

_SHOWN_VIOLATIONS = 5
"""Maximum number of violations in the message of an error."""


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Numbers of a history.

    Attributes:
        messages: Published messages.
        events: Published events.
        duplicates: Rows and dead letters of an event beyond its first.
        copies: Lines of an event in the archive beyond its first.
        missing: Events without a row or a dead letter.
        unarchived: Events that are not in the archive.
        rejected: Good events that are dead letters only.
    """

    messages: int
    events: int
    duplicates: int
    copies: int
    missing: int
    unarchived: int
    rejected: int


class CheckedHistory:
    """The state that a history leads to.

    What is true at a moment is known by answers: an object is in the archive once Cloud Storage has said so. `ingest`
    and `drain` cannot know it earlier.

    Args:
        records: The records, in their order.
        file: The file that has them.

    Attributes:
        violations: What violates an invariant, in the order of the history. The end is checked where it is recorded.
        is_complete: Whether the end is recorded.
    """

    def __init__(self, records: Iterable[Record], file: pathlib.Path | None = None) -> None:
        self._file = file
        self.violations: list[Violation] = []
        self.is_complete = False
        self._messages = 0
        self._published: dict[str, Expected] = {}
        self._acknowledged: set[str] = set()
        self._recorded: set[str] = set()
        self._uploaded: dict[str, Collection[str]] = {}
        self._archived: set[str] = set()
        self._writes = collections.Counter[str]()
        self._jobs: set[str] = set()
        self._loads = collections.Counter[str]()
        self._objects: dict[str, dict[str, list[str]]] = {}
        self._rows = collections.Counter[Row]()
        self._shown: dict[tuple[str, str], int] = {}
        self._pending: list[str] = []
        for record in records:
            self._add(record)

    def _add(self, record: Record) -> None:
        match record:
            case Published():
                self._publish(record)
            case Upload(status=status) if status in STORING:
                self._upload(record)
            case Insert():
                self._insert(record)
            case Loaded(job=job) if job not in self._jobs:
                self._load(record)
            case Answer(status=status) if status in ACKNOWLEDGING:
                self._acknowledge([record.event_id])
            case Acknowledgement():
                self._acknowledge(record.events)
            case End():
                self.is_complete = True
                contents = Contents(self._objects, self._rows, self._pending, self._shown)
                self.violations += invariants.check_end(self._published, self._acknowledged, contents)
            case _:
                self._store(record)

    def _store(self, record: Record) -> None:
        match record:
            case Archived():
                lines = self._objects.setdefault(record.uri, {})
                for event_id, payload in record.lines:
                    lines.setdefault(event_id, []).append(payload)
            case StoredRow():
                row = Row(record.table, record.event_id, record.archive_uri, record.content_digest)
                self._rows[row] += record.count
            case Shown():
                self._shown[record.table, record.event_id] = record.count
            case Pending():
                self._pending.append(record.uri)

    def _publish(self, record: Published) -> None:
        self._messages += 1
        before = self._published.get(record.event_id, Expected(frozenset(), frozenset()))
        self._published[record.event_id] = Expected(
            before.tables | frozenset(record.tables), before.payloads | {record.payload}
        )

    def _upload(self, record: Upload) -> None:
        if is_load_file(record.uri):
            # An attempt whose answer was lost has written the file if the next one finds it there.
            self._writes[record.uri] += record.status == 200 or not self._writes[record.uri]
            for event_id, uri in record.events.items():
                self._record(event_id, uri)
        else:
            self._uploaded[record.uri] = frozenset(record.events)
            self._archived.update(record.events)

    def _insert(self, record: Insert) -> None:
        for event_id, uri in record.inserted:
            self._record(event_id, uri)

    def _record(self, event_id: str, archive_uri: str) -> None:
        self._recorded.add(event_id)
        if event_id in self._published:  # The events of an earlier history have their objects in that one.
            self.violations += invariants.check_row(event_id, archive_uri, self._uploaded.get(archive_uri, ()))

    def _load(self, record: Loaded) -> None:
        self._jobs.add(record.job)
        for file in self._writes.keys() & record.files:  # Others were written in an earlier history.
            self._loads[file] += 1
            self.violations += invariants.check_loaded(file, self._loads[file], self._writes[file])

    def _acknowledge(self, event_ids: Iterable[str]) -> None:
        for event_id in event_ids:
            if event_id in self._published:
                self._acknowledged.add(event_id)
                self.violations += invariants.check_acknowledged(
                    event_id, is_archived=event_id in self._archived, is_recorded=event_id in self._recorded
                )

    @classmethod
    def read(cls, file: pathlib.Path) -> Self:
        """Read a history from its file."""
        return cls(read_records(file), file)

    @classmethod
    def end(cls, recorder: Recorder, contents: Iterable[Record]) -> Self:
        """Record what is stored, as the end of a history, and read it again."""
        for record in contents:
            recorder.add(record)
        recorder.close()
        return cls.read(recorder.file)

    def check(self) -> None:
        """Check that nothing violates an invariant.

        Raises:
            AssertionError: Something does, or the history has no end; names the first violations, and the file.
        """
        assert self.is_complete, f"{self._file} has no end: what is stored was not recorded"
        assert not self.violations, self.summary

    @property
    def summary(self) -> str:
        """The first violations, and the command that shows more of them."""
        violations = self.violations
        lines = [f"{len(violations)} violations:", *map(str, violations[:_SHOWN_VIOLATIONS])]
        if len(violations) > _SHOWN_VIOLATIONS:
            lines.append(f"and {len(violations) - _SHOWN_VIOLATIONS} more")
        return "\n  ".join([*lines, f"python -m tests.history {self._file}"])

    @property
    def totals(self) -> Totals:
        """Numbers of the published events, as they are in the end."""
        records: collections.Counter[str] = collections.Counter()
        lines: collections.Counter[str] = collections.Counter()
        with_rows: set[str] = set()
        for row, count in self._rows.items():
            records[row.event_id] += count
            if row.table != DEAD_LETTERS:
                with_rows.add(row.event_id)
        for payloads_by_event in self._objects.values():
            for event_id, payloads in payloads_by_event.items():
                lines[event_id] += len(payloads)
        published = self._published
        return Totals(
            messages=self._messages,
            events=len(published),
            duplicates=sum(max(records[event_id] - 1, 0) for event_id in published),
            copies=sum(max(lines[event_id] - 1, 0) for event_id in published),
            missing=sum(not records[event_id] for event_id in published),
            unarchived=sum(not lines[event_id] for event_id in published),
            rejected=sum(
                records[event_id] > 0 and event_id not in with_rows and expected.tables != {DEAD_LETTERS}
                for event_id, expected in published.items()
            ),
        )
