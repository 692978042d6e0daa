"""The load jobs of `drain`: started from load files, and looked after by the next run.

No run waits for a job. The ledger has each job before it is started, so that the next run knows its id: it starts
what a crash has left, deletes the files of what is loaded, and repeats what has failed.
"""

import contextlib
import enum
import hashlib
import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast

import msgspec
import requests
from google.api_core.exceptions import Conflict, Forbidden, GoogleAPIError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from google.cloud.bigquery import DEFAULT_RETRY, LoadJobConfig
from google.cloud.storage import Client as StorageClient
from google.cloud.storage.retry import DEFAULT_RETRY as STORAGE_RETRY

from functions import log
from functions.archive import layout
from functions.archive.pending import LoadFile, load_files
from functions.drain.ledger import Ledger, LedgerReplaced, Load, Pause, StoredLedger
from functions.settings import Settings
from functions.system import SYSTEM, System
from functions.tables import Tables

_ATTEMPTS = 5
_THREADS = 8
_FAILURES = (GoogleAPIError, GoogleAuthError, requests.RequestException)

MAX_FILES = 2_000
"""Maximum number of files of a job; BigQuery takes 10 000 addresses
(https://cloud.google.com/bigquery/quotas#load_jobs)."""

_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)
"""A table takes 1 500 load jobs a day, also failed ones (https://cloud.google.com/bigquery/quotas#load_jobs). A run
each minute leaves 60 of them for repetitions, so the pauses between failures double up to this one."""

logger = logging.getLogger("functions.main")


class LoadReport(msgspec.Struct):
    """Counts of a run's work on the load jobs, and of the load files that are left.

    Attributes:
        started_jobs: Number of jobs that were started.
        loaded_rows: Number of rows of the jobs that are done since the last run.
        failed_jobs: Number of jobs that have failed since the last run, or could not be started.
        unstarted_jobs: Number of those that could not be started; the next run tries again.
        pending_files: Number of load files that are not known to be loaded.
        pending_seconds: Age of the oldest of them.
    """

    started_jobs: int = 0
    loaded_rows: int = 0
    failed_jobs: int = 0
    unstarted_jobs: int = 0
    pending_files: int = 0
    pending_seconds: int = 0


class _Start(enum.Enum):
    """The result of starting a job."""

    STARTED = enum.auto()
    THERE = enum.auto()
    FAILED = enum.auto()


class _Ended(NamedTuple):
    """The consequences of a job that is done.

    Attributes:
        loads: What takes its place in the ledger.
        to_start: Those of them that have to be started.
        loaded: Names of the files whose rows are in the table.
    """

    loads: Sequence[Load] = ()
    to_start: Sequence[Load] = ()
    loaded: Sequence[str] = ()


