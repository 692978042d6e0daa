"""The report of a flush, which both engines log: `terraform/monitoring/metrics.yaml` makes metrics of it."""

import collections
import logging
from typing import Any

import msgspec

from functions.core.dead_letters import DeadLetter
from functions.core.rows import Row

type Outcome = Row | DeadLetter


class FlushReport(msgspec.Struct, kw_only=True):
    """Counts and times of a flush, in milliseconds. It contains nothing of any payload.

    Attributes:
        archive_uri: The archive object of its messages.
        events: Number of its messages.
        message_bytes: Bytes of their payloads and attributes.
        wait_ms: Time that the first of them was queued.
        lag_ms: Time from the publication of the oldest to the end of the flush.
        archive_ms: Time until all were archived.
        archive_bytes: Size of the object.
        insert_ms: Time that the inserts took.
        rows: Durable rows by table.
        dead_letters: Durable dead letters by stage.
        unknown_fields: Number of fields of the durable rows that no contract knows.
        rounded_numbers: Number of numbers of the durable rows that are rounded to the nine decimals of NUMERIC.
        failed: Number of events that must be delivered again.
        rejected: Number of events rejected since the last report because too much was in flight.
        overloaded: Whether events failed because BigQuery or Cloud Storage was overloaded.
        in_flight_limit: Maximum number of events in flight after this flush; 0 where there is none.
        errors: Reasons why events are not durable, without duplicates.
    """

    archive_uri: str
    events: int
    message_bytes: int
    wait_ms: int = 0
    lag_ms: int = 0
    archive_ms: int = 0
    archive_bytes: int = 0
    insert_ms: int = 0
    rows: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    dead_letters: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    unknown_fields: int = 0
    rounded_numbers: int = 0
    failed: int = 0
    rejected: int = 0
    overloaded: bool = False
    in_flight_limit: int = 0
    errors: list[str] = []

    @property
    def durable(self) -> int:
        """Number of events that are durable."""
        return self.rows.total() + self.dead_letters.total()

    @property
    def severity(self) -> int:
        """The severity of its log line."""
        return logging.ERROR if self.errors else logging.WARNING if self.dead_letters else logging.INFO

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its log line."""
        return msgspec.structs.asdict(self)

    def count_durable(self, durable: Outcome) -> None:
        """Count an event that is durable."""
        match durable:
            case Row():
                self.rows[durable.table] += 1
                self.unknown_fields += durable.unknown_fields
                self.rounded_numbers += durable.rounded_numbers
            case DeadLetter():
                self.dead_letters[durable.stage] += 1

    def count_failed(self, events: int, reason: str) -> None:
        """Count events that must be delivered again."""
        if reason not in self.errors:
            self.errors.append(reason)
        self.failed += events
