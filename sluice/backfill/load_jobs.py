"""Load jobs with deterministic ids, so that the same load never runs twice."""

import collections
import hashlib
import io
import itertools
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Self, cast

from google.api_core.exceptions import Conflict, NotFound
from google.cloud import bigquery
from google.cloud.bigquery import DEFAULT_RETRY, LoadJobConfig

from functions.core import dead_letters
from functions.core.dead_letters import Violation
from functions.core.rows import Row
from functions.drain.load_format import LoadFormat, Record
from functions.schema.definitions import Kind, definitions
from functions.settings import Settings
from functions.sql import query_config, render
from sluice.backfill.chunks import TableLoad
from sluice.backfill.events import Event, Identity

type _Job = bigquery.LoadJob | bigquery.CopyJob | bigquery.ExtractJob | bigquery.QueryJob | bigquery.UnknownJob
"""The type that the client declares for the result of `get_job`."""

_POLL_SECONDS = 0.5

_RETRY = DEFAULT_RETRY.with_delay(initial=0.1, maximum=5.0).with_timeout(60.0)
"""Retries of the client, limited to one minute instead of ten: the user can run the command again at any time."""

MAX_PARAMETER_BYTES = 8 * 10**6
"""Maximum size of a query's parameters; the whole request has 10 MB at most
(https://cloud.google.com/bigquery/quotas#query_jobs)."""

_VALUE_BYTES = len('{"value": }, ')

_ROWS = """
SELECT
  ingest.event_id AS event_id, CAST(event_date AS STRING) AS kind, ingest.message_id AS message_id,
  ingest.publish_time AS publish_time, ingest.content_digest AS content_digest, ingest.schema_version AS schema_version
FROM `{{ table }}`
WHERE event_date BETWEEN @first AND @last AND ingest.event_id IN UNNEST(@ids)
"""

_DEAD_LETTERS = """
SELECT
  event_id, IF(stage = 'warehouse', stage, fingerprint) AS kind, message_id, publish_time, content_digest,
  CAST(NULL AS INT64) AS schema_version
FROM `{{ table }}`
WHERE (fingerprint IN UNNEST(@kinds) OR stage IN UNNEST(@kinds)) AND event_id IN UNNEST(@ids)
"""


def _has_content(row: bigquery.Row, event: Event) -> bool:
    """Return whether a stored row or dead letter covers an event with the same id from another message.

    It does if it has the same content, or if it is a row that was published later: the event's own row was superseded,
    and may have been removed as a duplicate. Older code wrote no digest, and the digests of two versions of a contract
    cannot be
    compared: then the row counts as the event, unless this run has met the id with another content before.
    """
    outcome = event.outcome
    if row.content_digest is None or (isinstance(outcome, Row) and row.schema_version != outcome.schema_version):
        return not event.identity.message_id
    if isinstance(outcome, Row) and row.publish_time > outcome.message.publish_time:
        return True
    return bool(row.content_digest == outcome.content_digest)


class Stopped(Exception):
    """Raised when the run is stopped. A load job that has started continues in BigQuery.

    Attributes:
        job_id: Id of the running job; None if none was started.
    """

    def __init__(self, job_id: str | None = None) -> None:
        super().__init__(job_id)
        self.job_id = job_id


