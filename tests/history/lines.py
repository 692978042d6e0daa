"""The lines of archive objects and load files, as far as the invariants need them."""

import collections
import gzip
import hashlib
from collections.abc import Collection, Mapping

import msgspec

from functions.archive import layout
from functions.archive.pending import PREFIX as LOAD_FILES


class _ArchiveLine(msgspec.Struct):
    event_id: str
    payload: str | None = None
    payload_base64: bytes | None = None


class _Ingest(msgspec.Struct):
    event_id: str


class _LoadLine(msgspec.Struct):
    """A line of a load file: a row, or a dead letter, which has no `ingest`."""

    event_id: str | None = None
    ingest: _Ingest | None = None


_decode_archive = msgspec.json.Decoder(_ArchiveLine).decode_lines
_decode_load = msgspec.json.Decoder(_LoadLine).decode_lines


def digest(payload: bytes) -> str:
    """Return the digest by which payloads are compared: those of a soak do not fit into memory."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()


def is_load_file(uri: str) -> bool:
    """Return whether an address is that of a load file, and not of an archive object."""
    return f"/{LOAD_FILES}" in uri


def payloads_by_event(name: str, data: bytes) -> Mapping[str, Collection[str]]:
    """Return the digests of the payloads of an archive object by event id; of a load file, the event ids only.

    Args:
        name: Name of the object.
        data: Its content, compressed with gzip.
    """
    ndjson = gzip.decompress(data)
    if not name.startswith(layout.PREFIX):
        return {line.ingest.event_id if line.ingest else line.event_id or "": () for line in _decode_load(ndjson)}
    payloads: dict[str, set[str]] = collections.defaultdict(set)
    for line in _decode_archive(ndjson):
        data = (line.payload_base64 or b"") if line.payload is None else line.payload.encode()
        payloads[line.event_id].add(digest(data))
    return payloads
