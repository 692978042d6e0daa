"""The smoke test publishes an event of each type and an invalid one, and waits until each has arrived."""

import dataclasses
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.api_core.exceptions import BadRequest
from google.cloud import bigquery
from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY, DEFAULT_RETRY
from google.cloud.storage import Client as StorageClient

from functions.archive.reader import object_at
from functions.core import dead_letters
from functions.core.contracts import FOLDER, Contracts
from functions.core.message import SMOKE_TEST_ATTRIBUTE, SMOKE_TEST_IDS, Message
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.events import event_types
from functions.names import SMOKE_TEST
from functions.settings import Settings
from functions.sql import Parameter, query_config, render
from functions.tables import Tables, event_tables
from sluice.cloud_logging import CloudLogs, NotReadable
from sluice.contract.example import example
from sluice.publish import Publication, publish
from sluice.trace import read_object

STREAMING_BUFFER = timedelta(minutes=90)
"""Period after a streamed insert in which BigQuery may reject the deletion of the row
(https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations)."""

_LIVES_ON = timedelta(hours=1)
_LOOK_EVERY = 1.0
_LOOK_INTO_THE_LOG_EVERY = 5.0
"""Seconds between two reads of the log. A project may read 60 times a minute (https://cloud.google.com/logging/quotas#api-limits)."""
_CLOCKS_DIFFER = timedelta(minutes=5)
_CLEANED_DAYS = 30
_RETRY = DEFAULT_RETRY.with_timeout(20)
_JOB_RETRY = DEFAULT_JOB_RETRY.with_timeout(20)

_ROWS = """
SELECT
  ingest.event_id AS event_id, '{{ table }}' AS name, ingest.archive_uri AS archive_uri,
  ingest.publish_time AS publish_time, processed_timestamp AS processed_at, CAST(NULL AS STRING) AS why
FROM `{{ dataset }}.{{ table }}`
WHERE event_date = @day AND ingest.event_id IN UNNEST(@ids)
"""

_DEAD_LETTERS = """
SELECT
  event_id, '{{ table }}', archive_uri, publish_time, failed_at,
  CONCAT(stage, ', ', errors[OFFSET(0)].path, ': ', errors[OFFSET(0)].message)
FROM `{{ dataset }}.{{ table }}`
WHERE failed_at >= TIMESTAMP(@today) AND event_id IN UNNEST(@ids)
"""

_DELETE = """
DELETE FROM `{{ table }}`
WHERE {{ day }} BETWEEN @first AND @last AND REGEXP_CONTAINS({{ event_id }}, @pattern)
"""


class NoExample(ValueError):
    """Raised when no valid event can be generated from a contract; has the reason."""


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """An event of the smoke test.

    Attributes:
        event_id: `smoke-<run>-<type>`.
        data: The payload.
        table: Expected table: that of its type, or `dead_letters`.
    """

    event_id: str
    data: bytes
    table: str

    def publication(self, run: str) -> Publication:
        """Return the message to publish.

        Args:
            run: The run, with which its id begins.
        """
        return Publication(self.data, _attributes(self, run))


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """Arrival of a probe in a table.

    Attributes:
        table: Table that has the probe.
        seconds: Seconds from its publication until a query saw it there.
        lag: Seconds from its acceptance by Pub/Sub until it was processed.
        archive_uri: Archive object that its row names.
        rows: Number of its rows: Pub/Sub may deliver an event twice.
        why: Stage, place and message of a dead letter.
        problem: Error in its row, if there is one.
    """

    table: str
    seconds: float
    lag: float
    archive_uri: str
    rows: int
    why: str | None = None
    problem: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LogLines:
    """Log lines in Cloud Logging of the flushes that archived the probes.

    Attributes:
        expected: Objects that the flushes wrote: each flush logs one line, which names its object.
        missing: Objects without a log line.
        problem: Reason why the log was not searched, if it was not.
    """

    expected: Sequence[str]
    missing: Sequence[str] = ()
    problem: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Remains:
    """Rows that could not be deleted.

    Attributes:
        table: `DATASET.TABLE`.
        expires: Time at which their partition expires; None in the historical dataset.
        why: Error message of BigQuery.
    """

    table: str
    expires: datetime | None
    why: str


def oldest_day(now: datetime, retention_days: int) -> date:
    """Return the oldest event date whose partition does not expire within an hour."""
    return (now + _LIVES_ON).date() - timedelta(days=retention_days - 1)


