"""Writes a batch of messages in the caller's thread: archive first, then rows, then dead letters of rejected rows.

`functions/ingest/flush.py` does the same for requests that wait for their answers. This module is for callers
that already have batches, such as a worker of Dataflow.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Protocol

from functions import log
from functions.archive.writer import Archive
from functions.core.dead_letters import DeadLetter, Stage, Violation
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.ingest.flush_report import FlushReport, Outcome
from functions.ingest.http_client import is_overload
from functions.ingest.warehouse import InsertResult, InsertRow
from functions.system import SYSTEM, System


class NotDurable(Exception):
    """Events are not known to be durable and must be delivered again."""


class Inserts(Protocol):
    """Inserts rows into tables, as `functions.ingest.warehouse.Warehouse` does."""

    def insert(self, table: str, records: Sequence[InsertRow], timeout: float) -> InsertResult:
        """Insert rows into a table. The result has each row that is not durable."""


class BatchWriter:
    """Makes batches durable, one at a time. Several threads may share it.

    Args:
        process: Makes a row or a dead letter of each message.
        archive: Takes all messages.
        warehouse: Takes rows and dead letters.
        timeout: Seconds that each call of a service may take, retries included.
        report: Called with the report of each batch, durable or not.
        system: The machine.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a batch goes through
        self,
        process: EventPipeline,
        archive: Archive,
        warehouse: Inserts,
        timeout: float,
        report: Callable[[FlushReport], None],
        system: System = SYSTEM,
    ) -> None:
        self._process = process
        self._archive = archive
        self._warehouse = warehouse
        self._timeout = timeout
        self._report = report
        self._system = system

    def write(self, messages: Sequence[Message], now: datetime) -> FlushReport:
        """Write a batch; blocks.

        A batch that is written again gets another archive object, and the same insert ids.

        Args:
            messages: The batch, at least one message.
            now: The time, in UTC.

        Returns:
            The report of the batch, which is durable.

        Raises:
            NotDurable: BigQuery did not take all rows, and a retry may succeed.
            ApiError: Cloud Storage or BigQuery rejected the request.
            urllib3.exceptions.HTTPError: One of them did not answer in time, or the connection failed.
        """
        name = self._archive.name(now)
        size = sum(message.size for message in messages)
        report = FlushReport(archive_uri=self._archive.uri(name), events=len(messages), message_bytes=size)
        try:
            self._write(name, messages, now, report)
        except Exception as error:
            report.overloaded |= is_overload(error)
            reason = str(error) if isinstance(error, NotDurable) else log.safe_message(error)
            report.count_failed(len(messages) - report.durable, reason)
            raise
        finally:
            oldest = min(message.publish_time for message in messages)
            report.lag_ms = round((self._system.now() - oldest).total_seconds() * 1000)
            self._report(report)
        return report

    def _write(self, name: str, messages: Sequence[Message], now: datetime, report: FlushReport) -> None:
        outcomes = [self._outcome(message, now) for message in messages]
        clock = self._system.monotonic
        started = clock()
        report.archive_bytes = self._archive.write(name, outcomes, self._timeout)
        archived = clock()
        report.archive_ms = round((archived - started) * 1000)
        insert_by_table(self._warehouse, outcomes, now, self._timeout, report)
        report.insert_ms = round((clock() - archived) * 1000)

    def _outcome(self, message: Message, now: datetime) -> Outcome:
        """Process a message. An unforeseen error would fail its batch on each delivery, so it makes a dead letter.

        A lack of memory is no fault of the event.
        """
        try:
            return self._process(message, now)
        except MemoryError:
            raise
        except Exception as error:
            violation = Violation(
                "$", type(error).__name__, f"the event could not be processed: {log.safe_message(error)}"
            )
            return DeadLetter(message, Stage.ENRICH, [violation], now, self._process.code_version)


def insert_by_table(
    warehouse: Inserts, outcomes: Iterable[Outcome], now: datetime, timeout: float, report: FlushReport
) -> None:
    """Insert the rows and dead letters of an archive object, and what BigQuery rejects of them as dead letters; blocks.

    Args:
        warehouse: Takes them.
        outcomes: Rows and dead letters.
        now: When a rejected row failed, in UTC.
        timeout: Seconds that each insert may take, retries included.
        report: Names their archive object; counts what is durable.

    Raises:
        NotDurable: BigQuery did not take all rows, and a retry may succeed.
        ApiError: BigQuery rejected the request.
        urllib3.exceptions.HTTPError: It did not answer in time, or the connection failed.
    """
    dead_letters: list[Outcome] = []
    for table, rows in by_table(outcomes, lambda outcome: outcome).items():
        dead_letters += _insert(warehouse, table, rows, now, timeout, report)
    if dead_letters:
        _insert(warehouse, DeadLetter.table, dead_letters, now, timeout, report)


def _insert(  # noqa: PLR0913, PLR0917 - what an insert is made of
    warehouse: Inserts, table: str, outcomes: Sequence[Outcome], now: datetime, timeout: float, report: FlushReport
) -> list[Outcome]:
    """Insert into a table. Return what BigQuery rejects as dead letters."""
    records = [InsertRow(outcome.insert_id, outcome.encoded(report.archive_uri)) for outcome in outcomes]
    insertion = warehouse.insert(table, records, timeout)
    for position, outcome in enumerate(outcomes):
        if position not in insertion.rejected and position not in insertion.retryable:
            report.count_durable(outcome)
    if insertion.retryable:
        report.overloaded |= insertion.is_overloaded
        reasons = sorted(set(insertion.retryable.values()))
        raise NotDurable(f"{len(insertion.retryable)} of {len(outcomes)} rows: {'; '.join(reasons)}")
    return [dead_letter_of(outcomes[position], errors, now) for position, errors in insertion.rejected.items()]


def by_table[Event](events: Iterable[Event], outcome: Callable[[Event], Outcome]) -> dict[str, list[Event]]:
    """Return events by the table of their outcome, in their order."""
    tables: dict[str, list[Event]] = {}
    for event in events:
        tables.setdefault(outcome(event).table, []).append(event)
    return tables


def dead_letter_of(outcome: Outcome, errors: Sequence[Violation], now: datetime) -> DeadLetter:
    """Return the dead letter of a row that BigQuery has rejected.

    Raises:
        NotDurable: It was a dead letter already: its table does not fit the code.
    """
    if isinstance(outcome, Row):
        return outcome.dead_letter(Stage.WAREHOUSE, errors, now)
    paths = ", ".join(f"{path} {rule}" for path, rule, _ in errors)
    raise NotDurable(f"{outcome.table} rejected a row: {paths}")
