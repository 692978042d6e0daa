"""The lines of archive objects: envelopes, each with a message and all that its processing needs."""

from datetime import datetime

import msgspec

from functions.core.message import Message


class Envelope(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """A line of an archive object: a message with all that its processing needs, so that it can be repeated exactly.

    docs/archive.md describes it for other readers and writers.

    Attributes:
        origin: The object that had the line before the hour was compacted; its name without folder and ending. None
            in that object itself.
        event_id: The event's identity.
        event_type: The type that the payload names, also an unknown one; None if it names none.
        message_id: Pub/Sub's id of the message.
        publish_time: When Pub/Sub accepted the message.
        attributes: The message's attributes.
        ordering_key: The producer's ordering key; empty without one.
        payload: The payload as text; its UTF-8 is the original bytes.
        payload_base64: The payload, if it is not UTF-8; then `payload` is None.
    """

    origin: str | None = None
    event_id: str
    event_type: str | None = None
    message_id: str
    publish_time: datetime
    attributes: dict[str, str]
    ordering_key: str = ""
    payload: str | None = None
    payload_base64: bytes | None = None

    @classmethod
    def from_message(cls, message: Message, event_type: str | None) -> "Envelope":
        """Put a message into its envelope."""
        try:
            payload, payload_base64 = message.data.decode(), None
        except UnicodeDecodeError:
            payload, payload_base64 = None, message.data
        return cls(
            event_id=message.event_id,
            event_type=event_type,
            message_id=message.message_id,
            publish_time=message.publish_time,
            attributes=message.attributes,
            ordering_key=message.ordering_key,
            payload=payload,
            payload_base64=payload_base64,
        )

    def message(self) -> Message:
        """Return the message as it was, without the number of its delivery.

        An envelope of another program may have another `event_id` than its message: it becomes the attribute.
        """
        data = self.payload_base64 if self.payload is None else self.payload.encode()
        message = Message(
            data=data or b"",
            attributes=self.attributes,
            message_id=self.message_id,
            publish_time=self.publish_time,
            ordering_key=self.ordering_key,
        )
        if self.event_id and self.event_id != message.event_id:
            return msgspec.structs.replace(message, attributes={**self.attributes, "event_id": self.event_id})
        return message


encode_lines = msgspec.json.Encoder().encode_lines

_decoder = msgspec.json.Decoder(Envelope)


def decode_line(line: bytes) -> Envelope:
    """Return the envelope of a line.

    Raises:
        msgspec.DecodeError: The line is no envelope.
    """
    return _decoder.decode(line)


def read_envelopes(ndjson: bytes) -> list[Envelope]:
    """Return the envelopes of an archive object's decompressed bytes.

    Raises:
        msgspec.DecodeError: A line is no envelope.
    """
    return _decoder.decode_lines(ndjson)