def oldest_midnight(now: datetime, retention_days: int) -> datetime:
    """Return the beginning of that day."""
    return _midnight(oldest_day(now, retention_days))


def probes(settings: Settings, now: datetime, run: str) -> list[Probe]:
    """Return a valid event of each type, dated on the oldest possible day, and an event of an unknown type.

    Args:
        settings: Settings of the deployment.
        now: Current time.
        run: Name of this run, which the ids begin with.

    Raises:
        NoExample: No valid event can be generated from a contract.
    """
    at = oldest_midnight(now, settings.retention_days) + timedelta(hours=12)
    process = EventPipeline.from_settings(settings)
    made = [_good(name, process, at, now, run) for name in sorted(event_types())]
    return [*made, Probe(f"{run}-{SMOKE_TEST}", json.dumps({"event_type": SMOKE_TEST}).encode(), dead_letters.TABLE)]


def _good(name: str, process: EventPipeline, at: datetime, now: datetime, run: str) -> Probe:
    event_type = event_types()[name]
    event = {**example(_default_schema(process.contracts, name), run), event_type.time_field: at.isoformat()}
    probe = Probe(f"{run}-{name}", json.dumps(event).encode(), event_type.table)
    outcome = process(Message(probe.data, _attributes(probe, run), "0", now), now)
    if not isinstance(outcome, Row):
        path, _, message = outcome.errors[0]
        raise NoExample(f"no {name} event can be generated from its contract; add `examples` to it: {path}: {message}")
    return probe


def _attributes(probe: Probe, run: str) -> dict[str, str]:
    return {"event_id": probe.event_id, SMOKE_TEST_ATTRIBUTE: run}


def _default_schema(contracts: Contracts, name: str) -> dict[str, Any]:
    version = contracts.choose({"event_type": name}, {}).version
    schema: dict[str, Any] = json.loads((FOLDER / f"{name}.v{version}.json").read_text(encoding="utf-8"))
    return schema


