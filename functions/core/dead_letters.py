"""Dead letters: messages that could not become rows, and the reasons."""

import dataclasses
import enum
import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from functions.core.json_path import generalize
from functions.core.message import MAX_EVENT_BYTES, Message

_encode = msgspec.json.Encoder().encode

TABLE = "dead_letters"

MAX_ERRORS = 20
"""Maximum number of errors in a dead letter. A long array of wrong items has many."""

_MAX_TEXT = 500


class Stage(enum.StrEnum):
    """The stage that rejected the event: of the pipeline, or the insert into the warehouse."""

    DECODE = "decode"
    CONTRACT = "contract"
    ENRICH = "enrich"
    TIME_BOUNDS = "time_bounds"
    WAREHOUSE = "warehouse"


class Violation(NamedTuple):
    """A broken rule of an event.

    Attributes:
        path: The JSON path into the payload (`$.items[0].price`) or `attributes.NAME`.
        rule: The broken rule, in JSON Schema's own words where it has one (`maximum`, `required`).
        message: The explanation for people.
    """

    path: str
    rule: str
    message: str


class KnownNames(NamedTuple):
    """The names that contracts have; any other name is the producer's text.

    Attributes:
        event_types: All event types.
        fields: All fields, nested ones too.
    """

    event_types: Collection[str]
    fields: Collection[str]


class EventRejected(Exception):
    """Raised when a stage rejects an event."""

    def __init__(self, stage: Stage, violations: Sequence[Violation]) -> None:
        super().__init__(stage, violations)
        self.stage = stage
        self.violations = violations


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not become a row.

    Attributes:
        message: The message, with its original bytes.
        stage: The stage that rejected it.
        errors: The reasons, at least one, at most `MAX_ERRORS`.
        failed_at: The time, with a time zone.
        code_version: The code that rejected it.
        event_type: The type in the payload, known or not; None without any.
        schema_version: The version it was checked against, or what its attribute asked for.
        known_names: The names of the contracts; None where all names are those of a table.
    """

    message: Message
    stage: Stage
    errors: Sequence[Violation]
    failed_at: datetime
    code_version: str
    event_type: str | None = None
    schema_version: str | None = None
    known_names: KnownNames | None = None

    table = TABLE

    @property
    def insert_id(self) -> str:
        """The id by which BigQuery recognizes a repeated row."""
        return self.content_digest

    @property
    def content_digest(self) -> str:
        """Digest of the event id and the payload."""
        return content_digest(self.message)

    @property
    def fingerprint(self) -> str:
        """16 hex digits, the same for the same cause: stage, type, and the rules broken at generalized places.

        No text of the producer's is part of it: all unknown types have one fingerprint.
        """
        event_type = self.event_type or ""
        if self.known_names and event_type not in self.known_names.event_types:
            event_type = ""
        causes = sorted({f"{self._generalize(path)} {rule}" for path, rule, _ in self.errors})
        text = "\n".join((self.stage, event_type, *causes))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def place(self) -> str:
        """The path of the first error, generalized as in the fingerprint; at most 500 characters."""
        place = self._generalize(self.errors[0].path)
        return place if len(place) <= _MAX_TEXT else place[: _MAX_TEXT - 1] + "…"

    def _generalize(self, path: str) -> str:
        return generalize(path, self.known_names and self.known_names.fields)

    def encoded(self, archive_uri: str) -> msgspec.Raw:
        """The row of `sql/schema/dead_letters.sql`, as the JSON that `insertAll` takes.

        A payload too large to be an event is NULL here: its bytes are in the archive object.
        """
        message = self.message
        return msgspec.Raw(
            _encode(
                {
                    "event_id": message.event_id,
                    "message_id": message.message_id,
                    "publish_time": message.publish_time,
                    "failed_at": self.failed_at,
                    "event_type": self.event_type,
                    "schema_version": self.schema_version,
                    "stage": self.stage,
                    "errors": [
                        {"path": clip(path), "rule": rule, "message": clip(text)}
                        for path, rule, text in self.errors[:MAX_ERRORS]
                    ],
                    "fingerprint": self.fingerprint,
                    "place": self.place,
                    "content_digest": self.content_digest,
                    "payload": message.data if len(message.data) <= MAX_EVENT_BYTES else None,
                    "payload_bytes": len(message.data),
                    "attributes": _encode(message.attributes).decode(),
                    "delivery_attempt": message.delivery_attempt,
                    "archive_uri": archive_uri,
                    "code_version": self.code_version,
                }
            )
        )

    def record(self, archive_uri: str) -> dict[str, Any]:
        """The row as `encoded` has it."""
        record: dict[str, Any] = msgspec.json.decode(self.encoded(archive_uri))
        return record


def content_digest(message: Message) -> str:
    """Return 24 hex digits that two messages share only if they have the same event id and payload."""
    identity = message.event_id.encode() + b"\0" + message.data
    return hashlib.blake2b(identity, digest_size=12).hexdigest()


def clip(text: str | None) -> str | None:
    """Shorten a text, which a producer may have made arbitrarily long, for people."""
    return text if text is None or len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
