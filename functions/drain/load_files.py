"""Load files: rows that are durable and not in their tables yet.

They are objects `load/TABLE/TIME-INSTANCE-NUMBER.ndjson.gz`, from which load jobs take them (`loads.py`).
"""

import contextlib
import functools
import gzip
import itertools
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from google.cloud import bigquery

from functions.archive import layout
from functions.archive.upload import upload
from functions.core.dead_letters import TABLE as DEAD_LETTERS
from functions.core.pipeline import utc_now
from functions.drain.load_format import LoadFormat
from functions.ingest.http_client import Api
from functions.ingest.warehouse import InsertResult, InsertRow
from functions.settings import Settings
from functions.tables import Tables, event_tables

PREFIX = "load/"
"""Prefix of the names of all load files; the archive's bucket has them, too."""

_TIME = "%Y%m%dT%H%M%S.%fZ"


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
    def from_name(cls, name: str) -> "LoadFile | None":
        """Return the load file of an object; None for any other object."""
        folder, table, file = ("", "", "") if name.count("/") != 2 else name.split("/")
        if f"{folder}/" == PREFIX and table and file.endswith(".ndjson.gz"):
            with contextlib.suppress(ValueError):
                return cls(name, table, datetime.strptime(file.partition("-")[0], _TIME).replace(tzinfo=UTC))
        return None


def load_formats(client: bigquery.Client, settings: Settings) -> dict[str, LoadFormat]:
    """Return the format of the load files of each table, by the columns that the tables have.

    Raises:
        google.api_core.exceptions.GoogleAPIError: A table is missing, or BigQuery did not answer.
    """
    names = Tables(settings)
    tables = {table: f"{client.project}.{names.live(table)}" for table in (*event_tables(), DEAD_LETTERS)}
    return {table: LoadFormat(client.get_table(name).schema) for table, name in tables.items()}


class LoadFiles:
    """Writes rows into load files instead of inserting them.

    Args:
        api: Cloud Storage.
        bucket: Name of the archive's bucket.
        formats: Returns the format of the files of each table; called once for each run and file, so it is cached.
        now: Returns the time, in UTC.
    """

    def __init__(
        self,
        api: Api,
        bucket: str,
        formats: Callable[[], Mapping[str, LoadFormat]],
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._api = api
        self._bucket = bucket
        self._formats = formats
        self._now = now
        self._sequence = itertools.count(1)

    @functools.cached_property
    def _instance(self) -> str:
        """Random name of this process; drawn at the first use, since the server forks its workers."""
        return uuid.uuid4().hex[:12]

    def check(self) -> None:
        """Check that the formats are available.

        Raises:
            google.api_core.exceptions.GoogleAPIError: A table is missing, or BigQuery did not answer.
        """
        self._formats()

    def insert(self, table: str, records: Sequence[InsertRow], timeout: float) -> InsertResult:
        """Write rows into a new load file; blocks.

        Args:
            table: Name of the table.
            records: The rows, at least one.
            timeout: Maximum seconds, retries included.

        Returns:
            The result of an insert of which all rows are durable.

        Raises:
            ApiError: Cloud Storage rejected the request.
            urllib3.exceptions.HTTPError: Cloud Storage did not answer in time, or the connection failed.
            msgspec.DecodeError: The answer is no object, so it is not from Cloud Storage.
        """
        lines = self._formats()[table](_columns(record) for record in records)
        name = f"{PREFIX}{table}/{self._now():{_TIME}}-{self._instance}-{next(self._sequence):08d}.ndjson.gz"
        upload(self._api, self._bucket, name, gzip.compress(lines, compresslevel=1), {}, timeout)
        return InsertResult({}, {})

    def uri(self, name: str) -> str:
        """Return the `gs://` address of a file."""
        return layout.address(self._bucket, name)


def _columns(record: InsertRow) -> dict[str, object]:
    columns = record.columns
    return msgspec.json.decode(columns, type=dict[str, object]) if isinstance(columns, msgspec.Raw) else dict(columns)
