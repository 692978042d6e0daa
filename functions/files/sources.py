"""Sources of events: NDJSON in files and in Cloud Storage, compressed or not, read line by line."""

import codecs
import contextlib
import dataclasses
import functools
import glob
import gzip
import io
import json
import os
import pathlib
import re
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import BinaryIO, NamedTuple, NoReturn, Protocol, cast

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Client as StorageClient

from functions.clients import open_blob

MAX_LINE_BYTES = 64 * 2**20
"""Maximum size of a line: above the envelope of any message, which has 10 MB
(https://cloud.google.com/pubsub/quotas#resource_limits), and as JSON six times as much at worst. It bounds the memory
where a file has no line breaks at all."""

_WHITE_SPACE = b" \t\r\n"  # https://www.rfc-editor.org/rfc/rfc8259#section-2

_GZIP = b"\x1f\x8b"
_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
"""Byte order marks of other encodings. That of UTF-32-LE begins with that of UTF-16-LE."""

_FORMATS = {
    b"Obj\x01": "Avro",
    b"PAR1": "Parquet",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"PK\x03\x04": "ZIP",
}
"""Formats by the first bytes of a file, none of which is NDJSON."""

_HEAD_BYTES = 8_000
_BUFFER_BYTES = 2**20
_CLOUD_STORAGE = "gs://"

_WILDCARDS = "*?["
"""Characters that make a name a glob, of files and of objects alike."""


class Unreadable(Exception):
    """A source does not exist or cannot be read; names it and says why."""


class Line(NamedTuple):
    """One line of a source that is not empty.

    Attributes:
        source: Name of the source.
        number: Of the line, from 1; empty lines count.
        data: Without the white space around it, and without a byte order mark.
        origin: Any reference of its source, which the result for the line is reported with.
    """

    source: str
    number: int
    data: bytes
    origin: object = None


class Lines(Protocol):
    """A source of lines, such as `Source`."""

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        """Yield all lines.

        Args:
            advance: Called now and then with how much was read since the last call.

        Raises:
            Unreadable: The source cannot be read any further.
        """


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Source:
    """A file or an object.

    Attributes:
        name: Path, or `gs://BUCKET/OBJECT`.
        size: Bytes, as they are stored.
        open: Opens them, as they are stored.
    """

    name: str
    size: int = dataclasses.field(compare=False)
    open: Callable[[], BinaryIO] = dataclasses.field(compare=False, repr=False)

    def lines(self, advance: Callable[[int], object] = lambda _: None) -> Generator[Line]:
        """Yield all lines that are not empty; decompressed where the content is gzip, whatever the name says.

        Args:
            advance: Called now and then with the number of stored bytes that were read since the last call.

        Raises:
            Unreadable: It is not NDJSON, cannot be read to its end, or a line is longer than `MAX_LINE_BYTES`.
        """
        reported = number = 0
        with _reading(self.name, lambda: f"after line {number}: " if number else ""), self.open() as opened:
            stored = io.BufferedReader(cast("io.RawIOBase", opened), _BUFFER_BYTES)
            text: io.BufferedReader[io.RawIOBase] | gzip.GzipFile = stored
            if stored.peek(len(_GZIP)).startswith(_GZIP):
                text = gzip.GzipFile(fileobj=stored)
            if problem := _other_format(text.peek(_HEAD_BYTES)[:_HEAD_BYTES]):
                raise Unreadable(f"{self.name}: {problem}")
            for number, line in enumerate(iter(functools.partial(text.readline, MAX_LINE_BYTES), b""), start=1):
                if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                    raise Unreadable(
                        f"{self.name}: line {number} has more than {MAX_LINE_BYTES} bytes; is this NDJSON?"
                    )
                if number % 1000 == 0 and stored.seekable():  # A pipe does not know how far it is.
                    advance(stored.tell() - reported)
                    reported = stored.tell()
                data = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if data := data.strip(_WHITE_SPACE):
                    yield Line(self.name, number, data)
            advance(self.size - reported)

    def check(self) -> None:
        """Read the first byte, except of a pipe, which would lose it.

        Raises:
            Unreadable: It cannot be read.
        """
        with _reading(self.name), self.open() as opened:
            if opened.seekable():
                opened.read(1)


