"""Load files of batch mode, which wait beside the archive until load jobs have brought their rows into the tables.

They are objects `load/TABLE/TIME-INSTANCE-NUMBER.ndjson.gz` of the archive's bucket, and deleted once they are loaded.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from google.api_core.retry import Retry
from google.cloud.storage import Bucket
from google.cloud.storage.retry import DEFAULT_RETRY

PREFIX = "load/"
"""Prefix of the names of all load files."""

_TIME = "%Y%m%dT%H%M%S.%fZ"
_SLASHES = 2


class LoadFile(NamedTuple):
    """A load file.

    Attributes:
        name: Name of the object.
        table: The table of its rows, without the dataset.
        written: When it was written, by the clock of its writer.
    """

    name: str
    table: str
    written: datetime

    @classmethod
    def new(cls, table: str, written: datetime, instance: str, number: int) -> "LoadFile":
        """Return a new file.

        Args:
            table: The table of its rows, without the dataset.
            written: The time, with a time zone.
            instance: Random name of the process that writes it.
            number: Number of the file among those of the process.
        """
        time = f"{written.astimezone(UTC):{_TIME}}"
        return cls(f"{PREFIX}{table}/{time}-{instance}-{number:08d}.ndjson.gz", table, written)

    @classmethod
    def from_name(cls, name: str) -> "LoadFile | None":
        """Return the load file of an object; None for any other object."""
        if name.count("/") == _SLASHES and name.startswith(PREFIX) and name.endswith(".ndjson.gz"):
            _, table, file = name.split("/")
            with contextlib.suppress(ValueError):
                return cls(name, table, datetime.strptime(file.partition("-")[0], _TIME).replace(tzinfo=UTC))
        return None


def load_files(bucket: Bucket, timeout: float = 60.0, retry: Retry = DEFAULT_RETRY) -> Iterator[LoadFile]:
    """Yield the files that are not known to be loaded, by table and time.

    Args:
        bucket: The archive's bucket.
        timeout: Maximum seconds of an attempt.
        retry: Repetitions.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected a request or did not answer.
    """
    fields = "items(name),nextPageToken"
    for blob in bucket.list_blobs(prefix=PREFIX, fields=fields, timeout=timeout, retry=retry):
        if file := LoadFile.from_name(blob.name):
            yield file
