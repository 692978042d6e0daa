"""Load files that wait to be loaded, with the load jobs that the ledger has for them. Reading them changes nothing."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple, Self

from google.cloud.storage import Bucket
from google.cloud.storage.retry import DEFAULT_RETRY

from functions.archive.pending import LoadFile, load_files
from functions.drain.ledger import StoredLedger
from functions.system import utc_now


class PendingLoad(NamedTuple):
    """Load files of a table that are not known to be loaded.

    Attributes:
        table: The table, without the dataset.
        files: The files, at least one.
        job_id: Id of their load job; None if they are in none yet.
        failures: Number of attempts that have failed in a row: load jobs of the table, or inserts of the file's rows.
        paused_until: When a run tries again, since earlier attempts have failed; None for at once.
    """

    table: str
    files: tuple[LoadFile, ...]
    job_id: str | None
    failures: int
    paused_until: datetime | None

    @property
    def oldest(self) -> datetime:
        """Time at which the oldest of the files was written, by the clock of its writer."""
        return min(file.written for file in self.files)

    def among(self, names: Collection[str]) -> Self | None:
        """Return it with those of its files that have one of the names; None if none has."""
        files = tuple(file for file in self.files if file.name in names)
        return self._replace(files=files) if files else None


def pending_loads(bucket: Bucket, seconds: float, now: Callable[[], datetime] = utc_now) -> list[PendingLoad]:
    """Return the load files that are not known to be loaded, by table and load job.

    Args:
        bucket: The archive's bucket.
        seconds: Maximum seconds of a request, retries included.
        now: Returns the time, in UTC.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected a request or did not answer.
        msgspec.DecodeError: The ledger is none.
    """
    ledger, _ = StoredLedger(bucket, seconds).read()
    loads = {name: load for load in ledger.loads for name in load.files}
    groups: dict[tuple[str, str | None], list[LoadFile]] = {}
    for file in load_files(bucket, seconds / 3, DEFAULT_RETRY.with_timeout(seconds)):
        job_id = loads[file.name].job_id if file.name in loads else None
        groups.setdefault((file.table, job_id), []).append(file)
    time, pending = now(), []
    for (table, job_id), files in groups.items():
        load, pause = loads.get(files[0].name), ledger.pauses.get(table)
        failures = max(load.failures if load else 0, pause.failures if pause else 0)
        until = load.until if load else pause and pause.until
        pending.append(PendingLoad(table, tuple(files), job_id, failures, until if until and time < until else None))
    return pending
