"""Erasure of persons from the objects of the archive."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Protocol

import msgspec
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import decode_line
from functions.archive.reader import (
    Archived,
    ArchivedObject,
    ArchiveReader,
    ObjectNotFound,
    UnreadableObject,
    arrival_time,
    object_at,
)
from functions.archive.rewriter import KeepsChanging, rewrite
from functions.events import event_types
from sluice.erase.checkpoint import Checkpoint
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.ownership import Ownership, Persons, Verdict
from sluice.erase.report import Erased, EventRef

_WORKERS = 8
"""Number of threads; below the ten connections that a client keeps."""

_OBJECTS_AT_ONCE = 32

_LATE = timedelta(minutes=5)
"""Maximum difference of clocks, and maximum time between the archive object of an event and its row or load file."""


class Advance(Protocol):
    """Is called with a description of the progress, and the objects that were read since the last call."""

    def __call__(self, text: str, objects: Sequence[Archived] = (), /) -> object:
        """Show the progress."""


@dataclasses.dataclass(slots=True)
class ObjectChange:
    """Changes to an archive object.

    Attributes:
        uri: Address of the object.
        size: Stored size of the object in bytes.
        removed: Envelopes that were removed.
        remaining: Number of envelopes that were not removed, as far as they were read; 0 for none.
        unparsed: Number of `removed` that are not JSON.
        listed: Verdicts on envelopes that were not removed and have to be reported, each with its place.
        letters: Those of `removed` whose dead letters do not show that they are the persons'. While there are some, the
            object is as it was.
        originals: Number of `removed` by the address of the original object, without those that wait.
        waiting: Addresses of the originals that have `letters`; nothing else is known of them.
        problem: Reason why the object cannot be read.
        generation: Generation that was written; 0 if the object is gone, None if it is as it was.
    """

    uri: str
    size: int = 0
    removed: list[EventRef] = dataclasses.field(default_factory=list)
    remaining: int = 0
    unparsed: int = 0
    listed: list[tuple[Verdict, str]] = dataclasses.field(default_factory=list)
    letters: list[EventRef] = dataclasses.field(default_factory=list)
    originals: dict[str, int] = dataclasses.field(default_factory=dict)
    waiting: list[str] = dataclasses.field(default_factory=list)
    problem: str | None = None
    generation: int | None = None

    def add(self, other: "ObjectChange") -> None:
        """Add the changes to an original of a compacted object, or to what waited in this one."""
        self.letters += other.letters
        self.waiting += other.waiting
        if other.waiting:
            return
        self.removed += other.removed
        self.remaining += other.remaining
        self.unparsed += other.unparsed
        self.listed += other.listed
        self.originals.update(other.originals)
        self.problem = self.problem or other.problem
        self.generation = self.generation if other.generation is None else other.generation

    def add_earlier(self, earlier: "ObjectChange") -> None:
        """Add what an earlier attempt has removed and is gone: its answer was lost, or another writer did the same."""
        gone = [event for event in earlier.removed if event not in self.removed]
        if gone and not earlier.waiting:
            self.removed += gone
            self.unparsed = max(self.unparsed, earlier.unparsed)
            self.originals[self.uri] = len(self.removed)


@dataclasses.dataclass(slots=True)
class ArchiveErasure:
    """The archive of which persons are erased.

    Attributes:
        persons: Persons to erase.
        storage: Client of the archive's project.
        bucket: Name of the archive's bucket.
        dead_letters: The persons' dead letters.
        erased: Counts of the data that was erased so far.
        dry_run: Count the events; change nothing.
        checkpoint: Hours that were read; None to read all, and to keep no record.
        late: Events that were erased and may have arrived after the dead letters were searched.
    """

    persons: Persons
    storage: StorageClient
    bucket: str
    dead_letters: DeadLetters
    erased: Erased
    dry_run: bool = False
    checkpoint: Checkpoint | None = None
    late: list[EventRef] = dataclasses.field(default_factory=list)
    _late_from: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC) - _LATE)
    _again: set[str] = dataclasses.field(default_factory=set)
    """Objects of the current hours from which not everything could be erased."""
    _written: dict[str, int] = dataclasses.field(default_factory=dict)
    """Generations of the objects of the current hours that were rewritten; 0 for those that were deleted."""
    _named: list[EventRef] = dataclasses.field(default_factory=list)
    """Events that were erased from the current hours and whose ids name a person."""
    _touched: set[str] = dataclasses.field(default_factory=set)
    """Originals that were changed or gone; compacted objects may have their lines."""

    def erase(self, start: datetime | None, end: datetime | None, advance: Advance) -> None:
        """Remove the persons' events from the objects of a time; those that are needed for dead letters have to wait.

        Args:
            start: Start of the arrival times; None for the beginning.
            end: End of the arrival times; None for the end.
            advance: Called with a description of the progress, and the objects that were read since the last call.
        """
        if self.checkpoint:
            self._touched |= self.checkpoint.written()
        for hours in _together(self._reader.stored_hours(start, end)):
            listed = list(itertools.chain.from_iterable(hours))
            to_read = [archived for archived in listed if not self._is_read(archived)]
            self.erased.objects_skipped += len(listed) - len(to_read)
            for batch in itertools.batched(to_read, _OBJECTS_AT_ONCE, strict=False):
                self._erase_from([archived for archived in batch if archived.uri not in self.dead_letters.needed])
                arrived = batch[-1].arrived
                up_to = f", up to {arrived:%Y-%m-%d %H:%M}" if arrived else ""
                read = f"{self.erased.objects_read} objects, {self.erased.bytes_read / 1e6:.0f} MB"
                advance(f"archive: {read}{up_to}", batch)
            self._finish(hours)
        self._erase_from_compacted()

    def _is_read(self, archived: Archived) -> bool:
        return self.checkpoint is not None and self.checkpoint.is_read(archived)

    def _finish(self, hours: Sequence[Sequence[Archived]]) -> None:
        """Add hours to the checkpoint."""
        if self.checkpoint is None:
            return
        again, written, events = self._again | self.dead_letters.needed, self._written, self._named
        self._again, self._written, self._named = set(), {}, []
        for number, hour in enumerate(hours):
            folder = _folder(hour[0].uri)
            self.checkpoint.add(
                folder,
                [uri for uri in again if _folder(uri) == folder],
                {uri: generation for uri, generation in written.items() if _folder(uri) == folder},
                events if number == 0 else (),
            )

    def _erase_from(self, objects: Sequence[Archived], only: Collection[str] | None = None) -> None:
        """Rewrite objects; originals that alone show whose a dead letter is have to wait until it is deleted."""
        with ThreadPoolExecutor(_WORKERS) as threads:
            changes = threads.map(functools.partial(self.rewrite, only=only), objects)
            for archived, change in zip(objects, changes, strict=True):
                letters = [letter for letter in change.letters if letter not in self.dead_letters.events]
                if letters and not self.dead_letters.delete(letters):
                    self.dead_letters.needed.update(change.waiting)
                elif change.waiting:
                    waiting, change.waiting = change.waiting, []
                    change.add(self.rewrite(archived, only=waiting, letters_deleted=True))
                if change.uri not in self.dead_letters.needed:
                    self._count(change)

    def erase_needed(self, *, letters_deleted: bool) -> None:
        """Remove the persons' events from the objects that were needed for dead letters.

        Args:
            letters_deleted: Whether the dead letters are deleted.
        """
        for uri in sorted(self.dead_letters.needed):
            if letters_deleted:
                self._count(self.rewrite(object_at(uri, self.storage), letters_deleted=True))
            else:
                self.erased.remaining.append(
                    f"{uri}: contains the only data that identifies the person of a dead letter that is not deleted yet"
                )
        self._erase_from_compacted(letters_deleted=True)
        self.dead_letters.needed.clear()

    def _erase_from_compacted(self, *, letters_deleted: bool = False) -> None:
        """Erase the person from compacted objects of the originals that were changed, or gone when they were reached.

        A compaction may have read an original before it was changed, and deletes those that it has compacted.
        """
        touched, self._touched = self._touched, set()
        compacted = list(self._reader.compacted_of(*touched))
        if letters_deleted:
            for archived in compacted:
                self._count(self.rewrite(archived, only=touched, letters_deleted=True))
        else:
            self._erase_from(compacted, touched)

    @property
    def _reader(self) -> ArchiveReader:
        return ArchiveReader(self.storage, self.bucket)

    def _count(self, change: ObjectChange) -> None:
        erased = self.erased
        erased.objects_read += 1
        erased.bytes_read += change.size
        erased.envelopes += len(change.removed)
        erased.unparsed += change.unparsed
        remains = bool(change.remaining or change.waiting)
        erased.objects_rewritten += bool(change.removed and remains)
        erased.objects_deleted += bool(change.removed and not remains)
        for verdict, place in change.listed:
            erased.add_verdict(verdict, place)
        erased.objects.update(change.originals)
        arrived = arrival_time(change.uri)
        if arrived is None or arrived >= self._late_from:
            self.late += (event for event in change.removed if event not in self.dead_letters.events)
        self.dead_letters.events.update(change.removed)
        self._note(change)
        if change.problem:
            erased.remaining.append(f"{change.uri}: {change.problem}")

    def _note(self, change: ObjectChange) -> None:
        """Keep what the checkpoint has to have of an object."""
        if self.checkpoint is None:
            return
        if change.generation is not None:
            self._written[change.uri] = change.generation
        if change.listed or change.problem or change.waiting:
            self._again.add(change.uri)
        self._named += (event for event in change.removed if self.persons.is_named_in(event.event_id))

    def rewrite(
        self, archived: Archived, *, only: Collection[str] | None = None, letters_deleted: bool = False
    ) -> ObjectChange:
        """Remove the persons' envelopes from an object, also from a version that was written meanwhile.

        Args:
            archived: The object.
            only: The only originals that are changed; None for all but those that are needed for dead letters.
            letters_deleted: Whether the dead letters are deleted that only this object shows to be the persons'.
                Without it, such an original stays as it is, and `ObjectChange.letters` names them.
        """
        changes: dict[str, ObjectChange] = {}

        def edit(uri: str, ndjson: bytes, size: int) -> Sequence[bytes] | None:
            earlier = changes.get(uri)
            changes[uri] = change = ObjectChange(uri, size)
            if (only is not None and uri not in only) or (uri in self.dead_letters.needed and not letters_deleted):
                change.remaining = 1
                return None
            kept = self._edit(ndjson, change, letters_deleted=letters_deleted)
            if earlier:
                change.add_earlier(earlier)
            return kept

        try:
            generation = rewrite(archived, edit, event_types())
        except ObjectNotFound:
            if isinstance(archived, ArchivedObject):
                self._touched.add(archived.uri)
            if not changes:
                return ObjectChange(archived.uri, generation=0)
            generation = 0
        except UnreadableObject as error:
            return ObjectChange(archived.uri, archived.size, problem=str(error))
        except KeepsChanging:
            return ObjectChange(archived.uri, archived.size, problem="it changes constantly")
        total = ObjectChange(archived.uri, max((change.size for change in changes.values()), default=archived.size))
        total.generation = generation
        for change in changes.values():
            total.add(change)
        if isinstance(archived, ArchivedObject):
            self._touched.update(total.originals)
        return total

    def _edit(self, ndjson: bytes, change: ObjectChange, *, letters_deleted: bool) -> Sequence[bytes] | None:
        """Return the lines of an object that are not the persons'; None if it stays as it is."""
        if not self.persons.may_be_in(ndjson):
            change.remaining = 1
            return None
        kept = [line for line in ndjson.splitlines(keepends=True) if not self._belongs_to_person(line, change)]
        change.remaining = len(kept)
        if letters_deleted:
            change.letters.clear()
        if change.letters:
            change.waiting.append(change.uri)
        elif change.removed:
            change.originals[change.uri] = len(change.removed)
        if not change.removed:
            return None
        if change.letters or self.dry_run:
            collections.deque(map(decode_line, kept), maxlen=0)  # A line that is no envelope is reported before.
            return None
        return kept

    def _belongs_to_person(self, line: bytes, change: ObjectChange) -> bool:
        """Return whether a line of an object is the persons'."""
        if not self.persons.may_be_in(line):
            return False
        envelope = decode_line(line)
        message = envelope.message()
        verdict = self.persons.judge(message)
        change.unparsed += verdict.ownership is Ownership.UNPARSED
        if not verdict.belongs_to_person:
            change.listed.append((verdict, f"event {envelope.event_id} in {change.uri}"))
            return False
        event = EventRef(envelope.event_id, envelope.message_id)
        change.removed.append(event)
        if message.ordering_key:  # A dead letter has none: it has to be found without it, or by this envelope.
            without_key = msgspec.structs.replace(message, ordering_key="")
            if not self.persons.judge(without_key).belongs_to_person:
                change.letters.append(event)
        return True


def _together(hours: Iterable[list[Archived]]) -> Iterator[list[list[Archived]]]:
    """Yield hours; those with few objects together, so that all threads have some."""
    together: list[list[Archived]] = []
    for hour in hours:
        together.append(hour)
        if sum(map(len, together)) >= _OBJECTS_AT_ONCE:
            yield together
            together = []
    if together:
        yield together


def _folder(uri: str) -> str:
    return uri.rpartition("/")[0]
