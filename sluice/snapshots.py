"""Take snapshots of tables and restore them, with the statements of `sql/maintenance`."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import bigquery

from functions.core import dead_letters
from functions.schema.ddl import Field
from functions.schema.definitions import definitions
from functions.settings import Settings
from functions.tables import Tables, event_tables
from sluice.queries import RenderedQuery, WrongParameter, queries
from sluice.replay import ledger

STAMP = "%Y%m%dT%H%M%S"

_TIME_TRAVEL_HOURS = 168
"""Default hours of a dataset's time travel window."""

_CANNOT_READ_BEFORE = re.compile(r"[Cc]annot read before (\d+)")
"""BigQuery's error for a time before a table was created, with the first time that can be read, in milliseconds
(https://cloud.google.com/bigquery/docs/access-historical-data#query_data_at_a_point_in_time)."""


class SnapshotError(Exception):
    """A snapshot or a restore was rejected; nothing has been changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a table.

    Attributes:
        snapshot: Name of the snapshot in the historical dataset.
        table: The table of the live dataset.
        taken_at: Time as of which it holds the table.
        expires_at: Time at which BigQuery deletes it; None: never.
    """

    snapshot: str
    table: str
    taken_at: datetime
    expires_at: datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class Restored:
    """Result of a restore.

    Attributes:
        table: The table of the live dataset that has the rows now.
        rows: Number of rows; None on a dry run.
        as_of: Time as of which the rows are restored.
        before: Snapshot of the table before it was replaced, if it was.
    """

    table: str
    rows: int | None
    as_of: datetime
    before: str | None


