"""Reads the archive: lists its objects by the time of arrival, and reads the events of each.

Other modules know an object by its address, which is what rows and dead letters name. Only `functions.archive` knows
where and how the events of an address are stored: in the original object of this address or, once that is deleted, in
the compacted object of its hour. While both are there, the original counts.
"""

import contextlib
import dataclasses
import gzip
import io
import itertools
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from typing import BinaryIO, Self

import msgspec
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Blob
from google.cloud.storage import Client as StorageClient

from functions.archive import compacted_file, layout
from functions.archive.compacted_file import CompactedMetadata, DamagedLine
from functions.archive.envelope import Envelope, read_envelopes
from functions.archive.summary import Summary
from functions.clients import open_blob

_UNREADABLE = (OSError, EOFError, zlib.error, msgspec.DecodeError, UnicodeDecodeError, DamagedLine)
"""Errors of an object that is not as the archive wrote it."""

_FIELDS = "items(name,metadata,size,generation,metageneration,storageClass,contentType,timeCreated),nextPageToken"

_CHUNK_BYTES = 8 * 2**20
"""Size in bytes of the parts in which a compacted object is downloaded."""


class _Stored:
    """Properties of an object that Cloud Storage has listed."""

    __slots__ = ()

    blob: Blob

    @property
    def size(self) -> int:
        """Size in bytes, as it is stored; 0 until Cloud Storage has said it."""
        return self.blob.size or 0

    @property
    def storage_class(self) -> str:
        """Storage class, such as NEARLINE."""
        return self.blob.storage_class or "STANDARD"

    @property
    def generation(self) -> int | None:
        """Generation, which changes with the content; None until Cloud Storage has said it."""
        generation: int | None = self.blob.generation
        return generation

    @property
    def created(self) -> datetime | None:
        """Time at which this generation was written; None until Cloud Storage has said it."""
        created: datetime | None = self.blob.time_created
        return created


class ObjectNotFound(Exception):
    """Raised for an address without an object: it has been deleted, or never was."""


class UnreadableObject(Exception):
    """Raised for an object whose content is not as the archive wrote it; says why."""


def download(blob: Blob, start: int | None = None, end: int | None = None) -> bytes:
    """Return the stored bytes of an object in the listed generation; what is known of it stays as it was listed.

    Args:
        blob: The object.
        start: Position of the first byte; None for all bytes.
        end: End of the bytes, exclusive.

    Raises:
        google.api_core.exceptions.NotFound: It has been deleted.
        google.api_core.exceptions.PreconditionFailed: It has been replaced.
    """
    content: bytes = blob.bucket.blob(blob.name).download_as_bytes(
        start=start,
        end=None if end is None else end - 1,
        raw_download=True,
        if_generation_match=blob.generation,
        checksum="auto" if start is None else None,  # The checksum is that of all bytes.
    )
    return content


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
class ArchivedObject(_Stored):
    """An original object of the archive: the events of a flush, by the address that their rows name.

    Attributes:
        uri: Its address: `gs://BUCKET/NAME`.
        blob: What Cloud Storage has of it. Only `functions.archive` uses it.
        summary: Summary of its events by its metadata; None where it has none, or is not listed.
        lines: Its lines, where they are read from a compacted object already.
    """

    uri: str
    blob: Blob
    summary: Summary | None = None
    lines: bytes | None = dataclasses.field(default=None, repr=False)

    @property
    def arrived(self) -> datetime | None:
        """Time at which its events arrived; None where its name does not say it."""
        return arrival_time(self.uri)

    def originals(self) -> Iterator["ArchivedObject"]:
        """Yield the object itself, as a compacted object yields its originals."""
        yield self

    def open(self) -> BinaryIO:
        """Open it as it is stored: NDJSON, compressed with gzip; uncompressed from a compacted object.

        Raises:
            ObjectNotFound: It has been deleted.
            UnreadableObject: The compacted object is not as the archive wrote it.
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
        """
        if self.lines is not None:
            return io.BytesIO(self.lines)
        try:
            if self.blob.size is None:
                self.blob.reload()
            return open_blob(self.blob, self.size)
        except NotFound:
            return io.BytesIO(self.ndjson())

    def ndjson(self) -> bytes:
        """Return its lines, each an envelope.

        Raises:
            ObjectNotFound: It has been deleted.
            UnreadableObject: It is not gzip.
        """
        if self.lines is not None:
            return self.lines
        newest = self.blob.bucket.blob(self.blob.name)  # The listed generation is gone if an erasure has replaced it.
        with decoding():
            try:
                return gzip.decompress(newest.download_as_bytes())
            except NotFound as error:
                for compacted in _reader_of(newest).compacted_of(self.uri):
                    if compacted.is_finished and (lines := compacted.lines_of(newest.name)):
                        return lines
                raise ObjectNotFound(str(error)) from error

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


