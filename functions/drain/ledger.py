"""The ledger of the load jobs: which job takes which load files, as the object `load/ledger.json`.

It is replaced under the condition that nobody else has replaced it. So no file is given to two jobs, however many runs
there are at once.
"""

from datetime import datetime

import msgspec
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Bucket
from google.cloud.storage.retry import DEFAULT_RETRY

NAME = "load/ledger.json"


class Load(msgspec.Struct, frozen=True, omit_defaults=True):
    """A load job, which runs, is about to be started, or has ended since the last run.

    Attributes:
        job_id: Id of the job.
        table: Its table, without the dataset.
        files: Names of its load files.
        failures: Number of attempts to insert the rows of its only file one by one.
        until: Time before which the next attempt is not made.
    """

    job_id: str
    table: str
    files: list[str]
    failures: int = 0
    until: datetime | None = None


class Pause(msgspec.Struct, frozen=True):
    """A table into which nothing is loaded for a while, since load jobs have failed.

    Attributes:
        failures: Number of jobs that have failed in a row.
        until: End of the pause.
    """

    failures: int
    until: datetime


class Ledger(msgspec.Struct, frozen=True):
    """The load jobs that are not known to be done.

    Attributes:
        loads: The jobs; each file is in one of them at most.
        pauses: The tables that are paused, by name.
    """

    loads: list[Load] = []
    pauses: dict[str, Pause] = {}


class LedgerReplaced(Exception):
    """Raised when another run has replaced the ledger since it was read."""


class StoredLedger:
    """The ledger in Cloud Storage.

    Args:
        bucket: The archive's bucket.
        seconds: Maximum seconds of a request, retries included.
    """

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self._bucket = bucket
        self._timeout = seconds / 3
        self._retry = DEFAULT_RETRY.with_timeout(seconds)

    def read(self) -> tuple[Ledger, int]:
        """Return the ledger and its generation; an empty one with 0 before the first job.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
            msgspec.DecodeError: The object is no ledger.
        """
        blob = self._bucket.get_blob(NAME, timeout=self._timeout, retry=self._retry)
        if blob is None or blob.generation is None:
            # Without the bucket there is no ledger either, which a list tells apart.
            list(self._bucket.list_blobs(prefix=NAME, max_results=1, timeout=self._timeout, retry=self._retry))
            return Ledger(), 0
        try:
            data = blob.download_as_bytes(if_generation_match=blob.generation, timeout=self._timeout, retry=self._retry)
        except (NotFound, PreconditionFailed):  # replaced since
            return self.read()
        return msgspec.json.decode(data, type=Ledger), blob.generation

    def replace(self, ledger: Ledger, generation: int) -> None:
        """Replace the ledger that was read with a generation.

        Raises:
            LedgerReplaced: Another run has replaced it, or this one has and did not see the answer.
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
        """
        try:
            self._bucket.blob(NAME).upload_from_string(
                msgspec.json.encode(ledger),
                content_type="application/json",
                if_generation_match=generation,
                timeout=self._timeout,
                retry=self._retry,
            )
        except PreconditionFailed as error:
            raise LedgerReplaced from error
