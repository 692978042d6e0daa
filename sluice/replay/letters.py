"""Open dead letters as a source of lines, and the results of their replay."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.envelope import Envelope
from functions.clients import storage_client
from functions.core.dead_letters import DeadLetter
from functions.core.message import is_smoke_test
from functions.files.sources import Line
from functions.settings import Settings
from functions.sql import query_config, render
from functions.tables import Tables
from sluice.backfill.builder import BackfillBuilder
from sluice.backfill.run import Backfill, Settled
from sluice.dead_letters import payload_view
from sluice.dead_letters.lookup import DeadLetterFilter, message_of
from sluice.queries import rows_of
from sluice.replay.ledger import Cause, Ledger, Origin, ReplaySource
from sluice.replay.transform import ATTRIBUTE, Transform

EXAMPLES = 3
"""Maximum changes of a transform that are shown."""


_LETTERS = """
SELECT
  letter.event_id, letter.message_id, letter.publish_time, letter.event_type, letter.stage,
  letter.fingerprint AS own_fingerprint, chosen.cause AS fingerprint, chosen.place, chosen.rule,
  letter.payload, letter.payload_bytes, TO_JSON_STRING(letter.attributes) AS attributes, letter.archive_uri
FROM `{{ tables.dead_letters }}` AS letter
JOIN (
  SELECT event_id, fingerprint, failed_at, archive_uri, cause, place, rule, message_id
  FROM `{{ tables.dead_letter_status }}`
  WHERE {{ where }}
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY event_id, message_id ORDER BY failed_at DESC, fingerprint, archive_uri
  ) = 1
) AS chosen
  ON chosen.event_id = letter.event_id
  AND chosen.fingerprint = letter.fingerprint
  AND chosen.failed_at = letter.failed_at
  AND chosen.archive_uri = letter.archive_uri
  AND chosen.message_id = letter.message_id
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY letter.event_id, letter.message_id ORDER BY letter.code_version) = 1
ORDER BY letter.failed_at, letter.publish_time, letter.event_id
"""
"""The last dead letter of each message, once: a retried insert may have written it twice."""


class PayloadChange(NamedTuple):
    """A payload before and after a transform."""

    event_id: str
    before: bytes
    after: bytes


@dataclasses.dataclass(slots=True)
class RemainingError:
    """The remaining error of events of a cause.

    Attributes:
        cause: Current cause, which may be the same.
        message: The error message of the first of them.
        events: Number of these events.
    """

    cause: Cause
    message: str
    events: int = 0


@dataclasses.dataclass(slots=True)
class CauseTally:
    """The results for the dead letters of one cause.

    Attributes:
        cause: The cause.
        events: Number of these events.
        passing: Number of those that become rows.
        left_alone: Number of events that the transform skipped.
        smoke_tests: Number of events of the smoke test.
        still: Remaining errors of the others, by fingerprint. Events in none of these counts failed.
    """

    cause: Cause
    events: int = 0
    passing: int = 0
    left_alone: int = 0
    smoke_tests: int = 0
    still: dict[str, RemainingError] = dataclasses.field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """Number of those that are rejected again."""
        return sum(still.events for still in self.still.values())


class Tally:
    """Counts the results of a replay; a listener of the backfill.

    Attributes:
        causes: The tallies by fingerprint.
        changes: First changes of a transform.
    """

    def __init__(self) -> None:
        self.causes: dict[str, CauseTally] = {}
        self.changes: list[PayloadChange] = []
        self._lock = threading.Lock()

    def count(self, name: str) -> int:
        """Return the sum of a count over all causes: `events`, `passing`, `rejected`, `left_alone` or `smoke_tests`."""
        with self._lock:
            return sum(getattr(tally, name) for tally in self.causes.values())

    def by_events(self) -> list[CauseTally]:
        """Return the tallies, that of most events first."""
        return sorted(self.causes.values(), key=lambda tally: (-tally.events, tally.cause.fingerprint))

    def as_json(self) -> dict[str, Any]:
        """Return the results as a JSON object."""
        causes = [
            {
                **tally.cause._asdict(),
                "events": tally.events,
                "passing": tally.passing,
                "left_alone": tally.left_alone,
                "smoke_tests": tally.smoke_tests,
                "still": [
                    {**still.cause._asdict(), "message": still.message, "events": still.events}
                    for still in tally.still.values()
                ],
            }
            for tally in self.by_events()
        ]
        changes = [
            {"event_id": change.event_id, "diff": payload_view.diff(change.before, change.after)}
            for change in sorted(self.changes)
        ]
        names = ("events", "passing", "left_alone", "smoke_tests")
        return {**{name: self.count(name) for name in names}, "causes": causes, "changes": changes}

    def read(self, cause: Cause) -> CauseTally:
        """Count a dead letter that was read."""
        with self._lock:
            tally = self.causes.setdefault(cause.fingerprint, CauseTally(cause))
            tally.events += 1
            return tally

    def __call__(self, settled: Sequence[Settled]) -> None:
        """Count events."""
        with self._lock:
            for result in settled:
                if isinstance(result.event.line.origin, Origin):
                    self._count(self.causes[result.event.line.origin.cause.fingerprint], result)

    @staticmethod
    def _count(tally: CauseTally, settled: Settled) -> None:
        match settled.event.outcome:
            case DeadLetter(errors=[(_, rule, message), *_]) as letter:
                fingerprint = letter.fingerprint
                cause = Cause(
                    fingerprint, letter.stage, _known_type(letter.event_type, letter.place), letter.place, rule
                )
                tally.still.setdefault(fingerprint, RemainingError(cause, message)).events += 1
            case _:
                tally.passing += 1


@dataclasses.dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that is replayed.

    Attributes:
        record: Its columns.
        number: Number of the dead letter in the run.
        storage: Client of the archive's project.
        transform: Transform that fixes its payload.
        tally: Counts the result.
    """

    record: Mapping[str, Any]
    number: int
    storage: StorageClient
    transform: Transform | None
    tally: Tally

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        """Yield the envelope; nothing if the transform skips it or the event is one of the smoke test.

        Raises:
            Unreadable: The payload cannot be read, or the transform failed.
        """
        record = self.record
        cause = Cause(*(record[name] for name in Cause._fields))
        cause = cause._replace(event_type=_known_type(cause.event_type, cause.place))
        tally = self.tally.read(cause)
        advance(1)
        if is_smoke_test(record["event_id"]):
            tally.smoke_tests += 1
            return
        message = message_of(record, self.storage)
        source, transformed = record["archive_uri"], None
        if self.transform:
            repaired = self.transform(message.data, message.attributes, record["event_id"])
            if repaired is None:
                tally.left_alone += 1
                return
            if repaired != message.data:
                if len(self.tally.changes) < EXAMPLES:
                    self.tally.changes.append(PayloadChange(record["event_id"], message.data, repaired))
                # No object of the archive has these bytes, so the line names none.
                source, transformed = f"dead letter {record['event_id']}", self.transform.name
                attributes = {**message.attributes, ATTRIBUTE: transformed}
                message = msgspec.structs.replace(message, data=repaired, attributes=attributes)
        data = msgspec.json.encode(Envelope.from_message(message, record["event_type"]))
        yield Line(source, self.number, data, Origin(cause, record["own_fingerprint"], transformed))


