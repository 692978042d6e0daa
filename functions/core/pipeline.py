"""The pure core: from a message to a row or a dead letter. Function, Dataflow, replay and backfill share it."""

import dataclasses
import hashlib
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec

from functions.core.contracts import Contract, Contracts
from functions.core.dead_letters import DeadLetter, EventRejected, Stage, Violation, clip
from functions.core.decode import decode
from functions.core.message import MAX_EVENT_BYTES, MAX_EVENT_ID, Message
from functions.core.privacy import Privacy
from functions.core.rows import Extras, Row
from functions.events import Columns
from functions.settings import Settings

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode

MAX_AHEAD = timedelta(days=1)
"""Maximum time that an event may be ahead of the clock: enough for clocks that are wrong by a time zone."""

MAX_EXTRAS_BYTES = MAX_EVENT_BYTES * 3 // 2
"""Maximum size of the `extras` JSON. It leaves room for escaping within the 10 MB of a request."""


@dataclasses.dataclass(frozen=True, slots=True)
class EventPipeline:
    """Makes a row or a dead letter of a message. Besides the message and the time, its attributes decide which.

    Attributes:
        contracts: The contracts of events.
        privacy: The policy for addresses in rows.
        retention_days: Days that a partition lives.
        code_version: Written to every row and dead letter.
    """

    contracts: Contracts
    privacy: Privacy
    retention_days: int
    code_version: str

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Load the contracts, and take the rest from the settings."""
        return cls(Contracts.load(), Privacy.from_settings(settings), settings.retention_days, settings.code_version)

    def __call__(self, message: Message, now: datetime) -> Row | DeadLetter:
        """Take a message through all stages. A stage that rejects it makes it a dead letter.

        Args:
            message: Any message at all.
            now: The time, in UTC.
        """
        event: dict[str, Any] = {}
        contract: Contract | None = None
        try:
            _check_event_id(message)
            event = decode(message.data)
            contract = self.contracts.choose(event, message.attributes)
            columns, extras = contract.validate(event, len(message.data))
            event_time: datetime = columns[contract.event_type.time_field]
            content, digest = self._enrich(message.event_id, contract, columns, extras, now)
            self._check_time_bounds(contract, event_time, now)
        except EventRejected as error:
            return self._dead_letter(message, now, error, event, contract)
        return Row(
            message,
            contract.name,
            contract.version,
            contract.event_type.table,
            content,
            digest,
            len(extras),
            self.code_version,
            extras.rounded_numbers,
        )

    def _enrich(
        self, event_id: str, contract: Contract, columns: Columns, extras: Extras, now: datetime
    ) -> tuple[bytes, str]:
        """Return all columns as JSON and the digest of the producer's own.

        What cannot be encoded rejects one event here; later it would fail the batch.
        """
        computed = {
            "processed_timestamp": now,
            "event_date": columns[contract.event_type.time_field].date(),
            "extras": _extras(extras) if extras else None,
        }
        try:
            enriched = contract.event_type.enrich(columns, self.privacy)
            for name in enriched:
                columns.pop(name, None)
            produced = _encode_sorted(columns)
            digest = _digest(event_id, produced, computed["extras"])
            return b"".join((produced[:-1], b",", _encode(computed | enriched)[1:])), digest
        except MemoryError:  # no fault of the event
            raise
        except Exception as error:
            reason = str(error).encode(errors="backslashreplace").decode()
            violation = Violation("$", type(error).__name__, f"{contract.name} could not be enriched: {reason}")
            raise EventRejected(Stage.ENRICH, [violation]) from error

    def _check_time_bounds(self, contract: Contract, event_time: datetime, now: datetime) -> None:
        """Reject a row without a partition: one is gone when its day is `retention_days` old."""
        if now.toordinal() - event_time.toordinal() >= self.retention_days:
            message = f"{event_time.isoformat()} is before the {self.retention_days} days of retention"
            rule = "minimum"
        elif event_time - now > MAX_AHEAD:
            message = f"{event_time.isoformat()} is more than a day ahead of {now.isoformat()}"
            rule = "maximum"
        else:
            return
        raise EventRejected(Stage.TIME_BOUNDS, [Violation(f"$.{contract.event_type.time_field}", rule, message)])

    def _dead_letter(
        self,
        message: Message,
        now: datetime,
        error: EventRejected,
        event: dict[str, Any],
        contract: Contract | None,
    ) -> DeadLetter:
        event_type = contract.name if contract else event.get("event_type")
        version = str(contract.version) if contract else clip(message.attributes.get("schema_version"))
        return DeadLetter(
            message,
            error.stage,
            error.violations,
            now,
            self.code_version,
            clip(event_type) if isinstance(event_type, str) else None,
            version,
            self.contracts.names,
        )


def _digest(event_id: str, produced: bytes, extras: str | None) -> str:
    """Return 24 hex digits that two rows share only if they are the same event with the same content.

    Content is what the producer sent, as far as the row shows it unchanged: spelling and order in the payload do not
    count. What a handler replaces does not count either, so that nobody can find a hidden address by trying them all.
    With 96 bits, two of the rows of a minute at 100 000 a second share a digest by chance once in 10^15 minutes.

    Args:
        event_id: Identity of the event.
        produced: The producer's columns as JSON, sorted by name.
        extras: Its unknown fields.
    """
    identity = b"\0".join((event_id.encode(), produced, (extras or "").encode()))
    return hashlib.blake2b(identity, digest_size=12).hexdigest()


def _extras(extras: Extras) -> str:
    encoded = _encode_sorted(extras)
    if len(encoded) > MAX_EXTRAS_BYTES:
        text = f"the unknown fields and their paths are {len(encoded)} bytes, more than {MAX_EXTRAS_BYTES}"
        raise EventRejected(Stage.CONTRACT, [Violation("$", "maxBytes", text)])
    return encoded.decode()


def _check_event_id(message: Message) -> None:
    length = len(message.attributes.get("event_id", ""))
    if length > MAX_EVENT_ID:
        rule, text = "maxLength", f"{length} characters are more than the {MAX_EVENT_ID} of an event id"
    elif message.has_reserved_id:
        rule, text = "reserved", "ids of smoke-, 32 hex digits and - are those of `sluice smoke`; send any other id"
    else:
        return
    raise EventRejected(Stage.DECODE, [Violation("attributes.event_id", rule, text)])