@dataclasses.dataclass(slots=True)
class Snapshots:
    """Takes snapshots of the live dataset's tables into the historical dataset, and restores them.

    They are not in the live dataset because its default partition expiration would delete their partitions.

    Attributes:
        client: Client of the datasets' project.
        settings: Names of the datasets, retention.
        dry_run: Whether nothing is changed.
        statements: Statements that have been run, or would have been, with the values of their parameters in them.
    """

    client: bigquery.Client
    settings: Settings
    dry_run: bool = False
    statements: list[str] = dataclasses.field(default_factory=list)

    @staticmethod
    def tables() -> list[str]:
        """Return all tables: those of the event types, the dead letters, and the ledger, which closes dead letters."""
        return [*event_tables(), dead_letters.TABLE, ledger.TABLE]

    def take(self, table: str, now: datetime, days: int) -> Snapshot:
        """Take a snapshot of a table.

        Args:
            table: Table of the live dataset.
            now: Names the snapshot: `orders_20261123T201500`.
            days: Days for which the snapshot is kept.

        Raises:
            WrongParameter: `table` is not a valid name, or `days` is out of range.
            SnapshotError: The table does not exist or is a view.
            GoogleAPIError: BigQuery rejects the request.
        """
        name = f"{table}_{now.astimezone(UTC):{STAMP}}"
        statement = self._bound("snapshot", table=table, snapshot=name, days=str(days))
        self._check_is_table(table)
        self._run(statement)
        return Snapshot(name, table, now, now + timedelta(days=days))

    def taken(self) -> Iterator[Snapshot]:
        """Return the snapshots of the live dataset's tables that have not expired, newest first."""
        bound = self._bound("snapshots")
        for row in self.client.query_and_wait(bound.sql):
            snapshot = self._table(self._names.historical(row.snapshot))
            yield Snapshot(row.snapshot, row.table_name, row.snapshot_time, snapshot.expires)

    def restore(self, snapshot: str, to: str | None, now: datetime, *, replace: bool = False) -> Restored:
        """Restore a snapshot into a new table, or replace its table.

        Args:
            snapshot: Snapshot of the historical dataset.
            to: Name of the new table; None: that of the snapshot and `_restored`.
            now: Time in the name of the snapshot of the replaced rows.
            replace: Whether to replace the table that the snapshot is of.

        Raises:
            WrongParameter: A name is invalid.
            SnapshotError: The snapshot does not exist; the new table exists, or has the name of a table or view that
                the bootstrap creates; the table to replace does not exist, or its columns, partitions or clustering
                differ.
            GoogleAPIError: BigQuery rejects the request.
        """
        new = _on_the_way(snapshot, now) if replace else to or f"{snapshot}_restored"
        statement = self._bound("restore_snapshot", snapshot=snapshot, to=new)
        kept = self._table(self._names.historical(snapshot))
        definition = kept.snapshot_definition
        if definition is None or definition.base_table_reference is None or definition.snapshot_time is None:
            raise SnapshotError(_no_snapshot(snapshot))
        table = str(definition.base_table_reference.table_id)
        if replace:
            self._check_is_table(table)
        self._make(new, statement)
        return self._finish(new, table, definition.snapshot_time, now, replace=replace)

    def restore_as_of(
        self, table: str, at: datetime, to: str | None, now: datetime, *, replace: bool = False
    ) -> Restored:
        """Restore a table as of a time into a new table, or in place.

        Args:
            table: Table of the live dataset; it still has to exist.
            at: Within the dataset's time travel window, of seven days unless it is set to fewer
                (https://cloud.google.com/bigquery/docs/time-travel).
            to: Name of the new table; None: that of the table and the time and `_restored`.
            now: Time in the name of the snapshot of the replaced rows.
            replace: Whether to replace the table.

        Raises:
            WrongParameter: A name is invalid; or `at` is in the future, before the time travel window, or before the
                table was created.
            SnapshotError: There is no such table, or it is a view; the new one exists, or has the name of a table or
                view that the bootstrap creates; or the table to replace had different columns then.
            GoogleAPIError: BigQuery rejects the request.
        """
        as_it_was = f"{table}_{at.astimezone(UTC):{STAMP}}"
        new = _on_the_way(as_it_was, now) if replace else to or f"{as_it_was}_restored"
        statement = self._bound("restore_as_of", table=table, at=at.isoformat(), to=new)
        self._check_is_table(table)
        self._check_time_travel(at, now)
        try:
            self._make(new, statement)
        except BadRequest as error:
            if earliest := _CANNOT_READ_BEFORE.search(str(error)):
                first = datetime.fromtimestamp(int(earliest[1]) / 1000, UTC)
                raise WrongParameter(_out_of_range(f"table {table} did not exist yet", at, first, now)) from error
            raise
        return self._finish(new, table, at, now, replace=replace)

    def _finish(self, new: str, table: str, as_of: datetime, now: datetime, *, replace: bool) -> Restored:
        if not replace:
            return Restored(new, self._rows(new), as_of, None)
        try:
            if not self.dry_run and (why := self._differs(new, table)):
                raise SnapshotError(why)
            before = self.take(table, now, days=30).snapshot
            self._run(self._bound("replace_table", restored=new, table=table))
            return Restored(table, self._rows(new), as_of, before)
        finally:
            self._drop(new)

    def _bound(self, query: str, **given: str) -> RenderedQuery:
        return queries()[query].bind(self.client.project, self.settings, given)

    def _run(self, bound: RenderedQuery) -> None:
        self.statements.append(bound.with_values())
        if not self.dry_run:
            self.client.query_and_wait(bound.sql, job_config=bound.config())

    def _make(self, table: str, statement: RenderedQuery) -> None:
        # Readers have access to these by their names, and only the bootstrap puts policy tags on their columns.
        name = self._names.live(table)
        if name in {definition.name for definition in definitions(self.client.project, self.settings)}:
            raise SnapshotError(f"{table} is created by the bootstrap: run it, then restore with --replace")
        if self._exists(name):
            raise SnapshotError(f"table {table} already exists; choose another name with --to")
        self._run(statement)

    def _drop(self, table: str) -> None:
        if not self.dry_run:
            self.client.delete_table(self._names.live(table))

    def _differs(self, new: str, table: str) -> str | None:
        restored, live = (self._table(self._names.live(name)) for name in (new, table))
        for what, of in _SHAPE.items():
            if of(restored) != of(live):
                return f"the {what} of the restored table and of {table} differ: {of(restored)} and {of(live)}"
        return None

    def _check_is_table(self, table: str) -> None:
        if (kind := self._table(self._names.live(table)).table_type) != "TABLE":
            raise SnapshotError(f"{table} is not a table: its type is {kind}")

    def _check_time_travel(self, at: datetime, now: datetime) -> None:
        """BigQuery determines whether the table existed: it may have replaced a table that can still be read."""
        # An int64 of the API is a string.
        hours = int(self.client.get_dataset(self.settings.dataset).max_time_travel_hours or _TIME_TRAVEL_HOURS)
        earliest = now - timedelta(hours=hours)
        if at > now:
            raise WrongParameter(_out_of_range("the time is in the future", at, earliest, now))
        if at < earliest:
            why = f"the time travel of {self.settings.dataset} goes back {hours} hours"
            raise WrongParameter(_out_of_range(why, at, earliest, now))

    def _exists(self, name: str) -> bool:
        try:
            self.client.get_table(name)
        except NotFound:
            return False
        return True

    def _rows(self, table: str) -> int | None:
        return None if self.dry_run else self._table(self._names.live(table)).num_rows

    def _table(self, name: str) -> bigquery.Table:
        try:
            return self.client.get_table(name)
        except NotFound as error:
            dataset, _, table = name.partition(".")
            if dataset == self.settings.historical_dataset:
                raise SnapshotError(_no_snapshot(table)) from error
            if table in self.tables():
                hint = ": is DATASET right, and has the bootstrap created it (docs/deploy.md)?"
            else:
                hint = f"; tables of Sluice are {', '.join(self.tables())}"
            raise SnapshotError(f"{name} does not exist{hint}") from error

    @property
    def _names(self) -> Tables:
        return Tables(self.settings)


def _no_snapshot(name: str) -> str:
    return f"snapshot {name} does not exist; `sluice snapshot --list` lists all snapshots"


def _out_of_range(why: str, at: datetime, earliest: datetime, now: datetime) -> str:
    given, least, most = (time.astimezone(UTC).isoformat(timespec="milliseconds") for time in (at, earliest, now))
    return f"--at {given}: {why}; choose a time from {least} to {most}, or a snapshot"


def _on_the_way(name: str, now: datetime) -> str:
    """Return the name of a temporary table for a replacement, which no earlier attempt has used."""
    return f"{name}_restoring_{now.astimezone(UTC):{STAMP}}"


def _columns(table: bigquery.Table) -> list[Field]:
    return [_column(field) for field in table.schema]


def _column(field: Any) -> Field:  # noqa: ANN401 - a SchemaField, which its stubs do not type
    return {
        "name": field.name,
        "type": field.field_type,
        "mode": field.mode,
        "fields": [_column(inner) for inner in field.fields],
    }


def _partitions(table: bigquery.Table) -> tuple[str, str] | None:
    partitioning = table.time_partitioning
    return (partitioning.type_, partitioning.field) if partitioning else None


def _clustering(table: bigquery.Table) -> list[str] | None:
    fields: list[str] | None = table.clustering_fields
    return fields


_SHAPE: Mapping[str, Callable[[bigquery.Table], object]] = {
    "columns": _columns,
    "partitions": _partitions,
    "clustering columns": _clustering,
}
