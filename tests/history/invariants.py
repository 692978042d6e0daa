"""The invariants of published events: the simulation checks them while it runs, `History` on what a real test recorded.

The names are those of the models' properties (docs/reliability.md) where they say the same.
"""

import collections
import dataclasses
import enum
from collections.abc import Collection, Container, Iterator, Mapping, Set
from typing import NamedTuple

from functions.core.dead_letters import TABLE as DEAD_LETTERS


class Invariant(enum.StrEnum):
    """The names of the invariants."""

    ARCHIVED = "acknowledged is archived"
    RECORDED = "acknowledged is recorded"
    OBJECT = "record has its object"
    LOADED_ONCE = "file is loaded once"
    ACKNOWLEDGED = "each is acknowledged"
    PLACE = "each is where it belongs"
    PAYLOAD = "archived as published"
    CONTENT = "rows have one content"
    SHOWN_ONCE = "views show each once"
    NO_FILE = "no load file is left"


class Violation(NamedTuple):
    """A violation of an invariant.

    Attributes:
        invariant: The invariant.
        name: Id of the event, or address of the load file.
        text: A sentence that says what is wrong.
    """

    invariant: Invariant
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


type Violations = Iterator[Violation]


class Row(NamedTuple):
    """A row or a dead letter, as far as the invariants need it.

    Attributes:
        table: Name of its table, without the dataset.
        event_id: The event's identity.
        archive_uri: Address of the archive object that it names.
        content_digest: Digest of its content; None where the recorder does not know it.
    """

    table: str
    event_id: str
    archive_uri: str
    content_digest: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """The fate of a published event.

    Attributes:
        tables: The tables of which at least one must have it, and no other one may; dead letters are a table.
        payloads: Digests of the payloads that were published with its id.
    """

    tables: Set[str]
    payloads: Set[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """The contents of the archive and of the tables in the end.

    Attributes:
        objects: Digests of the payloads by event id, by address of the archive object.
        rows: The rows and dead letters; those that are equal need be there once only.
        load_files: Names of the load files.
        shown: Number of rows in the deduplicated view by table and event id; None where nobody has looked.
    """

    objects: Mapping[str, Mapping[str, Collection[str]]]
    rows: Collection[Row]
    load_files: Collection[str] = ()
    shown: Mapping[tuple[str, str], int] | None = None


def check_acknowledged(event_id: str, *, is_archived: bool, is_recorded: bool) -> Violations:
    """Check an event at the moment at which it is acknowledged.

    Args:
        event_id: The event's identity.
        is_archived: Whether an archive object has it.
        is_recorded: Whether it has a row or a dead letter, or a line in a load file.
    """
    if not is_archived:
        text = f"{event_id} was acknowledged and is not in the archive"
        yield Violation(Invariant.ARCHIVED, event_id, text)
    if not is_recorded:
        text = f"{event_id} was acknowledged and is in no table and no load file"
        yield Violation(Invariant.RECORDED, event_id, text)


def check_row(event_id: str, archive_uri: str, event_ids: Container[str]) -> Violations:
    """Check that the archive object that a row or a dead letter names has its event.

    Args:
        event_id: The event's identity.
        archive_uri: Address of the object.
        event_ids: The events that the object has; none if it is not there.
    """
    if event_id not in event_ids:
        text = f"a row of {event_id} names {archive_uri}, which does not have it"
        yield Violation(Invariant.OBJECT, event_id, text)


def check_loaded(file: str, loads: int, writes: int) -> Violations:
    """Check that a load file is loaded once; a late upload may bring it back after that, and it is loaded again.

    Args:
        file: Its address.
        loads: Number of successful jobs that have loaded it so far.
        writes: Number of times that it was written so far.
    """
    if loads > writes:
        yield Violation(
            Invariant.LOADED_ONCE, file, f"{file} was loaded more often than it was written: {loads} times, {writes}"
        )


def check_end(published: Mapping[str, Expected], acknowledged: Container[str], contents: Contents) -> Violations:
    """Check that each event is where it belongs, and nowhere else, once faults have ended and everything has settled.

    Args:
        published: The published events by id.
        acknowledged: Ids of those that were acknowledged.
        contents: What is stored.
    """
    for event_id in published:
        if event_id not in acknowledged:
            yield Violation(Invariant.ACKNOWLEDGED, event_id, f"{event_id} was never acknowledged")
    yield from _check_archive(published, contents)
    yield from _check_tables(published, contents)
    for file in contents.load_files:
        yield Violation(Invariant.NO_FILE, file, f"{file} is left")


def _check_archive(published: Mapping[str, Expected], contents: Contents) -> Violations:
    archived: dict[str, set[str]] = collections.defaultdict(set)
    for lines in contents.objects.values():
        for event_id, payloads in lines.items():
            archived[event_id].update(payloads)
    for event_id, expected in published.items():
        payloads = archived.get(event_id, set())
        if not payloads:
            yield Violation(Invariant.PAYLOAD, event_id, f"{event_id} is not in the archive")
        elif not payloads <= expected.payloads:
            text = f"{event_id} is in the archive with another payload than was published"
            yield Violation(Invariant.PAYLOAD, event_id, text)


def _check_tables(published: Mapping[str, Expected], contents: Contents) -> Violations:
    tables: dict[str, set[str]] = collections.defaultdict(set)
    digests: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
    for row in contents.rows:
        tables[row.event_id].add(row.table)
        if row.content_digest is not None:
            digests[row.table, row.event_id].add(row.content_digest)
        yield from check_row(row.event_id, row.archive_uri, contents.objects.get(row.archive_uri, ()))
    for (table, event_id), values in digests.items():
        if len(values) > 1:
            yield Violation(Invariant.CONTENT, event_id, f"rows of {event_id} in {table} have several contents")
    for event_id, expected in published.items():
        names = tables.get(event_id, set())
        if not names or not names <= expected.tables:
            places = " and ".join(sorted(names)) or "no table"
            text = f"{event_id} is in {places}, and belongs into {' or '.join(sorted(expected.tables))}"
            yield Violation(Invariant.PLACE, event_id, text)
    if contents.shown is not None:
        yield from _check_shown(tables, contents.shown)


def _check_shown(tables: Mapping[str, Set[str]], shown: Mapping[tuple[str, str], int]) -> Violations:
    with_rows = {(table, event_id) for event_id, names in tables.items() for table in names if table != DEAD_LETTERS}
    for table, event_id in with_rows | shown.keys():
        count, expected = shown.get((table, event_id), 0), int((table, event_id) in with_rows)
        if count != expected:
            text = f"the deduplicated view of {table} shows {event_id} {count} times instead of {expected}"
            yield Violation(Invariant.SHOWN_ONCE, event_id, text)