def _known_type(event_type: str | None, place: str | None) -> str | None:
    """Return the type of the dead letters of a cause; None for unknown types, which differ."""
    return None if place == "$.event_type" else event_type


class Letters:
    """The selected dead letters, each event once.

    Attributes:
        total: Number of dead letters.
        tally: The results for them.
    """

    def __init__(
        self,
        client: bigquery.Client,
        storage: StorageClient,
        settings: Settings,
        choice: DeadLetterFilter,
        transform: Transform | None = None,
    ) -> None:
        """Query the dead letters.

        Args:
            client: Client of the datasets' project.
            storage: Client of the archive's project.
            settings: Names of the datasets.
            choice: Selection of the dead letters.
            transform: Transform that fixes their payloads.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
        """
        query = render(_LETTERS, tables=Tables(settings), where=choice.where())
        self._rows = rows_of(client, query, query_config(**choice.parameters()))
        self._storage = storage
        self._transform = transform
        self.total: int = self._rows.total_rows or 0
        self.tally = Tally()

    def __iter__(self) -> Iterator[Letter]:
        for number, row in enumerate(self._rows, start=1):
            yield Letter(dict(row), number, self._storage, self._transform, self.tally)


def letters_replay(
    builder: BackfillBuilder, choice: DeadLetterFilter, transform: Transform | None = None, rate: float | None = None
) -> tuple[Letters, Backfill]:
    """Return the selected dead letters, and the run that replays them. The ledger records it unless it is a dry run.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
    """
    settings = builder.settings
    letters = Letters(builder.client, storage_client(settings), settings, choice, transform)
    ledger = [Ledger.of_backfill(builder, ReplaySource.DEAD_LETTER)] if builder.archive else []
    return letters, builder.build(*ledger, letters.tally, rate=rate)
