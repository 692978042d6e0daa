"""Compacts an hour of the archive: its many small objects become few large ones.

A compacted object is written while all its originals are there, and none of its lines counts. It is read back and
compared, and its originals are listed again, and then the hour's compacted objects: only if every original is still of
the generation that was read, and no other compacted object has come, the object is marked as finished. From then on the
lines of those originals count that are not there themselves; so the originals can be deleted one by one.

An erasure first rewrites the original, and then looks for compacted objects of it. A compaction first writes the
compacted object, and then looks at the original. So one of the two always sees what the other has done.

Whatever a run meets that it does not expect, it leaves the hour to the next run, which deletes compacted objects that
are not finished, deletes originals that a finished one has, and compacts the rest.
"""

import base64
import contextlib
import dataclasses
import gzip
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import IO

import google_crc32c
from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Blob
from google.cloud.storage import Client as StorageClient

from functions.archive import compacted_file, layout
from functions.archive.compacted_file import CompactedMetadata, CompactedWriter
from functions.archive.envelope import read_envelopes
from functions.archive.reader import (
    ArchivedObject,
    ArchiveReader,
    CompactedObject,
    UnreadableObject,
    decoding,
    download,
)
from functions.archive.summary import Summary
from functions.system import SYSTEM, Pool, System

THREADS = 24
"""Number of threads, each of which takes a connection: enough for one core where a request takes 60 ms."""

MAX_LISTED = 100_000
"""Maximum number of the originals that are listed at once: they take 200 MB of memory. An hour may have more."""

_READ_OBJECTS = 64
_READ_BYTES = 8 * 2**20
"""Maximum number and stored size in bytes of the originals that are in memory at once."""

_HASH_BYTES = 2**20


class HourChanged(Exception):
    """Raised where another run, or an erasure, changes an hour meanwhile, or a run is over; the next run continues."""


class NotVerified(Exception):
    """Raised where a compacted object does not have what its originals have; they stay."""


@dataclasses.dataclass(slots=True)
class Compacted:
    """Counts of what was compacted.

    Attributes:
        originals: Number of original objects that were deleted.
        objects: Number of compacted objects that were written.
        events: Number of events in them.
        bytes: Their size in bytes.
    """

    originals: int = 0
    objects: int = 0
    events: int = 0
    bytes: int = 0