class Smoke:
    """A run of the smoke test.

    Args:
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Settings of the deployment.

    Attributes:
        started: Time at which the test was created.
        run: Name of the run, with which the ids of its events begin.
        probes: Events of the run.
        arrivals: Arrivals of the probes, by event id.
        log_lines: Log lines of their flushes; None where Cloud Logging was not searched.
    """

    def __init__(self, client: bigquery.Client, storage: StorageClient, settings: Settings) -> None:
        self._client = client
        self._storage = storage
        self._settings = settings
        self.started = datetime.now(UTC)
        self.run = f"smoke-{uuid.uuid4().hex}"
        self.probes = probes(settings, self.started, self.run)
        self.arrivals: dict[str, Arrival] = {}
        self.log_lines: LogLines | None = None

    @property
    def arrived(self) -> bool:
        """Return whether every event is in its table and in the archive."""
        return len(self.arrivals) == len(self.probes) and not any(arrival.problem for arrival in self.arrivals.values())

    @property
    def passed(self) -> bool:
        """Return whether every event has arrived, and no log line is known to be missing."""
        return self.arrived and not (self.log_lines and self.log_lines.missing)

    def send(self, topic: str, timeout: float, arrived: Callable[[], object]) -> None:
        """Publish the events, and wait until all have arrived or the timeout ends.

        Args:
            topic: Full name of the topic.
            timeout: Seconds to wait after Pub/Sub has accepted the events.
            arrived: Called when events have arrived.

        Raises:
            One of `sluice.publish.FAILURES`: Pub/Sub did not accept an event.
            google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage rejected a request or did not answer.
        """
        publish((probe.publication(self.run) for probe in self.probes), topic)
        published = time.monotonic()
        while True:
            before = len(self.arrivals)
            self._look(published)
            if len(self.arrivals) > before:
                arrived()
            if len(self.arrivals) == len(self.probes) or time.monotonic() - published > timeout:
                return
            time.sleep(_LOOK_EVERY)

    def look_into_the_log(self, timeout: float) -> LogLines:
        """Wait until the log has the lines of all flushes or the timeout ends. A function may work without logging.

        Args:
            timeout: Maximum seconds to wait. Cloud Logging shows a line after some seconds.
        """
        expected = sorted({arrival.archive_uri for arrival in self.arrivals.values()})
        started = time.monotonic()
        try:
            logs = CloudLogs.connect(self._settings.google_cloud_project or self._client.project)
            while True:
                logged = logs.flushes(expected, self.started - _CLOCKS_DIFFER)
                missing = [uri for uri in expected if uri not in logged]
                if not missing or time.monotonic() - started > timeout:
                    self.log_lines = LogLines(expected, missing)
                    break
                time.sleep(min(_LOOK_INTO_THE_LOG_EVERY, timeout))
        except NotReadable as error:
            self.log_lines = LogLines(expected, problem=str(error))
        return self.log_lines

    def _look(self, published: float) -> None:
        wanted = {probe.event_id: probe for probe in self.probes if probe.event_id not in self.arrivals}
        rows_by_event: dict[str, list[bigquery.Row]] = {}
        for row in self._rows(list(wanted)):
            rows_by_event.setdefault(row.event_id, []).append(row)
        for event_id, rows in rows_by_event.items():
            row = rows[0]
            self.arrivals[event_id] = Arrival(
                table=row.name,
                seconds=time.monotonic() - published,
                lag=(row.processed_at - row.publish_time).total_seconds(),
                archive_uri=row.archive_uri,
                rows=len(rows),
                why=row.why,
                problem=self._problem(wanted[event_id], row),
            )

    def _rows(self, ids: Sequence[str]) -> Iterator[bigquery.Row]:
        dataset = self._settings.dataset
        selects = [render(_ROWS, dataset=dataset, table=table) for table in event_tables()]
        selects.append(render(_DEAD_LETTERS, dataset=dataset, table=dead_letters.TABLE))
        yield from self._query(
            "UNION ALL".join(selects),
            day=("DATE", oldest_day(self.started, self._settings.retention_days)),
            today=("DATE", self.started.date()),
            ids=("ARRAY<STRING>", ids),
        )

    def _problem(self, probe: Probe, row: bigquery.Row) -> str | None:
        if row.name != probe.table:
            return f"in {row.name} instead of {probe.table}"
        bucket = f"gs://{self._settings.archive_bucket}/"
        if not row.archive_uri.startswith(bucket):
            return f"archived in {row.archive_uri} instead of {bucket}"
        archived = read_object(probe.event_id, object_at(row.archive_uri, self._storage))
        if archived.problem:
            return archived.problem
        if probe.data not in [envelope.message().data for envelope in archived.envelopes]:
            return "the archive object does not contain its bytes"
        return None

    def _query(self, sql: str, **parameters: Parameter) -> Iterator[bigquery.Row]:
        config = query_config(**parameters)
        yield from self._client.query_and_wait(sql, job_config=config, retry=_RETRY, job_retry=_JOB_RETRY)

    def delete(self, *, all_runs: bool = False) -> list[Remains]:
        """Delete the rows of this run, or of all runs of the last 30 days, and return those that remain.

        BigQuery cannot delete rows that were streamed recently. The archive is unchanged.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejects a statement for another reason.
            google.auth.exceptions.GoogleAuthError: There are no credentials.
        """
        tables = Tables(self._settings)
        event_day = oldest_day(self.started, self._settings.retention_days)
        remains_by_table = [self._delete(tables.live(table), event_day, all_runs=all_runs) for table in event_tables()]
        remains_by_table.append(self._delete(tables.dead_letters, self.started.date(), all_runs=all_runs))
        if all_runs:  # Nothing brings them there today; a backfill from the archive by an older version did.
            remains_by_table += [
                self._delete(tables.historical(table), event_day, all_runs=True) for table in event_tables()
            ]
        return [remains for remains in remains_by_table if remains]

    def _delete(self, table: str, newest: date, *, all_runs: bool) -> Remains | None:
        dataset, _, name = table.partition(".")
        day, event_id = (
            ("DATE(failed_at)", "event_id") if name == dead_letters.TABLE else ("event_date", "ingest.event_id")
        )
        rows = self._query(
            render(_DELETE, table=table, day=day, event_id=event_id),
            first=("DATE", newest - timedelta(days=_CLEANED_DAYS if all_runs else 0)),
            last=("DATE", newest + timedelta(days=1)),
            pattern=("STRING", SMOKE_TEST_IDS if all_runs else f"^{self.run}-"),
        )
        try:
            list(rows)
        except BadRequest as error:
            if "streaming buffer" not in str(error):
                raise
            retention = timedelta(days=self._settings.retention_days)
            expires = None if dataset == self._settings.historical_dataset else _midnight(newest) + retention
            return Remains(table, expires, error.message or str(error))
        return None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
