"""Reads the archive: lists its objects by the time of arrival, and reads the events of each.

Other modules know an object by its address, which is what rows and dead letters name. Only `functions.archive` knows
where and how the events of an address are stored.
"""

import contextlib
import dataclasses
import gzip
import zlib
from collections.abc import Iterator
from datetime import date, datetime
from typing import BinaryIO

import msgspec
from google.api_core.exceptions import NotFound
from google.cloud.storage import Blob
from google.cloud.storage import Client as StorageClient

from functions.archive import layout
from functions.archive.envelope import Envelope, read_envelopes
from functions.archive.summary import Summary
from functions.clients import open_blob

_UNREADABLE = (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError)
"""Errors of an object that is not as the archive wrote it."""

_FIELDS = "items(name,metadata,size,generation,storageClass,contentType),nextPageToken"


class ObjectNotFound(Exception):
    """Raised for an address without an object: it has been deleted, or never was."""


class UnreadableObject(Exception):
    """Raised for an object whose content is not as the archive wrote it; says why."""


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Report what is wrong with the content of an object.

    Raises:
        ObjectNotFound: Cloud Storage has no such object.
        UnreadableObject: The content is not gzip, or a line is no envelope.
    """
    try:
        yield
    except NotFound as error:
        raise ObjectNotFound(str(error)) from error
    except _UNREADABLE as error:
        raise UnreadableObject(str(error)) from error


@dataclasses.dataclass(frozen=True, slots=True)
class ArchivedObject:
    """An object of the archive.

    Attributes:
        uri: Its address: `gs://BUCKET/NAME`.
        blob: What Cloud Storage has of it. Only `functions.archive` uses it.
        summary: Summary of its events by its metadata; None where it has none, or is not listed.
    """

    uri: str
    blob: Blob
    summary: Summary | None = None

    @property
    def size(self) -> int:
        """Size in bytes, as it is stored; 0 until Cloud Storage has said it."""
        return self.blob.size or 0

    @property
    def arrived(self) -> datetime | None:
        """Time at which its events arrived; None where its name does not say it."""
        return arrival_time(self.uri)

    def open(self) -> BinaryIO:
        """Open it as it is stored: NDJSON, compressed with gzip.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
        """
        if self.blob.size is None:
            self.blob.reload()
        return open_blob(self.blob, self.size)

    def ndjson(self) -> bytes:
        """Return its lines, each an envelope.

        Raises:
            ObjectNotFound: It has been deleted.
            UnreadableObject: It is not gzip.
        """
        newest = self.blob.bucket.blob(self.blob.name)  # The listed generation is gone if an erasure has replaced it.
        with decoding():
            return gzip.decompress(newest.download_as_bytes())

    def envelopes(self) -> list[Envelope]:
        """Return its envelopes.

        Raises:
            ObjectNotFound: It has been deleted.
            UnreadableObject: It is not gzip, or a line is no envelope.
        """
        ndjson = self.ndjson()
        with decoding():
            return read_envelopes(ndjson)

    def envelopes_of(self, event_id: str) -> list[Envelope]:
        """Return its envelopes of an event; raise the errors of `envelopes`."""
        ndjson = self.ndjson()
        if msgspec.json.encode(event_id) not in ndjson:  # Most objects have none, which takes no parsing to see.
            return []
        with decoding():
            return [envelope for envelope in read_envelopes(ndjson) if envelope.event_id == event_id]


class ArchiveReader:
    """Lists the objects of an archive.

    Args:
        storage: Client of the archive's project.
        bucket: Name of the bucket.
    """

    def __init__(self, storage: StorageClient, bucket: str) -> None:
        self._bucket = storage.bucket(bucket)

    def objects(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[ArchivedObject]:
        """List the objects whose events arrived in a time, in the order of their addresses.

        Args:
            start: First time of arrival, with a time zone; None for the first of all.
            end: End of the times of arrival, exclusive; None for the last of all.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
        """
        first, last = (layout.first_name_at(time) if time else None for time in (start, end))
        return self._list(layout.PREFIX, first, last)

    def of_day(self, day: date) -> Iterator[ArchivedObject]:
        """List the objects whose events arrived on a day, in UTC; raise the errors of `objects`."""
        return self._list(layout.day_prefix(day))

    def _list(self, prefix: str, first: str | None = None, last: str | None = None) -> Iterator[ArchivedObject]:
        for blob in self._bucket.list_blobs(prefix=prefix, start_offset=first, end_offset=last, fields=_FIELDS):
            # The emulator of the local stack ignores the bounds. The folders of the console are empty objects.
            is_within = (first is None or first <= blob.name) and (last is None or blob.name < last)
            if is_within and not blob.name.endswith("/"):
                uri = layout.address(self._bucket.name, blob.name)
                yield ArchivedObject(uri, blob, Summary.from_metadata(blob.metadata))

    def bounds(self, start: datetime, end: datetime) -> tuple[str, str]:
        """Return the bounds of the addresses of all objects whose events arrived in a time; the second is exclusive."""
        first, last = (layout.address(self._bucket.name, layout.first_name_at(time)) for time in (start, end))
        return first, last


def object_at(uri: str, storage: StorageClient) -> ArchivedObject:
    """Return the object of an address, of this archive or another one; does not ask whether it exists."""
    return ArchivedObject(uri, Blob.from_uri(uri, client=storage))


def arrival_time(uri: str) -> datetime | None:
    """Return when the events of an object arrived, by its address; None where that does not say it."""
    name = uri.removeprefix("gs://").partition("/")[2]
    try:
        return layout.arrival_time(name)
    except ValueError:
        return None
