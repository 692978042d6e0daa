"""Messages of files, whose lines are envelopes of the archive or plain events."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Self

import msgspec

from functions.archive.envelope import Envelope, decode_line
from functions.core.message import Message, is_smoke_test
from functions.files.id_fields import IdField, NoEventId, WithoutId
from functions.files.identity import Identify
from functions.files.sources import Line, Source


def read_envelope(data: bytes) -> Envelope | None:
    """Return the envelope of a line; None if the line is a plain event, which has no complete envelope."""
    if b'"publish_time"' not in data:  # Parsing plain events a second time would double the cost.
        return None
    try:
        envelope = decode_line(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    has_payload = envelope.payload is not None or envelope.payload_base64 is not None
    return envelope if has_payload and _is_in_utc(envelope.publish_time) else None


def _is_in_utc(time: datetime) -> bool:
    """Return whether a time has a zone, and in UTC a year from 1 to 9999: no other can be encoded."""
    try:
        return time.tzinfo is not None and bool(time.astimezone(UTC))
    except OverflowError:
        return False


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
            schema_version: The version; None for the default of the type.
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
        # If lines have the same id, the views show the content of the last one.
        published = self.now + timedelta(microseconds=line.number)
        return Message(line.data, attributes, content_id, published)


class ReadReport(msgspec.Struct, kw_only=True):
    """The counts of a file's lines since the last report.

    Attributes:
        files: 1 at the end of the file.
        bytes: Bytes as they are stored.
        events: Lines that have become messages.
        smoke_tests: Lines that are events of `sluice smoke`, and are left out.
        without_id: Lines that lack the id that was asked for, and are left out.
        first_without_id: At the end of the file, the first of them.
    """

    files: int = 0
    bytes: int = 0
    events: int = 0
    smoke_tests: int = 0
    without_id: int = 0
    first_without_id: list[str] = []


def read_messages(source: Source, plain: PlainEvents, report: Callable[[ReadReport], object]) -> Iterator[Message]:
    """Yield the messages of a file, line by line.

    Args:
        source: The file.
        plain: Makes messages of its plain events.
        report: Called after some lines, and at the end of the file.

    Raises:
        Unreadable: It is not NDJSON, or cannot be read to its end; names the file and the line.
    """
    since, without_id = ReadReport(), WithoutId()

    def advance(size: int) -> None:
        nonlocal since
        since.bytes = size
        report(since)
        since = ReadReport()

    for line in source.lines(advance):
        if envelope := read_envelope(line.data):
            if is_smoke_test(envelope.event_id):
                since.smoke_tests += 1
                continue
            message = envelope.message()
        else:
            try:
                message = plain(line)
            except NoEventId as error:
                since.without_id += 1
                without_id.add(line, error)
                continue
        since.events += 1
        yield message
    since.files = 1
    since.first_without_id = without_id.first
    report(since)
