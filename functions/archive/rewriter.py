"""Rewrites an object of the archive without some of its lines; only the erasure of a person does it."""

import gzip
from collections.abc import Callable, Collection, Sequence

from google.api_core.exceptions import NotFound, PreconditionFailed
from google.cloud.storage import Blob

from functions.archive.envelope import decode_line
from functions.archive.reader import ArchivedObject, ObjectNotFound, decoding
from functions.archive.summary import Summary

_ATTEMPTS = 5

type Edit = Callable[[bytes, int], Sequence[bytes] | None]
"""Given the NDJSON of an object and its size in bytes as it is stored, returns the lines that stay; None to leave the
object as it is."""


class KeepsChanging(Exception):
    """Raised for an object that others changed during each attempt."""


def rewrite(archived: ArchivedObject, edit: Edit, event_types: Collection[str]) -> None:
    """Replace the lines of an object by those that stay, with a new summary; delete it where none stays.

    Args:
        archived: The object.
        edit: Called with the content, and with a later version if another writer has replaced it meanwhile.
        event_types: The types that the summary counts by name.

    Raises:
        ObjectNotFound: It has been deleted.
        UnreadableObject: It is not gzip, or a line is no envelope, for `edit` or for the summary.
        KeepsChanging: Others changed it during each attempt.
    """
    blob = archived.blob
    try:
        for _ in range(_ATTEMPTS):
            if blob.generation is None:
                blob.reload()
            try:
                _rewrite_once(blob, edit, event_types)
            except (NotFound, PreconditionFailed):  # Another writer has replaced or deleted it.
                blob = blob.bucket.blob(blob.name)
            else:
                return
    except NotFound as error:
        raise ObjectNotFound(archived.uri) from error
    raise KeepsChanging(f"{archived.uri}: others keep changing it")


def _rewrite_once(blob: Blob, edit: Edit, event_types: Collection[str]) -> None:
    stored = blob.download_as_bytes(if_generation_match=blob.generation)
    with decoding():
        lines = edit(gzip.decompress(stored), len(stored))
        summary = Summary.of(map(decode_line, lines or ()), event_types)
    if lines is None:
        return
    if not lines:
        blob.delete(if_generation_match=blob.generation)
        return
    rewritten = blob.bucket.blob(blob.name)
    rewritten.metadata = summary.metadata()
    rewritten.storage_class = blob.storage_class
    rewritten.upload_from_string(
        gzip.compress(b"".join(lines), compresslevel=1),
        content_type=blob.content_type,
        if_generation_match=blob.generation,
    )