def _other_format(head: bytes) -> str | None:
    """Return why a file that begins so is not NDJSON, and what to do; None if it may be NDJSON."""
    for mark, name in _FORMATS.items():
        if head.startswith(mark):
            return f"is {name}; convert it to NDJSON, which may be compressed with gzip"
    if _is_other_than_utf8(head):
        return "is not in UTF-8, which NDJSON has to be; is it UTF-16, or no text at all?"
    text = head.removeprefix(codecs.BOM_UTF8).lstrip(_WHITE_SPACE)
    first, *more = text.split(b"\n", 1)
    if first.startswith(b"["):
        return "is a JSON array; write one event a line: jq -c '.[]'"
    if (first.rstrip(_WHITE_SPACE) == b"{" and more) or _has_line_breaks(text):
        return "is indented JSON; write one event a line: jq -c ."
    if first and not first.startswith(b"{"):
        # The content may be personal data, and the message may reach a log: only its position is reported.
        return (
            f"is not NDJSON: byte {len(head) - len(text)} begins a line that is no JSON object, expected {{; is it CSV?"
        )
    return None


def _has_line_breaks(text: bytes) -> bool:
    """Return whether the first JSON value is written in several lines."""
    decoded = text.decode(errors="ignore")
    try:
        _, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        return False
    return "\n" in decoded[:end]


def _is_other_than_utf8(head: bytes) -> bool:
    """Return whether a file begins as no NDJSON does; a few NULs may be those of one broken line.

    UTF-16 has a NUL in each ASCII character, so at least in all that JSON itself consists of.
    """
    return head.startswith(_OTHER_MARKS) or head.count(0) > len(head) / 10


def find(names: Sequence[str], storage: Callable[[], StorageClient]) -> list[Source]:
    """Return the sources that names stand for, sorted by name; each once, however many of the names stand for it.

    Args:
        names: Files; folders, with all files below them but hidden ones; globs; and `gs://BUCKET/PREFIX`, all objects
            whose names begin so, or match a glob
            (https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob).
        storage: Makes a client; called only where it is needed.

    Raises:
        Unreadable: A name stands for nothing, or for what cannot be read.
    """
    sources: dict[str, Source] = {}
    for name in names:
        all_of_them = sorted(matching(name, storage))
        # Who may read one object of a bucket may read the others; each look would cost a request.
        for source in all_of_them[:1] if is_remote(name) else all_of_them:
            source.check()
        for source in all_of_them:
            sources.setdefault(canonical(source.name), source)
    return sorted(sources.values())


def canonical(name: str) -> str:
    """Return the one name of a file or an object that may have several: an absolute path without links."""
    return name if is_remote(name) else os.path.realpath(name)


def _files(name: str) -> Iterator[Source]:
    names = [name] if pathlib.Path(name).exists() else glob.glob(name, recursive=True)  # noqa: PTH207 - may be absolute
    for path in map(pathlib.Path, names):
        for file in _below(path) if path.is_dir() else (path,):
            yield Source(str(file), file.stat().st_size, functools.partial(io.FileIO, file))


