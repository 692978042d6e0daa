"""Events of sources: what becomes of a line, and which table it belongs in."""

import dataclasses
import functools
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from functions.archive import layout
from functions.core.dead_letters import DeadLetter
from functions.core.message import Message, is_smoke_test
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.files.id_fields import IdField
from functions.files.messages import PlainEvents, read_envelope
from functions.files.sources import Line
from functions.settings import Settings
from functions.tables import Tables

MAX_DAYS = 10_000
"""Maximum age in days of an event in the historical dataset: a table has no more partitions
(https://cloud.google.com/bigquery/quotas#partitioned_tables)."""


class Identity(NamedTuple):
    """The identity of an event: two records of a table with the same one are duplicates for the deduplicated views.

    Attributes:
        event_id: The event's identity.
        kind: A row's `event_date` as YYYY-MM-DD; a dead letter's fingerprint.
        message_id: The id of its message, where the run has met the event with another content before: it
            distinguishes the two. Otherwise empty.
    """

    event_id: str
    kind: str
    message_id: str = ""


class Event(NamedTuple):
    """An event on its way into a table.

    Attributes:
        line: The line that it is in.
        outcome: Its row or its dead letter.
        table: The table of the outcome: `DATASET.TABLE`.
        identity: Its identity in that table.
        archive_uri: The object of the archive that has it already.
    """

    line: Line
    outcome: Row | DeadLetter
    table: str
    identity: Identity
    archive_uri: str | None

    @property
    def with_message(self) -> Identity:
        """The identity of this content of the event."""
        return self.identity._replace(message_id=self.outcome.message.message_id)


@dataclasses.dataclass(frozen=True, slots=True)
class EventReader:
    """Reads the lines of a run: envelopes of the archive, and plain events. It reads each line once.

    Attributes:
        process: The pipeline that makes rows and dead letters; no event is too old for it.
        settings: Datasets, retention and archive.
        now: The time of the whole run, in UTC.
        plain: Makes messages of plain events.
    """

    process: EventPipeline
    settings: Settings
    now: datetime
    plain: PlainEvents

    @classmethod
    def from_settings(
        cls, settings: Settings, now: datetime, schema_version: int | None = None, id_fields: Sequence[IdField] = ()
    ) -> "EventReader":
        """Read as the settings ask for.

        Args:
            settings: The settings of the deployment.
            now: The time of the whole run, in UTC.
            schema_version: Version of plain events; None for the newest.
            id_fields: The fields with the ids of plain events; none where what a line says is its identity.
        """
        process = dataclasses.replace(EventPipeline.from_settings(settings), retention_days=MAX_DAYS)
        return cls(process, settings, now, PlainEvents.of_version(now, schema_version, id_fields))

    def __call__(self, line: Line) -> Event:
        """Return the event of a line, with its row or its dead letter.

        Raises:
            NoEventId: The plain event lacks a field of its id.
        """
        message, archive_uri = self._message(line)
        outcome = self.process(message, self.now)
        if isinstance(outcome, DeadLetter):
            return self.dead_letter(line, outcome, archive_uri)
        kind = outcome.columns["event_date"]
        dataset = _dataset(kind, self.now.date(), self.settings)
        return Event(line, outcome, f"{dataset}.{outcome.table}", Identity(message.event_id, kind), archive_uri)

    @staticmethod
    def is_smoke_test(line: Line) -> bool:
        """Return whether a line is an event of the smoke test, as its envelope says: no real data."""
        envelope = read_envelope(line.data) if b'"smoke-' in line.data else None
        return envelope is not None and is_smoke_test(envelope.event_id)

    def dead_letter(self, line: Line, letter: DeadLetter, archive_uri: str | None) -> Event:
        """Return a line that is a dead letter."""
        identity = Identity(letter.message.event_id, letter.fingerprint)
        return Event(line, letter, Tables(self.settings).live(letter.table), identity, archive_uri)

    def _message(self, line: Line) -> tuple[Message, str | None]:
        """Return the message of a line, and the object of the archive if the line is in there."""
        if envelope := read_envelope(line.data):
            is_archived = layout.is_archived(self.settings.archive_bucket, line.source)
            return envelope.message(), line.source if is_archived else None
        return self.plain(line), None


@functools.lru_cache
def _dataset(event_date: str, today: date, settings: Settings) -> str:
    """Return the dataset: the historical one for what the live one would let expire at once, as `process` decides."""
    is_live = today - date.fromisoformat(event_date) < timedelta(days=settings.retention_days)
    return settings.dataset if is_live else settings.historical_dataset
