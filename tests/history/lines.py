"""The lines of archive objects and load files, as far as the invariants need them."""

import collections
import gzip
import hashlib

import msgspec

from functions.archive.pending import PREFIX as LOAD_FILES


class _ArchiveLine(msgspec.Struct):
    event_id: str
    payload: str | None = None
    payload_base64: bytes | None = None


class _Origin(msgspec.Struct):
    event_id: str = ""
    archive_uri: str = ""


class _LoadLine(_Origin):
    """A line of a load file: a dead letter, or a row, whose origin is in `ingest`."""

    ingest: _Origin | None = None


_decode_archive = msgspec.json.Decoder(_ArchiveLine).decode_lines
_decode_load = msgspec.json.Decoder(_LoadLine).decode_lines


def digest(payload: bytes) -> str:
    """Return the digest by which payloads are compared: those of a soak do not fit into memory."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()


def is_load_file(uri: str) -> bool:
    """Return whether an address is that of a load file, and not of an archive object."""
    return f"/{LOAD_FILES}" in uri


def archived_payloads(data: bytes) -> dict[str, set[str]]:
    """Return the digests of the payloads of an archive object, which is compressed with gzip, by event id."""
    payloads: dict[str, set[str]] = collections.defaultdict(set)
    for line in _decode_archive(gzip.decompress(data)):
        payload = (line.payload_base64 or b"") if line.payload is None else line.payload.encode()
        payloads[line.event_id].add(digest(payload))
    return payloads


def named_objects(data: bytes) -> dict[str, str]:
    """Return the archive object that the lines of a load file, which is compressed with gzip, name by event id."""
    origins = (line.ingest or line for line in _decode_load(gzip.decompress(data)))
    return {origin.event_id: origin.archive_uri for origin in origins}
