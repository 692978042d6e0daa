"""The archive as a source of lines: its objects of a time of arrival, and of them the events of a type."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import msgspec
from google.cloud.storage import Client as StorageClient

from functions.archive.reader import ArchivedObject, ArchiveReader, object_at
from functions.files.sources import Line, Source


def arrived(storage: StorageClient, bucket: str, start: datetime, end: datetime) -> list[Source]:
    """Return the objects that were begun within a time, in its order.

    Args:
        storage: Client of the bucket's project.
        bucket: The archive.
        start: The first moment that counts, with a time zone.
        end: The first moment after it that does not.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
    """
    return _sources(ArchiveReader(storage, bucket).objects(start, end))


def named(storage: StorageClient, uris: Iterable[str]) -> list[Source]:
    """Return the objects of addresses, without asking whether they exist."""
    return _sources(object_at(uri, storage) for uri in uris)


def _sources(objects: Iterable[ArchivedObject]) -> list[Source]:
    return [Source(archived.uri, archived.size, archived.open) for archived in objects]


class _Typed(msgspec.Struct):
    event_type: str | None = None


_decode_type = msgspec.json.Decoder(_Typed).decode


@dataclasses.dataclass(frozen=True, slots=True)
class OfType:
    """Lines of a source whose envelopes say that their events are of a type.

    Attributes:
        source: The source.
        event_type: The type.
    """

    source: Source
    event_type: str

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        """Yield the lines of the source; raise the errors of the source."""
        return (line for line in self.source.lines(advance) if self._is_of_type(line))

    def _is_of_type(self, line: Line) -> bool:
        try:
            return _decode_type(line.data).event_type == self.event_type
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
