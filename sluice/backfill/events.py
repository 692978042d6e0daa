"""Conversion of lines into events: the row or dead letter of a line, and its table."""

import dataclasses
import functools
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import NamedTuple

from functions.archive import layout
from functions.core.dead_letters import DeadLetter, Stage
from functions.core.message import Message, is_smoke_test
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.files.id_fields import IdField
from functions.files.messages import PlainEvents, read_envelope
from functions.files.sources import Line
from functions.settings import Settings
from functions.tables import Tables
from sluice.checkout import with_commit

MAX_DAYS = 10_000
"""Maximum age in days of an event in the historical dataset: a table has no more partitions
(https://cloud.google.com/bigquery/quotas#partitioned_tables)."""


class Identity(NamedTuple):
    """Identity of an event: the deduplicated views treat two records with the same identity as duplicates.

    Attributes:
        event_id: The event's identity.
        kind: A row's `event_date` as YYYY-MM-DD; a dead letter's fingerprint, or `warehouse` where BigQuery rejects the
            row: a load job and a streaming insert name different places for one reason, so their fingerprints differ.
        message_id: Id of its message, if the run has already read the id with different content: it
            distinguishes the two. Empty otherwise.
    """

    event_id: str
    kind: str
    message_id: str = ""


class Event(NamedTuple):
    """An event that is to be loaded into a table.

    Attributes:
        line: Line with the event.
        outcome: Row or dead letter of the event.
        table: The table of the outcome: `DATASET.TABLE`.
        identity: Its identity in that table.
        archive_uri: Archive object that already contains the event.
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
    """Converts the lines of a run: envelopes of the archive, and plain events.

    Attributes:
        process: Pipeline without a limit on the age of events.
        settings: Datasets, retention and archive.
        now: Time of the run, in UTC.
        plain: Creates the messages of plain events.
    """

    process: EventPipeline
    settings: Settings
    now: datetime
    plain: PlainEvents

    @classmethod
    def from_settings(
        cls, settings: Settings, now: datetime, schema_version: int | None = None, id_fields: Sequence[IdField] = ()
    ) -> "EventReader":
        """Return a reader with the settings of a deployment.

        Args:
            settings: The settings of the deployment.
            now: Time of the run, in UTC.
            schema_version: Contract version of plain events; None for the default of the type.
            id_fields: Fields with the ids of plain events; if empty, the id is derived from the line.
        """
        process = dataclasses.replace(EventPipeline.from_settings(with_commit(settings)), retention_days=MAX_DAYS)
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
        """Return whether the envelope of a line is that of an event of the smoke test."""
        envelope = read_envelope(line.data) if b'"smoke-' in line.data else None
        return envelope is not None and is_smoke_test(envelope.event_id)

    def dead_letter(self, line: Line, letter: DeadLetter, archive_uri: str | None) -> Event:
        """Return the event of a line that is a dead letter."""
        kind = letter.stage if letter.stage is Stage.WAREHOUSE else letter.fingerprint
        identity = Identity(letter.message.event_id, kind)
        return Event(line, letter, Tables(self.settings).live(letter.table), identity, archive_uri)

    def _message(self, line: Line) -> tuple[Message, str | None]:
        """Return the message of a line, and the archive object if the line is from the archive."""
        if envelope := read_envelope(line.data):
            is_archived = layout.is_archived(self.settings.archive_bucket, line.source)
            original = layout.original_of(line.source, envelope.origin) if envelope.origin else line.source
            return envelope.message(), original if is_archived else None
        return self.plain(line), None


@functools.lru_cache
def _dataset(event_date: str, today: date, settings: Settings) -> str:
    """Return the historical dataset for an event whose live partition is expired, otherwise the live one."""
    is_live = today - date.fromisoformat(event_date) < timedelta(days=settings.retention_days)
    return settings.dataset if is_live else settings.historical_dataset
