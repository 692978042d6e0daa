"""Erasure of persons from the dead letters."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import msgspec
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope
from functions.archive.reader import ObjectNotFound, UnreadableObject, object_at
from functions.core.message import Message
from functions.events import event_types
from functions.sql import Parameter, render
from sluice.erase.deletions import EVENTS_OF_A_STATEMENT, THESE_EVENTS, Deletion, Deletions, parameters_of
from sluice.erase.ownership import Ownership, Persons, Verdict, person_fields
from sluice.erase.report import Erased, EventRef

_DEAD_LETTERS = """
SELECT event_id, message_id, publish_time, archive_uri, payload, payload_bytes, TO_JSON_STRING(attributes) AS attributes
FROM (SELECT *, SAFE_CONVERT_BYTES_TO_STRING(payload) AS text FROM `{{ table }}`)
WHERE text IS NULL
  OR BYTE_LENGTH(payload) != payload_bytes
  OR event_type IS NULL
  OR event_type NOT IN UNNEST(@types)
  {% for field in fields %}
  OR (
    event_type IN UNNEST(@types_of_{{ field }})
    AND REGEXP_CONTAINS(COALESCE(SAFE.JSON_VALUE(text, '$.{{ field }}'), ''), r'^(?:$|true$|false$|-?0)')
  )
  {% endfor %}
  OR event_id IN UNNEST(@events)
  {% for name in traces %}
  OR REGEXP_CONTAINS(CONCAT(text, ' ', event_id, ' ', COALESCE(TO_JSON_STRING(attributes), '')), @{{ name }})
  {% endfor %}
"""
"""Query of all dead letters, except those that belong to others by type and field and do not contain the id."""


@dataclasses.dataclass(slots=True)
class DeadLetters:
    """The dead letters of persons.

    Attributes:
        persons: Persons to erase.
        storage: Client of the archive's project, which has the bytes of long dead letters.
        table: Table of the dead letters.
        deletions: Deletes rows.
        erased: Counts of the data that was erased so far.
        events: Dead letters and events of the archive that were erased.
        needed: Objects with the only copy of the bytes, or the ordering key, of dead letters that are not deleted yet.
    """

    persons: Persons
    storage: StorageClient
    table: str
    deletions: Deletions
    erased: Erased
    events: set[EventRef] = dataclasses.field(default_factory=set)
    needed: set[str] = dataclasses.field(default_factory=set)
    _uncertain: list[tuple[EventRef, Verdict]] = dataclasses.field(default_factory=list)
    """Dead letters that remain, unless the archive shows that they belong to the person."""

    def erase(self) -> None:
        """Delete the persons' dead letters."""
        letters = self._letters(self.table, self._uncertain)
        for batch in itertools.batched(letters, EVENTS_OF_A_STATEMENT, strict=False):
            if not self.delete([EventRef(row.event_id, row.message_id) for row in batch]):
                self.needed.update(row.archive_uri for row in batch if row.payload is None)

    def delete(self, letters: Sequence[EventRef]) -> bool:
        """Delete dead letters, except recent ones. Return whether all are deleted."""
        deletion = Deletion(self.table, THESE_EVENTS, "failed_at", parameters_of(letters))
        if is_done := self.deletions.delete(deletion):
            self.events.update(letters)
        return is_done

    def delete_late(self, events: Iterable[EventRef]) -> None:
        """Delete the dead letters of events that may have arrived since `erase`, which has counted all others."""
        if not self.deletions.dry_run:
            for batch in itertools.batched(events, EVENTS_OF_A_STATEMENT, strict=False):
                self.delete(batch)

    def list_uncertain(self) -> None:
        """List the dead letters that remain and may be the persons'."""
        self._list(self._uncertain, self.table)

    def count_copies(self, table: str) -> int:
        """Return the number of the persons' dead letters in a copy of the table; list uncertain ones."""
        uncertain: list[tuple[EventRef, Verdict]] = []
        count = len(self._letters(table, uncertain))
        self._list(uncertain, table)
        return count

    def _list(self, uncertain: Iterable[tuple[EventRef, Verdict]], table: str) -> None:
        for event, verdict in uncertain:
            if event not in self.events:
                self.erased.add_verdict(verdict, f"event {event.event_id} in {table}")

    def _letters(self, table: str, uncertain: list[tuple[EventRef, Verdict]]) -> list[bigquery.Row]:
        """Return the persons' dead letters of a table; add uncertain ones to `uncertain`."""
        types = event_types()
        fields = person_fields()
        traces: dict[str, Parameter] = {f"traces_{n}": ("STRING", text) for n, text in enumerate(self.persons.traces)}
        parameters: dict[str, Parameter] = {
            **traces,
            "types": ("ARRAY<STRING>", sorted(types)),
            "events": ("ARRAY<STRING>", sorted(self.persons.event_ids)),
        }
        for field in fields:
            names = sorted(name for name, event_type in types.items() if event_type.person_field == field)
            parameters[f"types_of_{field}"] = ("ARRAY<STRING>", names)
        own = []
        query = render(_DEAD_LETTERS, table=table, traces=list(traces), fields=fields)
        for row in self.deletions.query(query, parameters):
            verdicts = [self.persons.judge(message) for message in self._messages(row, table)]
            if theirs := next((verdict for verdict in verdicts if verdict.belongs_to_person), None):
                self.erased.unparsed += theirs.ownership is Ownership.UNPARSED
                own.append(row)
            else:
                uncertain += [(EventRef(row.event_id, row.message_id), verdict) for verdict in verdicts]
        return own

    def _messages(self, row: bigquery.Row, table: str) -> list[Message]:
        """Return the message of a dead letter, whose bytes are only in the archive if they are long."""
        envelope = Envelope(
            event_id=row.event_id,
            message_id=row.message_id,
            publish_time=row.publish_time,
            attributes=msgspec.json.decode(row.attributes or "{}", type=dict[str, str] | None) or {},
            payload_base64=row.payload,
        )
        message = envelope.message()
        if row.payload is not None:
            if len(row.payload) != row.payload_bytes:
                self.erased.add_remaining(
                    f"{table}: you may not read payloads; the policy tag of the raw columns defines who may"
                )
            return [message]
        try:
            envelopes = object_at(row.archive_uri, self.storage).envelopes()
            return [archived.message() for archived in envelopes if archived.message_id == row.message_id] or [message]
        except ObjectNotFound:
            return [message]
        except UnreadableObject as error:
            self.erased.add_remaining(
                f"{table}, event {row.event_id}: its bytes are unreadable: {row.archive_uri}: {error}"
            )
            return [message]
