"""Findings of a reconciliation: counts by hour and type, and the events with problems."""

import collections
import dataclasses
from datetime import datetime
from typing import Any, NamedTuple

MAX_EXAMPLES = 1_000
"""Maximum number of events that are named; all are counted."""

_MAX_LOGGED = 20


class EventRef(NamedTuple):
    """An event of the archive with a problem."""

    event_id: str
    event_type: str
    message_id: str
    archive_uri: str


@dataclasses.dataclass(slots=True)
class HourCounts:
    """The events of a type that arrived in an hour.

    Attributes:
        archived: Envelopes in the archive: the sum of the next three. Without those of the smoke test whose rows are
            gone.
        matched: Those of them whose event has a row or a dead letter that names this very object.
        redelivered: Those whose event has its row or dead letter by another delivery.
        missing: Those whose event has neither a row nor a dead letter.
        rows: Rows that name an object of this hour.
        dead_letters: Dead letters that do.
        duplicates: Those of the rows that do not count, because another row of their event was processed later.
        conflicts: Those of the rows whose event id also has rows with another content: two events of a producer that
            gives both one id, of which the views show one.
        extra: Rows and dead letters whose event is not in the object that they name.
        different: Rows and dead letters that do not hold what the envelope does; counted where contents are compared.
    """

    archived: int = 0
    matched: int = 0
    redelivered: int = 0
    missing: int = 0
    rows: int = 0
    dead_letters: int = 0
    duplicates: int = 0
    conflicts: int = 0
    extra: int = 0
    different: int = 0

    def add(self, other: "HourCounts") -> None:
        """Add the counts of another hour."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclasses.dataclass(slots=True)
class Reconciliation:
    """The result of a comparison.

    Attributes:
        accounts: By hour of arrival, in UTC, and type.
        missing: The first `MAX_EXAMPLES` of the missing events.
        different: The first `MAX_EXAMPLES` of the events with a record that differs.
        conflicting: The first `MAX_EXAMPLES` of the events whose id also has another content.
        incomplete: Addresses of all objects with missing events.
        unreadable: Objects that cannot be read, and why.
        until: The time of arrival up to which all is compared.
    """

    until: datetime
    accounts: collections.defaultdict[tuple[datetime, str], HourCounts] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(HourCounts)
    )
    missing: list[EventRef] = dataclasses.field(default_factory=list)
    different: list[EventRef] = dataclasses.field(default_factory=list)
    conflicting: list[EventRef] = dataclasses.field(default_factory=list)
    incomplete: set[str] = dataclasses.field(default_factory=set)
    unreadable: list[str] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> HourCounts:
        """The sum of all accounts."""
        total = HourCounts()
        for account in self.accounts.values():
            total.add(account)
        return total

    def summary(self) -> dict[str, Any]:
        """Return the fields of the log line: the counts, and the first events with which something is wrong."""
        return {
            **dataclasses.asdict(self.total),
            "incomplete_objects": len(self.incomplete),
            "unreadable_objects": len(self.unreadable),
            "missing_events": [event.event_id for event in self.missing[:_MAX_LOGGED]],
            "conflicting_events": [event.event_id for event in self.conflicting[:_MAX_LOGGED]],
            "errors": self.unreadable[:_MAX_LOGGED],
        }

    @property
    def is_complete(self) -> bool:
        """Return whether every event that came in is there, with the content that came in."""
        return not (self.incomplete or self.different or self.unreadable)
