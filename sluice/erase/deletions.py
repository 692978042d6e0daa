"""Deletion of rows from BigQuery, which does not delete those of its streaming buffer yet."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from google.api_core.exceptions import BadRequest
from google.cloud import bigquery

from functions.sql import Parameter, query_config, render
from sluice.erase.report import Erased, EventRef

EVENTS_OF_A_STATEMENT = 5_000
"""Maximum events of a statement: with ids of 128 characters, each escaped to six, below the 10 MB of a request."""

THESE_EVENTS = "event_id IN UNNEST(@ids) AND message_id IN UNNEST(@messages)"
"""Condition for the rows of events, by `parameters_of`."""

_STREAMING_BUFFER = "streaming buffer"
"""Part of BigQuery's error for a statement that affects a row of the last 90 minutes or less: "UPDATE or DELETE
statement over table ... would affect rows in the streaming buffer, which is not supported". All others can be deleted
(https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations), so those are asked for alone."""

_SETTLED = timedelta(minutes=90)

_COUNT = "SELECT COUNT(*) AS found FROM `{{ table }}` WHERE {{ condition }}"
_DELETE = "DELETE FROM `{{ table }}` WHERE {{ condition }}"
_OLD = " AND COALESCE({{ age }} < @before, TRUE)"


def parameters_of(events: Sequence[EventRef]) -> dict[str, Parameter]:
    """Return the parameters of `THESE_EVENTS`."""
    return {
        "ids": ("ARRAY<STRING>", [event.event_id for event in events]),
        "messages": ("ARRAY<STRING>", [event.message_id for event in events]),
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """Limits of the wait for rows that BigQuery does not delete yet.

    Attributes:
        seconds: Maximum seconds in all.
        pause: Seconds between two attempts.
    """

    seconds: float = 100 * 60
    pause: float = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Deletion:
    """Rows to delete: those of a table that meet a condition. `age` is the column with the time at which they came."""

    table: str
    condition: str
    age: str
    parameters: Mapping[str, Parameter]


@dataclasses.dataclass(slots=True)
class Deletions:
    """Deletes rows, and waits for those that BigQuery does not delete yet.

    Attributes:
        client: Client of the datasets' project.
        erased: Counts of the data that was erased so far.
        dry_run: Count the rows; change nothing.
        patience: Limits of the wait for rows of the last 90 minutes.
    """

    client: bigquery.Client
    erased: Erased
    dry_run: bool = False
    patience: Patience = dataclasses.field(default_factory=Patience)
    _waiting: list[tuple[Deletion, datetime]] = dataclasses.field(default_factory=list)
    """Deletions, each with the time of the first attempt."""

    def query(self, query: str, parameters: Mapping[str, Parameter]) -> Iterable[bigquery.Row]:
        """Return the rows of a query."""
        return self.client.query_and_wait(query, job_config=query_config(**parameters))

    def count(self, deletion: Deletion) -> int:
        """Return the number of rows to delete."""
        query = render(_COUNT, table=deletion.table, condition=deletion.condition)
        [row] = self.query(query, deletion.parameters)
        return int(row.found)

    def delete(self, deletion: Deletion) -> bool:
        """Delete rows, except recent ones. Return whether all are deleted."""
        if self.dry_run:
            self.erased.rows[deletion.table] += self.count(deletion)
            return True
        if self._deleted(deletion):
            return True
        now = datetime.now(UTC)
        self._deleted(deletion, now - _SETTLED)
        self._waiting.append((deletion, now))
        return False

    def _deleted(self, deletion: Deletion, before: datetime | None = None) -> bool:
        """Return whether BigQuery deleted the rows: all, or those that arrived before a time."""
        query = render(_DELETE, table=deletion.table, condition=deletion.condition)
        parameters = dict(deletion.parameters)
        if before:
            query += render(_OLD, age=deletion.age)
            parameters["before"] = ("TIMESTAMP", before)
        try:
            job = self.client.query(query, job_config=query_config(**parameters))
            job.result()
        except BadRequest as error:
            if _STREAMING_BUFFER not in str(error):
                raise
            return False
        self.erased.rows[deletion.table] += job.num_dml_affected_rows or 0
        return True

    def wait(self, advance: Callable[[str], object] = lambda _: None) -> None:
        """Wait until BigQuery deletes the recent rows that arrived before the first attempt."""
        deadline = time.monotonic() + self.patience.seconds
        while self._waiting:
            tables = ", ".join(sorted({deletion.table for deletion, _ in self._waiting}))
            remaining = deadline - time.monotonic()
            if remaining < self.patience.pause:
                self.erased.remaining.append(
                    f"{tables}: recent rows cannot be deleted yet; run the command again in 90 minutes"
                )
                break
            advance(
                f"{tables}: recent rows cannot be deleted yet; BigQuery allows it after at most 90 minutes"
                f" ({remaining / 60:.0f} minutes of waiting remain)"
            )
            time.sleep(self.patience.pause)
            for deletion, before in self._waiting[:]:
                if self._deleted(deletion, before):
                    self._waiting.remove((deletion, before))
                    if later := self.count(deletion):
                        self.erased.remaining.append(
                            f"{deletion.table}: {later} rows arrived during the run; run the command again"
                        )

    def is_waiting(self, table: str) -> bool:
        """Return whether rows of a table are not deleted yet."""
        return any(deletion.table == table for deletion, _ in self._waiting)
