"""Writes load files: rows that are durable and not in their tables yet (`functions/archive/pending.py`)."""

import functools
import gzip
import itertools
from collections.abc import Mapping, Sequence

import msgspec

from functions.archive import layout
from functions.archive.pending import LoadFile
from functions.archive.upload import upload
from functions.core.dead_letters import TABLE as DEAD_LETTERS
from functions.drain.load_format import LoadFormat
from functions.ingest.http_client import Api
from functions.ingest.warehouse import InsertResult, InsertRow
from functions.schema.ddl import declared_table
from functions.schema.definitions import definitions
from functions.settings import Settings
from functions.tables import Tables, event_tables


def load_formats(settings: Settings) -> dict[str, LoadFormat]:
    """Return the format of the load files of each table, by the columns that `sql/` defines.

    The table itself may be behind the code: its job fails then, and is repeated when the column is there.
    """
    tables = {Tables(settings).live(table): table for table in (*event_tables(), DEAD_LETTERS)}
    return {
        tables[definition.name]: LoadFormat(declared_table(definition.ddl).schema)
        for definition in definitions("project", settings)
        if definition.name in tables
    }


class LoadFiles:
    """Writes rows into load files instead of inserting them.

    Args:
        api: Cloud Storage.
        bucket: Name of the archive's bucket.
        formats: The format of the files of each table.
    """

    def __init__(self, api: Api, bucket: str, formats: Mapping[str, LoadFormat]) -> None:
        self._api = api
        self._bucket = bucket
        self._formats = formats
        self._sequence = itertools.count(1)

    @functools.cached_property
    def _instance(self) -> str:
        """Random name of this process; drawn at the first use, since the server forks its workers."""
        return self._api.system.token()[:12]

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
        lines = self._formats[table](_columns(record) for record in records)
        file = LoadFile.new(table, self._api.system.now(), self._instance, next(self._sequence))
        upload(self._api, self._bucket, file.name, gzip.compress(lines, compresslevel=1), {}, timeout)
        return InsertResult({}, {})

    def uri(self, name: str) -> str:
        """Return the `gs://` address of a file."""
        return layout.address(self._bucket, name)


def _columns(record: InsertRow) -> dict[str, object]:
    columns = record.columns
    return msgspec.json.decode(columns, type=dict[str, object]) if isinstance(columns, msgspec.Raw) else dict(columns)
