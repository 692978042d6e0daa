"""The identity of lines that are in no envelope: an id in the event, or a digest of its content."""

import functools
import hashlib
import sqlite3
from collections.abc import Sequence
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from typing import NamedTuple

import msgspec

from functions.core.dead_letters import EventRejected
from functions.core.decode import decode
from functions.files.id_fields import IdField, event_id
from functions.files.sources import Line

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_MAX_DIGITS = 40
"""Maximum digits of an integer that is encoded as one although it is written with a fraction or an exponent."""


_CACHE_KIB = 64 * 2**10
"""Maximum size of the pages in memory. The rest is in a file: digests come in no order, so each may be on any page."""


def _number(text: str) -> int | Decimal:
    """Return a number such that all spellings of its value are encoded alike: 1, 1.0 and 10e-1."""
    value = Decimal(text)
    if value.adjusted() < _MAX_DIGITS and value == (integer := value.to_integral_value()):
        return int(integer)
    return value.normalize(_EXACT)


_parse = msgspec.json.Decoder(float_hook=_number).decode
_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def bytes_digest(data: bytes) -> str:
    """Return 32 hex digits, the same for the same bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def content_digest(data: bytes) -> str:
    """Return 32 hex digits, the same for all spellings of a JSON object.

    The order of keys, white space, escapes and the spelling of numbers make no difference. The digest of what the
    core does not decode, such as an object with a duplicate key, is that of its bytes.
    """
    try:
        decode(data)
    except EventRejected:
        return bytes_digest(data)
    return bytes_digest(_encode(_parse(data)))


class Occurrences:
    """Counts how often a content occurs in a source, in a temporary file, since contents may exceed the memory.

    Sources are counted one after the other.
    """

    def __init__(self) -> None:
        self._source: str | None = None

    @functools.cached_property
    def _file(self) -> sqlite3.Connection:
        file = sqlite3.connect("")
        file.execute("PRAGMA journal_mode = OFF")
        file.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        file.execute("CREATE TABLE occurrences (digest BLOB PRIMARY KEY, count INTEGER) WITHOUT ROWID")
        return file

    def count(self, source: str, digest: str) -> int:
        """Return how often a content has occurred in a source, this time included."""
        if source != self._source:
            self._file.execute("DELETE FROM occurrences")
            self._source = source
        upsert = "INSERT INTO occurrences VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count"
        [(count,)] = self._file.execute(upsert, (bytes.fromhex(digest),))
        return int(count)


class PlainId(NamedTuple):
    """The identity of a line that is in no envelope.

    Attributes:
        event_id: The id that the event has in its fields; None for none.
        content_id: An id made of the content of the line. If `event_id` is None, equal lines of a source have
            different ones.
    """

    event_id: str | None
    content_id: str

    @property
    def used(self) -> str:
        """The id that the event gets."""
        return self.event_id or self.content_id


class Identify:
    """Gives lines their ids. It must be called once for each line of a run, in the order of its source.

    Args:
        fields: The fields that make up the id of an event; empty to use a digest of its content.
    """

    def __init__(self, fields: Sequence[IdField] = ()) -> None:
        self._fields = fields
        self._occurrences = Occurrences()

    def __call__(self, line: Line) -> PlainId:
        """Return the identity of a line. A line that is no JSON object has no fields, so its digest is used.

        Raises:
            NoEventId: The event lacks a field.
        """
        if self._fields and (own := self._own(line.data)):
            return PlainId(own, f"backfill-{bytes_digest(line.data)}")
        digest = content_digest(line.data)
        count = self._occurrences.count(line.source, digest)
        return PlainId(None, f"backfill-{digest}" if count == 1 else f"backfill-{digest}-{count}")

    def _own(self, data: bytes) -> str | None:
        try:
            event = decode(data)
        except EventRejected:
            return None
        return event_id(self._fields, event)
