"""Files as a source: archive objects and NDJSON, listed and read by the workers."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import apache_beam as beam
import msgspec
from apache_beam.metrics import Metrics
from google.cloud.storage import Client as StorageClient

from dataflow.write import NAMESPACE, set_log_level
from functions.clients import storage_client
from functions.core.message import Message
from functions.files import sources
from functions.files.id_fields import IdField
from functions.files.messages import PlainEvents, ReadReport, read_messages
from functions.files.sources import SourceListing, canonical
from functions.settings import Settings

logger = logging.getLogger(__name__)


@functools.cache
def storage(settings: Settings) -> StorageClient:
    """Return the client of Cloud Storage. It is made once in a worker's process, and its threads share it.

    Beam's own file systems look up the project first, which takes long where Google Cloud cannot be reached.
    """
    return storage_client(settings)


class ReadFile(beam.DoFn):
    """Reads the messages of a file line by line.

    Args:
        variables: The settings, as `Settings.from_environment` reads them.
        now: The time of the whole run, in UTC.
        schema_version: Version of plain events; None for the default of the type.
        id_fields: Paths of the fields with the ids of plain events.
    """

    def __init__(
        self, variables: Mapping[str, str], now: datetime, schema_version: int | None, id_fields: Sequence[str]
    ) -> None:
        self._variables = dict(variables)
        self._now = now
        self._schema_version = schema_version
        self._id_fields = list(id_fields)

    def setup(self) -> None:
        """Read the settings."""
        self._settings = Settings.from_environment(self._variables)
        set_log_level(self._settings)

    def process(self, element: tuple[str, int]) -> Iterator[Message]:
        """Yield the messages of a file.

        Args:
            element: The file's name and size.

        Raises:
            Unreadable: It is not NDJSON, or cannot be read to its end; names the file and the line.
        """
        source = sources.source(*element, lambda: storage(self._settings))
        fields = [IdField.parse(path) for path in self._id_fields]
        plain = PlainEvents.of_version(self._now, self._schema_version, fields)
        yield from read_messages(source, plain, _report)


class ReadFiles(beam.PTransform):
    """Reads the messages of files, each once, however many of the names stand for it.

    A pattern may stand for a million objects: workers list its folders, and share what they find.

    Args:
        names: Files, folders, globs and `gs://BUCKET/PREFIX`.
        variables: The settings, as `Settings.from_environment` reads them.
        now: The time of the whole run, in UTC.
        schema_version: Version of plain events; None for the default of the type.
        id_fields: Paths of the fields with the ids of plain events.
    """

    def __init__(
        self,
        names: Sequence[str],
        variables: Mapping[str, str],
        now: datetime,
        schema_version: int | None = None,
        id_fields: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._names = list(names)
        self._variables = dict(variables)
        self._read = ReadFile(variables, now, schema_version, id_fields)

    def expand(self, begin: Any) -> Any:
        """Return the messages."""
        return (
            begin
            | "Names" >> beam.Create(self._names)
            | "Split" >> beam.FlatMap(_split, self._variables).with_output_types(tuple[str, str, str])
            | "Distribute the folders" >> beam.Distinct()
            | "List" >> beam.FlatMap(_list, self._variables).with_output_types(tuple[str, int])
            | "Distribute the files" >> beam.Distinct()
            | "Read" >> beam.ParDo(self._read).with_output_types(Message)
        )


def _split(name: str, variables: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    settings = Settings.from_environment(variables)
    return ((part.name, part.folder, part.delimiter) for part in sources.split(name, lambda: storage(settings)))


def _list(part: tuple[str, str, str], variables: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    settings = Settings.from_environment(variables)
    return ((canonical(source.name), source.size) for source in SourceListing(*part).sources(lambda: storage(settings)))


def _report(report: ReadReport) -> None:
    """Log and count what was read. An archive has many small objects: at level DEBUG a local run shows each of them."""
    logger.debug("read %s", msgspec.json.encode(report).decode())
    for text in report.first_without_id:
        logger.error("left out: %s", text)
    _counter("files").inc(report.files)
    _counter("smoke-tests").inc(report.smoke_tests)
    _counter("without-id").inc(report.without_id)


_counter = functools.partial(Metrics.counter, NAMESPACE)