def _below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for parent, folders, files in folder.walk(on_error=_fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (parent / name for name in files if not name.startswith("."))


def _fail(error: OSError) -> NoReturn:
    raise error


def _objects(name: str, storage: StorageClient) -> Iterator[Source]:
    bucket, chosen, _ = _parse(name)
    return find_objects(bucket, storage, **chosen)


def _parse(name: str) -> tuple[str, dict[str, str], str]:
    """Return the bucket of a remote name, how to list its objects, and the prefix that all of them have."""
    bucket, _, prefix = name.removeprefix(_CLOUD_STORAGE).partition("/")
    if any(character in prefix for character in _WILDCARDS):
        return bucket, {"match_glob": prefix}, re.split(r"[*?\[{\\]", prefix, maxsplit=1)[0]
    return bucket, {"prefix": prefix}, prefix


def find_objects(bucket: str, storage: StorageClient, **chosen: str) -> Iterator[Source]:
    """Yield the objects of a bucket that Cloud Storage finds by `prefix`, `match_glob` and `delimiter`, as sources."""
    for blob in storage.list_blobs(bucket, **chosen):
        if not blob.name.endswith("/"):  # The folders of the console are empty objects.
            yield Source(
                f"{_CLOUD_STORAGE}{bucket}/{blob.name}", blob.size, functools.partial(open_blob, blob, blob.size)
            )


class SourceListing(NamedTuple):
    """A part of what a name stands for, which is listed at once.

    Attributes:
        name: The name, as `find` takes it.
        folder: Prefix of the names of the part's objects; empty for files.
        delimiter: `/` for the objects of the folder itself; empty for those of all folders below it, too.
    """

    name: str
    folder: str = ""
    delimiter: str = ""

    def sources(self, storage: Callable[[], StorageClient]) -> Iterator[Source]:
        """Yield all sources of the part.

        Raises:
            Unreadable: They cannot be listed.
        """
        with _reading(self.name):
            if not is_remote(self.name):
                yield from _files(self.name)
                return
            bucket, chosen, _ = _parse(self.name)
            chosen["prefix"] = self.folder
            if self.delimiter:
                chosen["delimiter"] = self.delimiter
            yield from find_objects(bucket, storage(), **chosen)


def split(name: str, storage: Callable[[], StorageClient]) -> Iterator[SourceListing]:
    """Divide what a name stands for by folders, two levels deep, so that others list them at the same time.

    The archive has a folder for each day, and in it one for each hour.

    Raises:
        Unreadable: The folders cannot be listed.
    """
    if not is_remote(name):
        yield SourceListing(name)
        return
    bucket, _, begin = _parse(name)
    with _reading(name):
        yield from _split(name, bucket, begin, storage(), levels=2)


def _split(name: str, bucket: str, folder: str, storage: StorageClient, levels: int) -> Iterator[SourceListing]:
    if levels == 0:
        yield SourceListing(name, folder)
        return
    listing = storage.list_blobs(bucket, prefix=folder, delimiter="/", fields="prefixes,nextPageToken")
    for _ in listing.pages:
        pass
    yield SourceListing(name, folder, "/")
    for below in sorted(listing.prefixes):
        yield from _split(name, bucket, below, storage, levels - 1)


def is_remote(name: str) -> bool:
    """Return whether a name stands for objects of Cloud Storage."""
    return name.startswith(_CLOUD_STORAGE)


def check(name: str, storage: Callable[[], StorageClient]) -> None:
    """Check that a name stands for something that workers can read, by its first source.

    Raises:
        Unreadable: It does not, or it is a pipe, which only one process can read, and only once.
    """
    path = pathlib.Path(name)
    if not is_remote(name) and path.exists() and not path.is_dir() and not path.is_file():
        raise Unreadable(f"{name}: is neither a file nor a folder; write its output into a file first")
    next(matching(name, storage)).check()


def matching(name: str, storage: Callable[[], StorageClient]) -> Iterator[Source]:
    """Yield what a name stands for, at least one source, in no order.

    Raises:
        Unreadable: The name stands for nothing, or it cannot be listed.
    """
    is_any = False
    with _reading(name):
        for source in _objects(name, storage()) if is_remote(name) else _files(name):
            is_any = True
            yield source
    if not is_any:
        raise Unreadable(f"{name}: no file, folder or object has this name")


def source(name: str, size: int, storage: Callable[[], StorageClient]) -> Source:
    """Return the source that was found under a name with a size."""
    if not is_remote(name):
        return Source(name, size, functools.partial(io.FileIO, name))
    bucket, _, path = name.removeprefix(_CLOUD_STORAGE).partition("/")
    blob = storage().bucket(bucket).blob(path)
    return Source(name, size, functools.partial(open_blob, blob, size))


@contextlib.contextmanager
def _reading(name: str, place: Callable[[], str] = str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, GoogleAPIError, GoogleAuthError) as error:
        raise Unreadable(f"{name}: {place()}{str(error) or type(error).__name__}") from error
