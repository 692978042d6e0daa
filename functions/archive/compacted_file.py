"""The content of a compacted object: the lines of many originals, each with its origin, as one gzip file.

The file consists of blocks. Each begins with the first line of an original, and can be decompressed alone: the lines of
one original are read without the rest.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, NamedTuple, Self

from functions.archive import layout
from functions.archive.summary import Summary

CONTENT_TYPE = "application/gzip"

MAX_BYTES = 64 * 2**20
"""Size of a compacted object in bytes from which it takes no further original. Erasing a person from it writes as much
again, and a reader without the offsets of the blocks reads as much for one event."""

_BLOCK_BYTES = 8 * 2**20
"""Size of a block's lines in bytes from which the next original begins another block."""

_MAX_BLOCKS = 128
"""Maximum number of blocks: their offsets have room in an object's metadata, which has 8 KiB."""

_BLOCKS = "block-offsets"
_STATE = "compaction-state"
_FINISHED = "finished"
_UNFINISHED = "unfinished"

_PREFIX = b'{"origin":"'
_GZIP = 31
_RAW_DEFLATE = -15
_INFLATED_AT_ONCE = 2**18


class DamagedLine(ValueError):
    """A line of a compacted object does not name its origin."""


class Block(NamedTuple):
    """A block of a compacted object.

    Attributes:
        time: Minute, second and microsecond of the arrival of its first original.
        offset: Position of its first byte.
    """

    time: str
    offset: int


class CompactedMetadata(NamedTuple):
    """The metadata of a compacted object.

    Attributes:
        summary: Summary of all its events; None where another program has written the object.
        blocks: Its blocks; empty where another program has written it.
        is_finished: Whether its lines count. Until then all originals are there, and count.
    """

    summary: Summary | None
    blocks: tuple[Block, ...] = ()
    is_finished: bool = False

    @classmethod
    def of(cls, metadata: Mapping[str, str] | None) -> Self:
        """Read the metadata of an object."""
        texts = metadata or {}
        blocks = (text.partition(":") for text in texts.get(_BLOCKS, "").split(",") if text)
        parsed = tuple(Block(time, int(offset)) for time, _, offset in blocks)
        return cls(Summary.from_metadata(metadata), parsed, texts.get(_STATE, _FINISHED) == _FINISHED)

    def metadata(self) -> dict[str, str]:
        """Return it as an object's metadata."""
        blocks = ",".join(f"{time}:{offset}" for time, offset in self.blocks)
        state = _FINISHED if self.is_finished else _UNFINISHED
        return {**(self.summary.metadata() if self.summary else {}), _BLOCKS: blocks, _STATE: state}

    def place_of(self, name: str) -> tuple[int, int | None]:
        """Return where the lines of an original are: first byte and end, exclusive; None for the end of all."""
        time = _time_of(name)
        start = max((offset for first, offset in self.blocks if first < time), default=0)
        return start, min((offset for first, offset in self.blocks if first > time), default=None)


def _time_of(name: str) -> str:
    return f"{layout.arrival_time(name):%M%S.%f}"


class CompactedWriter:
    """Writes the content of a compacted object.

    Args:
        file: Where it is written.

    Attributes:
        blocks: The blocks so far.
        names: Names of the first and the last original; None without any.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._compress = zlib.compressobj(wbits=_GZIP)
        self._block_bytes = 0
        self.blocks: list[Block] = []
        self.names: layout.OriginalsRange | None = None

    @property
    def is_full(self) -> bool:
        """Return whether the object should take no further original."""
        return self._file.tell() >= MAX_BYTES or (len(self.blocks) == _MAX_BLOCKS and self._is_block_full)

    @property
    def _is_block_full(self) -> bool:
        return self._block_bytes >= _BLOCK_BYTES

    def add(self, name: str, lines: Iterable[bytes]) -> None:
        """Add the lines of an original; originals come in the order of their names."""
        if not self.blocks or (self._is_block_full and len(self.blocks) < _MAX_BLOCKS):
            if self.blocks:
                self._file.write(self._compress.flush(zlib.Z_FULL_FLUSH))
            self.blocks.append(Block(_time_of(name), self._file.tell()))
            self._block_bytes = 0
        prefix = _PREFIX + layout.origin_of(name).encode() + b'",'
        stripped = (line.strip() for line in lines)
        data = b"".join(prefix + line[1:] + b"\n" for line in stripped if line)
        self._block_bytes += len(data)
        self._file.write(self._compress.compress(data))
        self.names = layout.OriginalsRange(self.names.first if self.names else name, name)

    def close(self) -> None:
        """Write the end."""
        self._file.write(self._compress.flush())


def inflate(stored: Iterable[bytes], *, has_start: bool, has_end: bool) -> Iterator[bytes]:
    """Yield the decompressed bytes of some blocks.

    Args:
        stored: Their bytes.
        has_start: Whether they begin with the first block.
        has_end: Whether they end with the last one.

    Raises:
        zlib.error: The bytes are damaged.
        EOFError: The last block ends too early.
    """
    inflated = zlib.decompressobj(_GZIP if has_start else _RAW_DEFLATE)
    for chunk in stored:
        for start in range(0, len(chunk), _INFLATED_AT_ONCE):
            yield inflated.decompress(chunk[start : start + _INFLATED_AT_ONCE])
    if has_end and not inflated.eof:
        raise EOFError("the compacted object ends within a block")


def split(ndjson: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the origin of each original, with its lines as they were in it.

    Raises:
        DamagedLine: A line does not name its origin.
    """
    origin, lines = b"", list[bytes]()
    for line in _lines(ndjson):
        end = line.find(b'",', len(_PREFIX))
        if not line.startswith(_PREFIX) or end < 0:
            raise DamagedLine('a line of a compacted object begins with {"origin":"..."')
        if (of_line := line[len(_PREFIX) : end]) != origin:
            if lines:
                yield origin.decode(), b"".join(lines)
            origin, lines = of_line, []
        lines += (b"{", line[end + 2 :], b"\n")
    if lines:
        yield origin.decode(), b"".join(lines)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest
