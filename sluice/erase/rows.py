"""Erasure of persons from the tables of the events and from the ledger of replays."""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

from functions.events import event_types
from functions.settings import Settings
from functions.sql import Parameter, render
from functions.tables import Tables
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.deletions import EVENTS_OF_A_STATEMENT, THESE_EVENTS, Deletion, Deletions, parameters_of
from sluice.erase.ownership import Persons
from sluice.erase.report import MAX_LISTED, Erased, EventRef

_COLUMNS_OF_LETTERS = {"event_id", "message_id", "archive_uri", "payload", "payload_bytes", "attributes"}
_MENTIONS_IN_ROWS = """
SELECT DISTINCT ingest.event_id AS event_id
FROM `{{ table }}`
WHERE NOT COALESCE({{ own }}, FALSE)
  AND (
    {{ others }}
    {% for name in mentions %}
    OR REGEXP_CONTAINS(CONCAT(COALESCE(ingest.event_id, ''), ' ', COALESCE(TO_JSON_STRING(extras), '')), @{{ name }})
    {% endfor %}
  )
ORDER BY event_id
LIMIT {{ limit }}
"""
_MENTIONS_IN_LEDGER = """
SELECT DISTINCT event_id, message_id
FROM `{{ table }}`
WHERE event_id IN UNNEST(@ids)
  {% for name in mentions %}
  OR REGEXP_CONTAINS(event_id, @{{ name }})
  {% endfor %}
ORDER BY event_id, message_id
"""


@dataclasses.dataclass(slots=True)
class Rows:
    """The rows of persons.

    Attributes:
        persons: Persons to erase.
        client: Client of the datasets' project.
        settings: Datasets.
        dead_letters: The persons' dead letters.
        deletions: Deletes rows.
        erased: Counts of the data that was erased so far.
        was_erased: Returns whether an earlier run has erased an event.
    """

    persons: Persons
    client: bigquery.Client
    settings: Settings
    dead_letters: DeadLetters
    deletions: Deletions
    erased: Erased
    was_erased: Callable[[EventRef], bool] = lambda _: False

    def erase(self) -> None:
        """Delete the persons' rows and entries of the ledger, and list what this command does not delete."""
        for event_type in event_types().values():
            for table in Tables(self.settings).both(event_type.table):
                columns = _columns(self.client.get_table(table))
                self.erase_from(table, event_type.person_field, columns)
                self._mentions_in_rows(table, event_type.person_field, columns)
        self._ledger()
        self._copies()

    def erase_from(self, table: str, field: str | None, columns: Mapping[str, str]) -> None:
        """Erase the rows of a table whose column `field` has the persons' id; recent rows have to wait.

        Args:
            table: Table of an event type, as `DATASET.TABLE`.
            field: The type's person field.
            columns: Type by name.
        """
        if condition := self._of_the_person(columns, {field}):
            self.deletions.delete(Deletion(table, condition, "processed_timestamp", self._parameters()))

    def _of_the_person(self, columns: Mapping[str, str], fields: Collection[str | None]) -> str | None:
        """Return the condition for rows with the persons' id in one of the fields; None if no field applies."""
        conditions = [
            f"{_as_text(field, columns[field])} IN UNNEST(@ids_of_{field})"
            for field in self.persons.ids
            if field in fields and field in columns
        ]
        if self.persons.event_ids and "ingest" in columns:
            conditions.append("ingest.event_id IN UNNEST(@events)")
        return f"({' OR '.join(conditions)})" if conditions else None

    def _parameters(self) -> dict[str, Parameter]:
        ids: dict[str, Parameter] = {
            f"ids_of_{field}": ("ARRAY<STRING>", sorted(values)) for field, values in self.persons.ids.items()
        }
        return {**ids, "events": ("ARRAY<STRING>", sorted(self.persons.event_ids))}

    def _mentions(self) -> dict[str, Parameter]:
        return {f"mentions_{number}": ("STRING", text) for number, text in enumerate(self.persons.mentions)}

    def _mentions_in_rows(self, table: str, field: str | None, columns: Mapping[str, str]) -> None:
        """List rows of others that name the person in another person field, an unknown field or the event id."""
        others = self._of_the_person(columns, self.persons.ids.keys() - {field})
        if others is None and not self.persons.mentions:
            return
        query = render(
            _MENTIONS_IN_ROWS,
            table=table,
            own=self._of_the_person(columns, {field}) or "FALSE",
            others=others or "FALSE",
            mentions=list(self._mentions()),
            limit=MAX_LISTED,
        )
        for row in self.deletions.query(query, {**self._parameters(), **self._mentions()}):
            self.erased.doubtful.add(f"event {row.event_id} in {table}")

    def _ledger(self) -> None:
        """Delete entries of the ledger for erased events whose ids name the person."""
        table = Tables(self.settings).replays
        ids = sorted(self.persons.event_ids.union(*self.persons.ids.values()))
        query = render(_MENTIONS_IN_LEDGER, table=table, mentions=list(self._mentions()))
        parameters: dict[str, Parameter] = {"ids": ("ARRAY<STRING>", ids), **self._mentions()}
        entries = {EventRef(*row) for row in self.deletions.query(query, parameters)}
        events, event_ids = self.dead_letters.events, self.persons.event_ids
        erased = {
            event for event in entries if event in events or event.event_id in event_ids or self.was_erased(event)
        }
        for batch in itertools.batched(sorted(erased), EVENTS_OF_A_STATEMENT, strict=False):
            self.deletions.delete(Deletion(table, THESE_EVENTS, "replayed_at", parameters_of(batch)))
        for event in sorted(entries - erased):
            self.erased.doubtful.add(f"event {event.event_id} in {table}")

    def _copies(self) -> None:
        """Search the tables that Sluice does not write: snapshots, restored tables, and others."""
        tables = Tables(self.settings)
        own = {*tables.events(), tables.dead_letters, tables.replays}
        for dataset in (self.settings.dataset, self.settings.historical_dataset):
            for listed in self.client.list_tables(dataset):
                name = f"{dataset}.{listed.table_id}"
                if name not in own and listed.table_type in {"TABLE", "SNAPSHOT"}:
                    try:
                        self._copy(name)
                    except NotFound:  # It has expired meanwhile.
                        continue

    def _copy(self, name: str) -> None:
        table = self.client.get_table(name)
        columns = _columns(table)
        condition = self._of_the_person(columns, self.persons.ids)
        rows = self.deletions.count(Deletion(name, condition, "", self._parameters())) if condition else 0
        if columns.keys() >= _COLUMNS_OF_LETTERS:
            rows += self.dead_letters.count_copies(name)
        if rows:
            expires = f"on {table.expires:%Y-%m-%d}" if table.expires else "never"
            self.erased.remaining.append(
                f"{name}: has rows of the person ({rows}); it is not the table of an event type, and this command"
                f" deletes nothing from it; drop it, or wait until it expires: {expires}"
            )


def _as_text(field: str, field_type: str) -> str:
    return f"`{field}`" if field_type == "STRING" else f"CAST(`{field}` AS STRING)"


def _columns(table: bigquery.Table) -> dict[str, str]:
    """Return the types of a table's columns by name."""
    return {column.name: column.field_type for column in table.schema}