class LoadJobs:
    """The load jobs of a project into its tables.

    The tables are queried for existing rows, which may have changed since their load job. The ids of jobs prevent that
    concurrent runs, or requests whose answers were lost, load the same twice: BigQuery knows them for six months
    (https://cloud.google.com/bigquery/docs/managing-jobs).

    Args:
        client: Client of the project.
        tables: The tables as BigQuery has them, by `DATASET.TABLE`.
    """

    def __init__(self, client: bigquery.Client, tables: Mapping[str, bigquery.Table]) -> None:
        self._client = client
        self._tables = tables
        self._files = {name: LoadFormat(table.schema) for name, table in tables.items()}
        self._stopping = threading.Event()

    @classmethod
    def open(cls, client: bigquery.Client, settings: Settings) -> Self:
        """Look up all tables.

        Raises:
            google.api_core.exceptions.GoogleAPIError: One of them is missing, or cannot be seen.
            google.auth.exceptions.GoogleAuthError: There are no credentials.
        """
        names = [
            definition.name for definition in definitions(client.project, settings) if definition.kind is Kind.TABLE
        ]
        return cls(client, {name: client.get_table(f"{client.project}.{name}", retry=_RETRY) for name in names})

    def stop(self) -> None:
        """Stop all threads that wait for a job: they raise `Stopped`."""
        self._stopping.set()

    def go_on(self) -> None:
        """Check whether the run is stopped.

        Raises:
            Stopped: It is.
        """
        if self._stopping.is_set():
            raise Stopped

    def free_id(self, load: TableLoad) -> str:
        """Return an unused job id for a load; wait for a running job of the same load.

        A job id cannot be reused, so the next id has a number.

        Raises:
            Stopped: The run was stopped.
        """
        self.go_on()
        first = self._id(load)
        ids = itertools.chain([first], (f"{first}_{number}" for number in itertools.count(2)))
        job_id = next(ids)
        while job := self._find(job_id):
            self._wait_for(job)
            job_id = next(ids)
        return job_id

    def present(self, load: TableLoad) -> set[Identity]:
        """Return the identities of a load's present events, each with and without the id of its message.

        A row with the same id but different content does not count, unless its content is unknown.
        """
        return {
            identity for events in _requests(load.events) for identity in self._present(TableLoad(load.table, events))
        }

    def _present(self, load: TableLoad) -> Iterator[Identity]:
        kinds = sorted({event.identity.kind for event in load.events})
        ids = ("ARRAY<STRING>", [event.identity.event_id for event in load.events])
        if load.table.endswith(f".{dead_letters.TABLE}"):
            query, config = _DEAD_LETTERS, query_config(ids=ids, kinds=("ARRAY<STRING>", kinds))
        else:
            query, config = _ROWS, query_config(ids=ids, first=("DATE", kinds[0]), last=("DATE", kinds[-1]))
        rows = self._client.query_and_wait(render(query, table=load.table), job_config=config, retry=_RETRY)
        rows_by_identity: dict[Identity, list[bigquery.Row]] = collections.defaultdict(list)
        for row in rows:
            rows_by_identity[Identity(row.event_id, row.kind)].append(row)
        for event in load.events:
            for row in rows_by_identity[event.identity._replace(message_id="")]:
                if row.message_id == event.outcome.message.message_id:
                    yield event.with_message
                    yield event.identity
                elif _has_content(row, event):
                    yield event.identity

    def run(self, job_id: str, table: str, events: Sequence[tuple[Event, str]]) -> bool:
        """Load events, except the rows that BigQuery rejects, and wait until they are in the table.

        Args:
            job_id: An id that `free_id` returned.
            table: `DATASET.TABLE`.
            events: One event or more, each with the address of its archive object.

        Returns:
            Whether all events are known to be loaded; if not, `present` returns those that are.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected the job; no event is loaded.
            Stopped: The run was stopped while the job was running.
        """
        records = [event.outcome.record(archive_uri) for event, archive_uri in events]
        job, is_ours = self._run(job_id, table, records, max_rejected=len(records))
        job.result(retry=_RETRY)
        return is_ours and job.output_rows == len(records)

    def rejection_reasons(self, event: Event, archive_uri: str) -> list[Violation]:
        """Load a single event. Return the reasons why BigQuery rejects its row; empty if the row is loaded.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected the job for another reason.
            Stopped: The run was stopped while the job was running.
        """
        load = TableLoad(event.table, [event])
        job_id = self.free_id(load)
        if event.with_message in self.present(load):
            return []
        job, _ = self._run(job_id, event.table, [event.outcome.record(archive_uri)])
        errors = job.errors or []
        # Rows consist of our own columns, so a table that lacks one is behind the code: no fault of the event.
        lacks_column = any("no such field" in error.get("message", "").lower() for error in errors)
        if job.error_result and job.error_result.get("reason") == "invalid" and not lacks_column:
            # A path in the payload is none of the places that they name; what says most comes last.
            return [Violation("$", error.get("reason", "invalid"), error.get("message", "")) for error in errors[::-1]]
        job.result(retry=_RETRY)
        return []

    def load(self, job_id: str, table: str, records: Sequence[Record]) -> None:
        """Load records in the format of `insertAll`, and wait until they are in the table.

        Args:
            job_id: Id that no other job has had, except one with the same records.
            table: `DATASET.TABLE`.
            records: One record or more.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected the job; no record is loaded.
            Stopped: The run was stopped while the job was running.
        """
        job, _ = self._run(job_id, table, records)
        job.result(retry=_RETRY)

    def _run(
        self, job_id: str, table: str, records: Sequence[Record], max_rejected: int = 0
    ) -> tuple[bigquery.LoadJob, bool]:
        """Run a job that may skip `max_rejected` rows. Return it, and whether this call is known to have started it."""
        data = self._files[table](records)
        config = LoadJobConfig(
            source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            max_bad_records=max_rejected,
        )
        is_ours = True
        try:
            job: _Job = self._client.load_table_from_file(
                io.BytesIO(data), self._tables[table].reference, size=len(data), job_id=job_id, job_config=config
            )
        except Conflict:  # Another run is here at the same time, or the answer to an earlier try was lost.
            job = self._client.get_job(job_id, retry=_RETRY)
            is_ours = False
        self._wait_for(job)
        return cast("bigquery.LoadJob", job), is_ours

    def _id(self, load: TableLoad) -> str:
        """Return the job id of a load, which depends on the table's creation: a recreated table is loaded again."""
        table = self._tables[load.table]
        digest = hashlib.blake2b(f"{table.full_table_id} {table.created}".encode(), digest_size=16)
        for event in load.events:
            digest.update("\0".join(("", *event.identity, event.outcome.insert_id)).encode())
        return f"sluice_backfill_{table.table_id}_{digest.hexdigest()}"

    def _find(self, job_id: str) -> _Job | None:
        try:
            return self._client.get_job(job_id, retry=_RETRY)
        except NotFound:
            return None

    def _wait_for(self, job: _Job) -> None:
        while not job.done(retry=_RETRY):
            # A job that is done by now counts as done, although the run was asked to stop.
            if self._stopping.wait(_POLL_SECONDS) and not job.done(retry=_RETRY):
                raise Stopped(job.job_id)


def _requests(events: Iterable[Event]) -> Iterator[Sequence[Event]]:
    """Yield batches of events that fit into the parameters of a query, by day, as each day that is read is billed."""
    group: list[Event] = []
    size = 0
    for event in sorted(events, key=lambda event: event.identity.kind):
        more = sum(len(json.dumps(text)) + _VALUE_BYTES for text in (event.identity.event_id, event.identity.kind))
        if group and size + more > MAX_PARAMETER_BYTES:
            yield group
            group, size = [], 0
        group.append(event)
        size += more
    if group:
        yield group
