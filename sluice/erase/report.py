"""Counts of the data that an erasure has erased, and places of the data that it has left."""

import collections
import dataclasses
from typing import NamedTuple

from sluice.erase.ownership import Ownership, Verdict

MAX_LISTED = 1_000
"""Maximum number of places that are listed of a kind; the others are counted."""


class EventRef(NamedTuple):
    """Reference to the event of a dead letter, an envelope or an entry of the ledger."""

    event_id: str
    message_id: str


@dataclasses.dataclass(slots=True)
class Listed:
    """Places of events that were kept and need a manual check.

    Attributes:
        count: Number of the places.
        places: The first of them: `event EVENT_ID in TABLE`, or in an object of the archive.
    """

    count: int = 0
    places: list[str] = dataclasses.field(default_factory=list)

    def add(self, place: str) -> None:
        """Add a place."""
        self.count += 1
        if len(self.places) < MAX_LISTED:
            self.places.append(place)


@dataclasses.dataclass(slots=True)
class Erased:
    """Counts of the data that was erased, or would be.

    Attributes:
        rows: Number of rows by `DATASET.TABLE`, including dead letters.
        messages: Number of undeliverable messages; None where none were searched.
        objects_read: Number of archive objects that were read.
        objects_skipped: Number of those that an earlier run with the same checkpoint has read.
        bytes_read: Size of these objects in bytes, as they are stored.
        objects_rewritten: Number of objects that had events of the person and others.
        objects_deleted: Number of objects that had no other events.
        objects: Number of events that were removed from each object, by address.
        envelopes: Number of events that were in these objects.
        unparsed: Number of erased dead letters and events of the archive that are not JSON.
        doubtful: Places of others that may be the person's and were kept.
        unreadable: Places of others that could not be inspected, each with the reason.
        remaining: Data that was not erased and has to be, each with the reason.
    """

    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    messages: int | None = None
    objects_read: int = 0
    objects_skipped: int = 0
    bytes_read: int = 0
    objects_rewritten: int = 0
    objects_deleted: int = 0
    objects: dict[str, int] = dataclasses.field(default_factory=dict)
    envelopes: int = 0
    unparsed: int = 0
    doubtful: Listed = dataclasses.field(default_factory=Listed)
    unreadable: Listed = dataclasses.field(default_factory=Listed)
    remaining: list[str] = dataclasses.field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Return whether no data of the person remains in what was searched."""
        return not (self.remaining or self.doubtful.count or self.unreadable.count)

    def add_verdict(self, verdict: Verdict, place: str) -> None:
        """List an event that is kept, if it may be the person's or cannot be inspected."""
        if verdict.ownership is Ownership.DOUBTFUL:
            self.doubtful.add(place)
        if verdict.opaque is not None:
            self.unreadable.add(f"{place}: {verdict.opaque}")

    def add_remaining(self, problem: str) -> None:
        """Add a remaining problem, once."""
        if problem not in self.remaining:
            self.remaining.append(problem)
