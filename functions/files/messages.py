"""Messages of lines: a line is an envelope of the archive, or a plain event."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Self

import msgspec

from functions.archive import Envelope
from functions.files.id_fields import IdField
from functions.files.identity import Identify
from functions.files.sources import Line
from functions.message import Message

_decode_envelope = msgspec.json.Decoder(Envelope).decode


def read_envelope(data: bytes) -> Envelope | None:
    """Return the envelope that a line is; None: it is no complete one, and so a plain event."""
    if b'"publish_time"' not in data:  # To parse plain events twice would cost as much again.
        return None
    try:
        envelope = _decode_envelope(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    has_payload = envelope.payload is not None or envelope.payload_base64 is not None
    return envelope if has_payload and envelope.publish_time.tzinfo else None


@dataclasses.dataclass(frozen=True, slots=True)
class PlainEvents:
    """Makes messages of plain events. It is given each line once, in the order of its source.

    Attributes:
        now: The time of the whole run, in UTC.
        attributes: Attributes of the messages.
        identify: Gives the events their ids.
    """

    now: datetime
    attributes: dict[str, str]
    identify: Identify

    @classmethod
    def of_version(cls, now: datetime, schema_version: int | None, id_fields: Sequence[IdField]) -> Self:
        """Read events of a version of the contracts.

        Args:
            now: The time of the whole run, in UTC.
            schema_version: The version; None for the newest.
            id_fields: The fields with the ids of events; none where what a line says is its identity.
        """
        attributes = {} if schema_version is None else {"schema_version": str(schema_version)}
        return cls(now, attributes, Identify(id_fields))

    def __call__(self, line: Line) -> Message:
        """Return the message of a line.

        Raises:
            NoEventId: The event lacks a field of its id.
        """
        own, content_id = self.identify(line)
        attributes = self.attributes if own is None else {**self.attributes, "event_id": own}
        # Of several contents under one id, the one of the later line counts.
        published = self.now + timedelta(microseconds=line.number)
        return Message(line.data, attributes, content_id, published)