class Loads:
    """The load jobs of a deployment.

    Args:
        client: Client of the datasets' project.
        storage: Client of the archive's project.
        settings: Dataset, archive, and the maximum seconds of a request, retries included: `flush_timeout`.
        insert_rows: Inserts the rows of a file one by one, given its name, so that a bad row fails alone.
        system: The machine.
    """

    def __init__(
        self,
        client: bigquery.Client,
        storage: StorageClient,
        settings: Settings,
        insert_rows: Callable[[str], None],
        system: System = SYSTEM,
    ) -> None:
        self._client = client
        self._bucket = storage.bucket(settings.archive_bucket)
        self._tables = Tables(settings)
        self._ledger = StoredLedger(self._bucket, settings.flush_timeout)
        self._insert_rows = insert_rows
        self._timeout = settings.flush_timeout / 3
        self._retry = DEFAULT_RETRY.with_timeout(settings.flush_timeout)
        self._storage_retry = STORAGE_RETRY.with_timeout(settings.flush_timeout)
        self._now = system.now
        self._pool = system.pool

    def check(self) -> None:
        """Check that the ledger can be read.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
            msgspec.DecodeError: The object is no ledger.
        """
        self._ledger.read()

    def advance(self) -> LoadReport:
        """Look after the jobs of earlier runs, and start a job for each table that has new files.

        Raises:
            LedgerReplaced: Other runs have replaced the ledger during each attempt: they do the same.
            google.api_core.exceptions.GoogleAPIError: Cloud Storage or BigQuery rejected a request or did not answer.
            msgspec.DecodeError: The ledger is none.
        """
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(LedgerReplaced):
                return self._advance()
        return self._advance()

    def _advance(self) -> LoadReport:
        report = LoadReport()
        # The ledger is read before the files are listed. So a file that is in no job of this ledger, and is listed, is
        # in no job of a later one either, unless the ledger has been replaced: then `replace` fails.
        ledger, generation = self._ledger.read()
        files, now = {file.name: file for file in self._files()}, self._now()
        pauses, loads, to_start = dict(ledger.pauses), list[Load](), list[Load]()
        with self._pool(_THREADS, "loads") as threads:
            for load, job in zip(ledger.loads, threads.map(self._job, ledger.loads), strict=True):
                if job is None:
                    to_start.append(load)
                if job is None or job.state != "DONE" or (load.until and now < load.until):
                    loads.append(load)
                    continue
                result = self._end(load, job, generation, pauses, report)
                loads += result.loads
                to_start += result.to_start
                # Only what is listed is deleted, so that a run that is cut off here leaves less to the next one.
                done = [files.pop(name) for name in result.loaded if name in files]
                list(threads.map(self._delete, done))
            assigned = {name for load in loads for name in load.files}
            # A table whose job could not be started gets no second one: all its files go into the next.
            waiting = {load.table for load in to_start} | {
                table for table, pause in pauses.items() if now < pause.until
            }
            new = _new_loads((file for file in files.values() if file.name not in assigned), waiting, generation)
            ended = Ledger([*loads, *new], pauses)
            if ended != ledger:
                self._ledger.replace(ended, generation)
            for outcome in threads.map(self._start, [*to_start, *new]):
                report.started_jobs += outcome is _Start.STARTED
                report.unstarted_jobs += outcome is _Start.FAILED
                report.failed_jobs += outcome is _Start.FAILED
        report.pending_files = len(files)
        oldest = min((file.written for file in files.values()), default=now)
        report.pending_seconds = max(round((now - oldest).total_seconds()), 0)
        return report

    def _files(self) -> list[LoadFile]:
        return sorted(load_files(self._bucket, self._timeout, self._storage_retry))

    def _job(self, load: Load) -> bigquery.LoadJob | None:
        """Return the job of a load; None if it was not started."""
        try:
            return cast("bigquery.LoadJob", self._client.get_job(load.job_id, retry=self._retry, timeout=self._timeout))
        except NotFound:
            return None
        except Forbidden:  # Somebody else has started it, `sluice drain` for example, who looks after it.
            logger.error("load job %s cannot be seen: it is left to whoever started it", load.job_id)  # noqa: TRY400
            return bigquery.LoadJob(load.job_id, None, None, self._client)  # type: ignore[no-untyped-call]

    def _end(
        self, load: Load, job: bigquery.LoadJob, generation: int, pauses: dict[str, Pause], report: LoadReport
    ) -> _Ended:
        """Look after a job that is done."""
        if job.error_result is None:
            pauses.pop(load.table, None)
            report.loaded_rows += job.output_rows or 0
            return _Ended(loaded=load.files)
        report.failed_jobs += 1
        reason = job.error_result.get("reason")
        fields = {"job_id": load.job_id, "table": load.table, "files": len(load.files), "reason": reason}
        logger.error("load job failed", extra={"fields": fields})
        if not _has_bad_row(job):
            pauses[load.table] = _longer(pauses.get(load.table), self._now())
            return _Ended()
        if len(load.files) > 1:
            half = len(load.files) // 2
            halves = [_load(load.table, files, generation) for files in (load.files[:half], load.files[half:])]
            return _Ended(halves, halves)
        try:
            self._insert_rows(load.files[0])
        except Exception as error:
            logger.error("rows of a load file are not inserted: %s", log.safe_message(error))  # noqa: TRY400
            pause = _longer(Pause(load.failures, self._now()), self._now())
            return _Ended([msgspec.structs.replace(load, failures=pause.failures, until=pause.until)])
        return _Ended(loaded=load.files)

    def _delete(self, file: LoadFile) -> None:
        try:
            self._bucket.blob(file.name).delete(timeout=self._timeout, retry=self._storage_retry)
        except NotFound:  # Another run has deleted it.
            return

    def _start(self, load: Load) -> _Start:
        """Start a job. If that fails, the next run tries again."""
        config = LoadJobConfig(
            source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
            write_disposition=bigquery.WriteDisposition.WRITE_APPEND,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        )
        uris = [layout.address(self._bucket.name, name) for name in load.files]
        table = f"{self._client.project}.{self._tables.live(load.table)}"
        try:
            self._client.load_table_from_uri(
                uris, table, job_id=load.job_id, job_config=config, retry=self._retry, timeout=self._timeout
            )
        except Conflict:  # Another run has started it, or an answer was lost.
            return _Start.THERE
        except _FAILURES as error:
            logger.error("load job is not started: %s", log.safe_message(error))  # noqa: TRY400 - may quote the event
            return _Start.FAILED
        return _Start.STARTED


def _new_loads(files: Iterable[LoadFile], waiting: Collection[str], generation: int) -> list[Load]:
    """Return loads of files that are in none, except of tables that have to wait."""
    by_table: dict[str, list[str]] = {}
    for file in files:
        if file.table not in waiting:
            by_table.setdefault(file.table, []).append(file.name)
    return [
        _load(table, batch, generation)
        for table, names in by_table.items()
        for batch in itertools.batched(names, MAX_FILES, strict=False)
    ]


def _load(table: str, files: Iterable[str], generation: int) -> Load:
    """Return a new load. Its id is that of these files for this version of the ledger: no other load has the same."""
    names = list(files)
    digest = hashlib.blake2b("\n".join((str(generation), *names)).encode(), digest_size=16)
    return Load(f"sluice_drain_{table}_{digest.hexdigest()}", table, names)


def _longer(pause: Pause | None, now: datetime) -> Pause:
    failures = 1 + (pause.failures if pause else 0)
    return Pause(failures, now + min(_FIRST_PAUSE * 2 ** min(failures - 1, 10), _LONGEST_PAUSE))


def _has_bad_row(job: bigquery.LoadJob) -> bool:
    """Return whether a job has failed by a row. A table that lacks a column is behind the code: no row is to blame."""
    result = job.error_result or {}
    messages = [error.get("message", "").lower() for error in [result, *(job.errors or [])]]
    is_of_data = result.get("reason") == "invalid" and any("error while reading data" in text for text in messages)
    return is_of_data and not any("no such field" in text for text in messages)