class HourCompaction:
    """Compacts the hours of an archive.

    Args:
        storage: Client of the archive's project.
        bucket: Name of the bucket.
        event_types: The types that summaries count by name.
        system: The machine.
    """

    def __init__(
        self, storage: StorageClient, bucket: str, event_types: Collection[str], system: System = SYSTEM
    ) -> None:
        self._reader = ArchiveReader(storage, bucket)
        self._bucket = storage.bucket(bucket)
        self._event_types = event_types
        self._system = system
        self._done = Compacted()

    def __call__(self, hour: datetime, is_over: Callable[[], bool] = lambda: False) -> Compacted:
        """Compact all objects that arrived in an hour.

        Args:
            hour: The begin of the hour. A reconciliation has found it complete.
            is_over: Returns whether to stop; then the current compacted object is not written.

        Raises:
            HourChanged: The rest of the hour is left to the next run.
            NotVerified: A compacted object does not have what its originals have.
            UnreadableObject: An object is not as the archive wrote it.
            google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected a request or did not answer.
        """
        self._done = Compacted()
        with self._system.pool(THREADS, "compaction") as threads:
            while self._compact_listed(hour, threads, is_over):
                pass
        return self._done

    def _compact_listed(self, hour: datetime, threads: Pool, is_over: Callable[[], bool]) -> bool:
        """Compact the originals that are listed at once; return whether the hour may have more."""
        originals, compacted = self._list(hour)
        is_cut = len(originals) == MAX_LISTED
        finished = {candidate.blob.name for candidate in compacted if candidate.is_finished}
        for candidate in compacted:
            if candidate.is_finished:
                originals = self._delete_copied(candidate, originals, threads)
            else:
                _delete(candidate.blob)
        if len(originals) == 1 and not finished:
            return False
        rest = iter(originals)
        while written := self._write(rest, threads, is_over):
            self._finish(*written, finished)
            finished.add(written[0].name)
            self._delete_all(written[1], threads)
        return is_cut

    def _list(self, hour: datetime) -> tuple[list[ArchivedObject], list[CompactedObject]]:
        """Return the first originals of an hour, without other programs' objects, and all compacted objects.

        There may be more originals if there are `MAX_LISTED`.
        """
        originals: list[ArchivedObject] = []
        compacted: list[CompactedObject] = []
        for listed in self._reader.stored_of_hour(hour):
            if isinstance(listed, CompactedObject):
                compacted.append(listed)
            elif layout.is_original(listed.blob.name):
                originals.append(listed)
                if len(originals) == MAX_LISTED:  # The compacted objects come after the rest.
                    names = layout.OriginalsRange(listed.blob.name, listed.blob.name)
                    return originals, [
                        other for other in self._reader.stored_of_range(names) if isinstance(other, CompactedObject)
                    ]
        return originals, compacted

    def _write(
        self, originals: Iterator[ArchivedObject], threads: Pool, is_over: Callable[[], bool]
    ) -> tuple[Blob, list[ArchivedObject]] | None:
        """Write the next compacted object, which is not finished; None where no original is left.

        Returns:
            The object, and its originals.
        """
        written: list[ArchivedObject] = []
        expected = Summary({}, 0)
        with tempfile.TemporaryFile() as file:
            writer = CompactedWriter(file)
            for batch in _batches(originals):
                if is_over():
                    raise HourChanged
                for original, ndjson in zip(batch, threads.map(_ndjson, batch), strict=True):
                    expected += original.summary or self._summary(original.blob.name, ndjson)
                    writer.add(original.blob.name, ndjson.split(b"\n"))
                written += batch
                if writer.is_full:
                    break
            if writer.names is None:
                return None
            writer.close()
            blob = self._bucket.blob(layout.compacted_name(writer.names))
            blob.metadata = CompactedMetadata(expected, tuple(writer.blocks)).metadata()
            blob.custom_time = layout.arrival_time(writer.names.last)  # The lifecycle counts from it, not from now.
            checksum = _crc32c(file)
            with _unchanged():
                blob.upload_from_file(
                    file,
                    rewind=True,
                    size=file.tell(),
                    content_type=compacted_file.CONTENT_TYPE,
                    if_generation_match=0,
                    checksum="crc32c",
                )
        if blob.crc32c != checksum:
            raise NotVerified(
                f"{blob.name}: its CRC32C is {blob.crc32c} in Cloud Storage; that of its content is {checksum}"
            )
        return blob, written

    def _finish(self, blob: Blob, written: Sequence[ArchivedObject], finished: Collection[str]) -> None:
        """Compare a compacted object with its originals, and let its lines count; delete it if others interfere."""
        names = [original.blob.name for original in written]
        self._verify(blob, names)
        changed, is_alone = {(original.blob.name, original.blob.generation) for original in written}, True
        for listed in self._reader.stored_of_range(layout.OriginalsRange(names[0], names[-1])):
            if isinstance(listed, CompactedObject):
                is_alone = is_alone and listed.blob.name in {blob.name, *finished}
            else:
                changed.discard((listed.blob.name, listed.blob.generation))
        if not is_alone or changed:
            _delete(blob)
            raise HourChanged
        metadata = CompactedMetadata.of(blob.metadata)._replace(is_finished=True)
        blob.metadata = metadata.metadata()
        with _unchanged():
            blob.patch(if_generation_match=blob.generation, if_metageneration_match=blob.metageneration)
        self._done.objects += 1
        self._done.bytes += blob.size
        self._done.events += metadata.summary.events if metadata.summary else 0

    def _verify(self, blob: Blob, names: list[str]) -> None:
        """Read a compacted object as all readers do, and compare it with the sum of its originals."""
        compacted = CompactedObject("", blob, layout.OriginalsRange(names[0], names[-1]))
        expected, actual = CompactedMetadata.of(blob.metadata).summary, Summary({}, 0)
        read = []
        with _unchanged():
            for name, ndjson in compacted.read():
                read.append(name)
                actual += self._summary(name, ndjson)
        if expected is None or read != names or (actual.events, actual.digest) != (expected.events, expected.digest):
            _delete(blob)
            raise NotVerified(
                f"{blob.name}: read back are {actual} of {len(read)} originals; {len(names)} have {expected}"
            )

    def _summary(self, name: str, ndjson: bytes) -> Summary:
        with _reading(name):
            return Summary.of(read_envelopes(ndjson), self._event_types)

    def _delete_copied(
        self, compacted: CompactedObject, originals: Sequence[ArchivedObject], threads: Pool
    ) -> list[ArchivedObject]:
        """Delete the originals that a finished compacted object has; return the others."""
        if not any(compacted.names.has(original.blob.name) for original in originals):
            return list(originals)
        copied = {name for name, _ in compacted.contents()}
        self._delete_all([original for original in originals if original.blob.name in copied], threads)
        return [original for original in originals if original.blob.name not in copied]

    def _delete_all(self, originals: Sequence[ArchivedObject], threads: Pool) -> None:
        self._done.originals += sum(threads.map(lambda original: _delete(original.blob), originals))


def _ndjson(original: ArchivedObject) -> bytes:
    with _reading(original.blob.name), _unchanged():
        return gzip.decompress(download(original.blob))


def _delete(blob: Blob) -> bool:
    """Delete an object as it was listed or written; return False where it has changed or is gone."""
    unchanged = {"if_generation_match": blob.generation, "if_metageneration_match": blob.metageneration}
    try:
        blob.delete(**unchanged)
    except (NotFound, PreconditionFailed):
        return False
    return True


@contextlib.contextmanager
def _reading(name: str) -> Iterator[None]:
    """Report what is wrong with the content of an object, with its name.

    Raises:
        UnreadableObject: The content is not gzip, or a line is no envelope.
    """
    try:
        with decoding():
            yield
    except UnreadableObject as error:
        raise UnreadableObject(f"{name}: {error}") from error


@contextlib.contextmanager
def _unchanged() -> Iterator[None]:
    """Let a request fail that meets another generation than expected.

    Raises:
        HourChanged: It does.
    """
    try:
        yield
    except (NotFound, PreconditionFailed) as error:
        raise HourChanged(str(error)) from error


def _batches(originals: Iterator[ArchivedObject]) -> Iterator[list[ArchivedObject]]:
    """Yield the originals that are read at once; takes no more of them than it yields."""
    batch: list[ArchivedObject] = []
    for original in originals:
        batch.append(original)
        if len(batch) == _READ_OBJECTS or sum(read.size for read in batch) >= _READ_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _crc32c(file: IO[bytes]) -> str:
    """Return the checksum of a file as Cloud Storage has it."""
    file.seek(0)
    checksum = 0
    while part := file.read(_HASH_BYTES):
        checksum = google_crc32c.extend(checksum, part)
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
