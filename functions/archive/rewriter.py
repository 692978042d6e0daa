"""Rewrites objects of the archive without some of their lines; only the erasure of a person does it."""

import gzip
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence

from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Blob

from functions.archive import layout
from functions.archive.compacted_file import CompactedMetadata, CompactedWriter
from functions.archive.envelope import decode_line
from functions.archive.reader import Archived, CompactedObject, ObjectNotFound, arrival_time, decoding, download
from functions.archive.summary import Summary

_ATTEMPTS = 5

_DELETED = 0

type Edit = Callable[[str, bytes, int], Sequence[bytes] | None]
"""Given the address of an original object, its NDJSON and the size in bytes of what stores it, returns the lines that
stay; None to leave them as they are."""


class KeepsChanging(Exception):
    """Raised for an object that others changed during each attempt."""


def rewrite(archived: Archived, edit: Edit, event_types: Collection[str]) -> int | None:
    """Replace the lines of an object by those that stay, with a new summary; delete it where none stays.

    A compaction may have read an original before it is rewritten here: afterwards, its compacted objects have to be
    rewritten as well (`functions.archive.compaction`).

    Args:
        archived: The object.
        edit: Called with the content, and with a later version if another writer has replaced it meanwhile; of a
            compacted object, with that of each original that counts.
        event_types: The types that the summary counts by name.

    Returns:
        The generation that was written, or that an attempt has found after another one had failed, which may have
        written it; 0 if the object was deleted, and None if it stays as it is.

    Raises:
        ObjectNotFound: It has been deleted.
        UnreadableObject: It is not gzip, or a line is no envelope, for `edit` or for the summary.
        KeepsChanging: Others changed it during each attempt.
    """
    blob = archived.blob
    try:
        for attempt in range(_ATTEMPTS):
            if blob.generation is None:
                blob.reload()
            try:
                if isinstance(archived, CompactedObject):
                    generation = _rewrite_compacted(archived.at(blob), edit, event_types)
                else:
                    generation = _rewrite_original(archived.uri, blob, edit, event_types)
                return _generation(blob) if generation is None and attempt else generation
            except (NotFound, PreconditionFailed):  # Another writer has replaced or deleted it.
                blob = blob.bucket.blob(blob.name)
    except NotFound as error:
        raise ObjectNotFound(archived.uri) from error
    raise KeepsChanging(f"{archived.uri}: others keep changing it")


def _rewrite_original(uri: str, blob: Blob, edit: Edit, event_types: Collection[str]) -> int | None:
    stored = download(blob)
    with decoding():
        lines = edit(uri, gzip.decompress(stored), len(stored))
        summary = Summary.of(map(decode_line, lines or ()), event_types)
    if lines is None:
        return None
    if not lines:
        blob.delete(if_generation_match=blob.generation)
        return _DELETED
    rewritten = blob.bucket.blob(blob.name)
    rewritten.metadata = summary.metadata()
    rewritten.custom_time = arrival_time(uri)  # The lifecycle counts from it, not from now.
    rewritten.storage_class = blob.storage_class
    rewritten.upload_from_string(
        gzip.compress(b"".join(lines), compresslevel=1),
        content_type=blob.content_type,
        if_generation_match=blob.generation,
    )
    return _generation(rewritten)


def _generation(blob: Blob) -> int:
    return int(blob.generation)


def _rewrite_compacted(compacted: CompactedObject, edit: Edit, event_types: Collection[str]) -> int | None:
    if all(kept is None for _, _, kept in _edited(compacted, edit)):  # Most have nothing to remove.
        return None
    blob = compacted.blob
    # A compaction that has finished the object meanwhile has changed its metadata only.
    unchanged = {"if_generation_match": blob.generation, "if_metageneration_match": blob.metageneration}
    with tempfile.TemporaryFile() as file:
        writer, summary = CompactedWriter(file), Summary({}, 0)
        for name, ndjson, kept in _edited(compacted, edit):
            lines = ndjson.splitlines(keepends=True) if kept is None else kept
            if lines:
                writer.add(name, lines)
                with decoding():
                    summary += Summary.of(map(decode_line, lines), event_types)
        if not writer.blocks:
            blob.delete(**unchanged)
            return _DELETED
        writer.close()
        rewritten = blob.bucket.blob(blob.name)
        rewritten.metadata = CompactedMetadata(summary, tuple(writer.blocks), compacted.is_finished).metadata()
        rewritten.custom_time = arrival_time(compacted.last)
        rewritten.storage_class = blob.storage_class
        rewritten.upload_from_file(
            file, rewind=True, size=file.tell(), content_type=blob.content_type, checksum="crc32c", **unchanged
        )
        return _generation(rewritten)


def _edited(compacted: CompactedObject, edit: Edit) -> Iterator[tuple[str, bytes, Sequence[bytes] | None]]:
    """Yield name, lines and edited lines of each original."""
    for name, ndjson in compacted.read():
        uri = layout.address(compacted.blob.bucket.name, name)
        with decoding():
            kept = edit(uri, ndjson, compacted.size) if compacted.shown(name) else None
        yield name, ndjson, kept
