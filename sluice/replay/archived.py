"""The archive as a source of lines: its objects by arrival time, and their events by type."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import BinaryIO, Protocol

import msgspec
from google.cloud.storage import Client as StorageClient

from functions.archive.reader import (
    Archived,
    ArchivedObject,
    ArchiveReader,
    CompactedObject,
    ObjectNotFound,
    UnreadableObject,
    object_at,
)
from functions.files.sources import Line, Lines, Source, Unreadable


class SizedLines(Lines, Protocol):
    """A source of lines of which the size is known."""

    @property
    def size(self) -> int:
        """Size in bytes, as it is stored."""


@dataclasses.dataclass(frozen=True, slots=True)
class CompactedSource:
    """A compacted object as a source of the lines of its originals, each line with the address of its own.

    Attributes:
        compacted: The object.
    """

    compacted: CompactedObject

    @property
    def size(self) -> int:
        """Size in bytes, as it is stored."""
        return self.compacted.size

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        """Yield all lines.

        Raises:
            Unreadable: The object cannot be read any further.
        """
        try:
            for original in self.compacted.originals():
                yield from _source(original).lines(lambda _: None)
        except (ObjectNotFound, UnreadableObject) as error:
            raise Unreadable(str(error)) from error
        advance(self.size)


def arrived(storage: StorageClient, bucket: str, start: datetime, end: datetime) -> list[SizedLines]:
    """Return the archive objects of a time range, in order of time.

    Args:
        storage: Client of the bucket's project.
        bucket: The archive.
        start: Start of the range, inclusive, with a time zone.
        end: End of the range, exclusive.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
    """
    return [_source(archived) for archived in ArchiveReader(storage, bucket).objects(start, end)]


def named(storage: StorageClient, uris: Iterable[str]) -> list[SizedLines]:
    """Return the objects of addresses, without asking whether they exist."""
    return [_source(object_at(uri, storage)) for uri in uris]


def _source(archived: Archived) -> SizedLines:
    if isinstance(archived, CompactedObject):
        return CompactedSource(archived)
    return Source(archived.uri, archived.size, functools.partial(_open, archived))


def _open(archived: ArchivedObject) -> BinaryIO:
    try:
        return archived.open()
    except (ObjectNotFound, UnreadableObject) as error:
        raise Unreadable(f"{archived.uri}: {error}") from error


class _Typed(msgspec.Struct):
    event_type: str | None = None


_decode_type = msgspec.json.Decoder(_Typed).decode


@dataclasses.dataclass(frozen=True, slots=True)
class OfType:
    """Lines of a source with events of one type, according to their envelopes.

    Attributes:
        source: The source.
        event_type: The type.
    """

    source: Lines
    event_type: str

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        """Yield the lines of the source; raise the errors of the source."""
        return (line for line in self.source.lines(advance) if self._is_of_type(line))

    def _is_of_type(self, line: Line) -> bool:
        try:
            return _decode_type(line.data).event_type == self.event_type
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