@dataclasses.dataclass(frozen=True, slots=True)
class CompactedObject(_Stored):
    """A compacted object of the archive: the events of many originals of an hour.

    Attributes:
        uri: Its address, which no row names.
        blob: What Cloud Storage has of it. Only `functions.archive` uses it.
        names: Names of its first and its last original.
        shown: Returns whether the original of a name counts here; it does not while that object itself is there.
        is_whole: Whether all its originals count here.
    """

    uri: str
    blob: Blob
    names: layout.OriginalsRange
    shown: Callable[[str], bool] = lambda _: True
    is_whole: bool = True

    @property
    def _metadata(self) -> CompactedMetadata:
        return CompactedMetadata.of(self.blob.metadata)

    @property
    def is_finished(self) -> bool:
        """Return whether its lines count; until then all its originals are there."""
        return self._metadata.is_finished

    @property
    def summary(self) -> Summary | None:
        """Summary of its events by its metadata; None where it has none, or not all its originals count here."""
        return self._metadata.summary if self.is_whole else None

    @property
    def arrived(self) -> datetime | None:
        """Time at which the events of its first original arrived."""
        return arrival_time(self.first)

    @property
    def first(self) -> str:
        """The address of its first original."""
        return layout.address(self.blob.bucket.name, self.names.first)

    @property
    def last(self) -> str:
        """The address of its last original."""
        return layout.address(self.blob.bucket.name, self.names.last)

    def originals(self) -> Iterator[ArchivedObject]:
        """Yield the originals that count, in the order of their addresses; each is read already.

        Raises:
            ObjectNotFound: It has been deleted.
            UnreadableObject: It is not as the archive wrote it.
        """
        last = ""
        for name, lines in self.contents():
            if name > last and self.shown(name):
                last = name
                yield ArchivedObject(
                    layout.address(self.blob.bucket.name, name), self.blob.bucket.blob(name), None, lines
                )

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and lines of each original, counted or not; all again if an erasure rewrites the object meanwhile.

        Raises:
            ObjectNotFound: It has been deleted.
            UnreadableObject: It is not as the archive wrote it.
        """
        current = self
        while True:
            try:
                yield from current.read()
            except (NotFound, PreconditionFailed):
                current = self._newest()
            else:
                return

    def lines_of(self, name: str) -> bytes:
        """Return the lines of an original; nothing if it has none here. Raise the errors of `originals`."""
        if not self.names.has(name):
            return b""
        current = self
        while True:
            try:
                contents = current.read(*current._metadata.place_of(name))
                return next((lines for original, lines in contents if original == name), b"")
            except (NotFound, PreconditionFailed):
                current = self._newest()

    def at(self, blob: Blob) -> Self:
        """Return it as another generation has it."""
        return dataclasses.replace(self, blob=blob)

    def _newest(self) -> Self:
        blob = self.blob.bucket.blob(self.blob.name)
        with decoding():
            blob.reload()
        return self.at(blob)

    def read(self, start: int = 0, end: int | None = None) -> Iterator[tuple[str, bytes]]:
        """Yield name and lines of each original of the listed generation, or of some of its blocks.

        Raises:
            google.api_core.exceptions.NotFound: It has been deleted.
            google.api_core.exceptions.PreconditionFailed: It has been replaced.
            UnreadableObject: It is not as the archive wrote it.
        """
        try:
            inflated = compacted_file.inflate(self._download(start, end), has_start=start == 0, has_end=end is None)
            for origin, lines in compacted_file.split(inflated):
                yield layout.original_of(self.blob.name, origin), lines
        except _UNREADABLE as error:
            raise UnreadableObject(f"{self.uri}: {error}") from error

    def _download(self, start: int, end: int | None) -> Iterator[bytes]:
        """Yield the stored bytes of a part of the listed generation."""
        stop = self.size if end is None else end
        for first in range(start, stop, _CHUNK_BYTES):
            yield download(self.blob, first, min(first + _CHUNK_BYTES, stop))


type Archived = ArchivedObject | CompactedObject


class ArchiveReader:
    """Lists the objects of an archive.

    Args:
        storage: Client of the archive's project.
        bucket: Name of the bucket.
    """

    def __init__(self, storage: StorageClient, bucket: str) -> None:
        self._bucket = storage.bucket(bucket)

    def objects(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[Archived]:
        """List the objects whose events arrived in a time, so that each event counts once, in the order of addresses.

        A compacted object comes where its first original would. Its other originals may come after later objects.

        Args:
            start: First time of arrival, with a time zone; None for the first of all.
            end: End of the times of arrival, exclusive; None for the last of all.

        Raises:
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
        """
        for hour in self.hours(start, end):
            yield from hour

    def hours(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[list[Archived]]:
        """List the objects of a time, those of each hour together; raise the errors of `objects`."""
        return self._list(layout.PREFIX, start, end, self._counted)

    def stored(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[Archived]:
        """List all that is stored of a time, also what does not count; raise the errors of `objects`."""
        return itertools.chain.from_iterable(self.stored_hours(start, end))

    def stored_hours(self, start: datetime | None = None, end: datetime | None = None) -> Iterator[list[Archived]]:
        """List all that is stored of a time, that of each hour together; raise the errors of `objects`."""
        return self._list(layout.PREFIX, start, end, self._stored)

    def stored_of_hour(self, hour: datetime) -> Iterator[Archived]:
        """List all that is stored of an hour by name, without holding it in memory; raise the errors of `objects`."""
        return map(self._archived, self._blobs(layout.hour_prefix(hour)))

    def stored_of_range(self, names: layout.OriginalsRange) -> Iterator[Archived]:
        """List all originals of a range, and then all compacted objects of its hour; raise the errors of `objects`."""
        prefix = layout.hour_prefix(layout.arrival_time(names.first))
        originals = self._blobs(prefix, names.first, f"{names.last}~")  # The second bound is exclusive.
        return map(self._archived, itertools.chain(originals, self._blobs(layout.compacted_prefix(names.first))))

    def of_day(self, day: date) -> Iterator[Archived]:
        """List the objects whose events arrived on a day, in UTC; raise the errors of `objects`."""
        return itertools.chain.from_iterable(self._list(layout.day_prefix(day), None, None, self._counted))

    def compacted_of(self, *uris: str) -> Iterator[CompactedObject]:
        """List the compacted objects whose ranges have originals, also unfinished ones; raise the errors of `objects`.

        Args:
            uris: Addresses of the originals.
        """
        names_by_prefix: defaultdict[str, list[str]] = defaultdict(list)
        for uri in uris:
            name = uri.removeprefix(layout.address(self._bucket.name, ""))
            with contextlib.suppress(ValueError):  # Another bucket's object: none has the originals of such names.
                names_by_prefix[layout.compacted_prefix(name)].append(name)
        for prefix, originals in names_by_prefix.items():
            for blob in self._blobs(prefix):
                if (names := layout.compacted_range(blob.name)) and any(map(names.has, originals)):
                    yield self._compacted(blob, names)

    def _list(
        self, prefix: str, start: datetime | None, end: datetime | None, choose: "_Choose"
    ) -> Iterator[list[Archived]]:
        first, last = (layout.first_name_at(time) if time else None for time in (start, end))
        blobs = self._blobs(prefix, first, last)
        if last is not None and not layout.is_begin_of_hour(last):  # The hour's compacted objects come after the end.
            blobs = itertools.chain(blobs, self._blobs(layout.compacted_prefix(last)))
        for _, of_hour in itertools.groupby(blobs, key=lambda blob: blob.name.rpartition("/")[0]):
            originals: list[ArchivedObject] = []
            compacted: list[CompactedObject] = []
            for blob in of_hour:
                archived = self._archived(blob)
                if isinstance(archived, CompactedObject):
                    compacted.append(archived)
                else:
                    originals.append(archived)
            chosen = (choose(candidate, originals, first, last) for candidate in compacted)
            yield sorted(itertools.chain(originals, filter(None, chosen)), key=address)

    @staticmethod
    def _stored(
        compacted: CompactedObject, _: Sequence[ArchivedObject], first: str | None, last: str | None
    ) -> CompactedObject | None:
        """Return a compacted object if it has originals of a time."""
        low, high = compacted.names
        is_whole = (first is None or first <= low) and (last is None or high < last)
        if is_whole:
            return compacted
        if (first is not None and high < first) or (last is not None and low >= last):
            return None
        return dataclasses.replace(
            compacted, is_whole=False, shown=lambda name: (first or "") <= name and (last is None or name < last)
        )

    @classmethod
    def _counted(
        cls, compacted: CompactedObject, originals: Sequence[ArchivedObject], first: str | None, last: str | None
    ) -> CompactedObject | None:
        """Return a compacted object if its originals count, without those that are there themselves."""
        chosen = cls._stored(compacted, originals, first, last)
        if chosen is None or not chosen.is_finished:
            return None
        there = frozenset(original.blob.name for original in originals if chosen.names.has(original.blob.name))
        if not there:
            return chosen
        within = chosen.shown
        return dataclasses.replace(chosen, is_whole=False, shown=lambda name: name not in there and within(name))

    def _blobs(self, prefix: str, first: str | None = None, last: str | None = None) -> Iterator[Blob]:
        for blob in self._bucket.list_blobs(prefix=prefix, start_offset=first, end_offset=last, fields=_FIELDS):
            # The emulator of the local stack ignores the bounds. The folders of the console are empty objects.
            is_within = (first is None or first <= blob.name) and (last is None or blob.name < last)
            if is_within and not blob.name.endswith("/"):
                yield blob

    def _archived(self, blob: Blob) -> Archived:
        if names := layout.compacted_range(blob.name):
            return self._compacted(blob, names)
        return ArchivedObject(self._uri(blob), blob, Summary.from_metadata(blob.metadata))

    def _compacted(self, blob: Blob, names: layout.OriginalsRange) -> CompactedObject:
        return CompactedObject(self._uri(blob), blob, names)

    def _uri(self, blob: Blob) -> str:
        return layout.address(self._bucket.name, blob.name)

    def bounds(self, start: datetime, end: datetime) -> tuple[str, str]:
        """Return the bounds of the addresses of all objects whose events arrived in a time; the second is exclusive."""
        first, last = (layout.address(self._bucket.name, layout.first_name_at(time)) for time in (start, end))
        return first, last


type _Choose = Callable[[CompactedObject, Sequence[ArchivedObject], str | None, str | None], CompactedObject | None]


def address(archived: Archived) -> str:
    """Return the address of an object, or of the first original of a compacted one."""
    return archived.first if isinstance(archived, CompactedObject) else archived.uri


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


def _reader_of(blob: Blob) -> ArchiveReader:
    return ArchiveReader(blob.bucket.client, blob.bucket.name)
