"""Queries of dead letters by cause, and of all details of the dead letters of one event."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from google.cloud import bigquery
from google.cloud.storage import Client as StorageClient

from functions.archive.reader import object_at
from functions.core.message import Message
from functions.files.sources import Unreadable
from functions.settings import Settings
from functions.sql import Parameter, query_config, render
from functions.tables import Tables
from sluice.queries import rows_of
from sluice.trace import read_object, replays_of


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Conditions that select dead letters; an omitted condition selects all.

    Attributes:
        fingerprints: Fingerprints of the causes.
        event_type: Type that the payload states.
        stage: Stage that rejected the event.
        since: Earliest time of the rejection.
        only_open: Whether to select only those whose events have no other record yet.
        event_id: Id of the event.
        message_id: Pub/Sub's id of the message.
    """

    fingerprints: Sequence[str] = ()
    event_type: str | None = None
    stage: str | None = None
    since: datetime | None = None
    only_open: bool = True
    event_id: str | None = None
    message_id: str | None = None

    def where(self) -> str:
        """Return the conditions on `dead_letter_status`."""
        conditions = ["TRUE"]
        conditions += ["is_open"] if self.only_open else []
        if self.fingerprints:
            conditions.append("(fingerprint IN UNNEST(@fingerprints) OR cause IN UNNEST(@fingerprints))")
        conditions += ["event_type = @event_type"] if self.event_type else []
        conditions += ["stage = @stage"] if self.stage else []
        conditions += ["failed_at >= @since"] if self.since else []
        conditions += ["event_id = @event_id"] if self.event_id else []
        conditions += ["message_id = @message_id"] if self.message_id else []
        return " AND ".join(conditions)

    def parameters(self) -> dict[str, Parameter]:
        """Return the query parameters of the conditions."""
        return {
            "fingerprints": ("ARRAY<STRING>", self.fingerprints),
            "event_type": ("STRING", self.event_type),
            "stage": ("STRING", self.stage),
            "since": ("TIMESTAMP", self.since),
            "event_id": ("STRING", self.event_id),
            "message_id": ("STRING", self.message_id),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """The dead letters of one cause and type.

    Attributes:
        fingerprint: The cause; made from stage, type, rule and path for dead letters of older code.
        stage: Stage that rejected them.
        event_type: Event type; None where the payload states none.
        place: Generalized path of the first error.
        rule: Rule that the event violates.
        message: Message of the example's first error.
        events: Number of events that match the conditions.
        open_events: Number of these that have no other record yet.
        first_seen_at: Time at which the first was rejected.
        last_seen_at: Time at which the last was rejected.
        example_event_id: The last event.
    """

    fingerprint: str
    stage: str
    event_type: str | None
    place: str | None
    rule: str | None
    message: str | None
    events: int
    open_events: int
    first_seen_at: datetime
    last_seen_at: datetime
    example_event_id: str


_VALUES = """
SELECT DISTINCT value
FROM `{{ tables.dead_letter_status }}`, UNNEST([{{ columns }}]) AS value
WHERE value IS NOT NULL
"""


def fingerprints(client: bigquery.Client, settings: Settings) -> set[str]:
    """Return the fingerprints of all dead letters, open or not.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the request or did not answer.
    """
    return _values(client, settings, "fingerprint, cause")


def stated_types(client: bigquery.Client, settings: Settings) -> set[str]:
    """Return the event types that the payloads of all dead letters state, whether or not they exist.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the request or did not answer.
    """
    return _values(client, settings, "event_type")


def _values(client: bigquery.Client, settings: Settings, columns: str) -> set[str]:
    return {row.value for row in rows_of(client, render(_VALUES, tables=Tables(settings), columns=columns))}


_LAST_FIRST = "is_open DESC, failed_at DESC, event_id, fingerprint"

_GROUPS = """
SELECT found.* EXCEPT (example_fingerprint), letter.message
FROM (
  SELECT
    cause AS fingerprint, stage, MIN(IF(place = '$.event_type', NULL, event_type)) AS event_type,
    MIN(place) AS place, MIN(rule) AS rule,
    COUNT(DISTINCT CONCAT(event_id, COALESCE(content_digest, ''))) AS events,
    COUNT(DISTINCT IF(is_open, CONCAT(event_id, COALESCE(content_digest, '')), NULL)) AS open_events,
    MIN(failed_at) AS first_seen_at, MAX(failed_at) AS last_seen_at,
    ARRAY_AGG(event_id ORDER BY {{ last_first }} LIMIT 1)[OFFSET(0)] AS example_event_id,
    ARRAY_AGG(fingerprint ORDER BY {{ last_first }} LIMIT 1)[OFFSET(0)] AS example_fingerprint
  FROM `{{ tables.dead_letter_status }}`
  WHERE {{ where }}
  GROUP BY cause, stage
) AS found
LEFT JOIN (
  SELECT event_id, fingerprint, MIN(errors[SAFE_OFFSET(0)].message) AS message
  FROM `{{ tables.dead_letters }}`
  GROUP BY event_id, fingerprint
) AS letter
  ON letter.event_id = found.example_event_id AND letter.fingerprint = found.example_fingerprint
ORDER BY open_events DESC, events DESC, found.fingerprint
"""


def groups(client: bigquery.Client, settings: Settings, choice: DeadLetterFilter) -> list[Group]:
    """Return the dead letters by cause, most open ones first.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the request or did not answer.
    """
    query = render(_GROUPS, tables=Tables(settings), where=choice.where(), last_first=_LAST_FIRST)
    config = query_config(**choice.parameters())
    return [Group(**dict(row)) for row in rows_of(client, query, config)]


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """Steps of a trend.

    Attributes:
        start: Start of the first step.
        seconds: Length of a step.
        steps: Number of steps.
    """

    start: datetime
    seconds: int
    steps: int

    @property
    def starts(self) -> list[datetime]:
        """Start of each step."""
        return [self.start + timedelta(seconds=self.seconds * step) for step in range(self.steps)]


# The same events as `events` of the groups: an event counts in the step of its first rejection.
_TREND = """
SELECT fingerprint, stage, step, COUNT(*) AS events
FROM (
  SELECT
    cause AS fingerprint, stage,
    DIV(TIMESTAMP_DIFF(MIN(failed_at), @start, SECOND), @seconds) AS step
  FROM `{{ tables.dead_letter_status }}`
  WHERE {{ where }}
  GROUP BY cause, stage, event_id, content_digest
)
WHERE step BETWEEN 0 AND @steps - 1
GROUP BY fingerprint, stage, step
"""


def trends(
    client: bigquery.Client, settings: Settings, choice: DeadLetterFilter, scale: Scale
) -> dict[tuple[str, str], list[int]]:
    """Return the number of events of each group by time of their first rejection.

    Args:
        client: Client of the datasets' project.
        settings: Names of the datasets.
        choice: Conditions of the dead letters, as of the groups.
        scale: Steps of the trend.

    Returns:
        Numbers of all steps, by fingerprint and stage.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the request or did not answer.
    """
    query = render(_TREND, tables=Tables(settings), where=choice.where())
    config = query_config(
        **choice.parameters(),
        start=("TIMESTAMP", scale.start),
        seconds=("INT64", scale.seconds),
        steps=("INT64", scale.steps),
    )
    numbers: dict[tuple[str, str], list[int]] = {}
    for row in rows_of(client, query, config):
        numbers.setdefault((row["fingerprint"], row["stage"]), [0] * scale.steps)[row["step"]] = row["events"]
    return numbers


@dataclasses.dataclass(frozen=True, slots=True)
class LetterStatus:
    """A dead letter in a list.

    Attributes:
        event_id: Id of the event.
        message_id: Pub/Sub's id of the message.
        failed_at: Time of the rejection.
        is_open: Whether its event has no other record yet.
        replayed_at: Time of its last replay.
        outcome: Result of that replay: `row` or `dead_letter`.
    """

    event_id: str
    message_id: str
    failed_at: datetime
    is_open: bool
    replayed_at: datetime | None
    outcome: str | None


_LAST = """
SELECT event_id, message_id, failed_at, is_open, replayed_at, outcome
FROM `{{ tables.dead_letter_status }}`
WHERE {{ where }}
QUALIFY ROW_NUMBER() OVER (PARTITION BY event_id, message_id ORDER BY failed_at DESC, fingerprint, archive_uri) = 1
ORDER BY is_open DESC, failed_at DESC, event_id, message_id
LIMIT @maximum
"""


def last_letters(
    client: bigquery.Client, settings: Settings, choice: DeadLetterFilter, maximum: int
) -> list[LetterStatus]:
    """Return the last dead letters of each message, open ones first.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the request or did not answer.
    """
    config = query_config(**choice.parameters(), maximum=("INT64", maximum))
    query = render(_LAST, tables=Tables(settings), where=choice.where())
    return [LetterStatus(**dict(row)) for row in rows_of(client, query, config)]


@dataclasses.dataclass(frozen=True, slots=True)
class DeadLetterDetails:
    """A dead letter with its message and its replays.

    Attributes:
        record: Columns of the dead letter; of `errors`, path, rule and message of each.
        is_open: Whether its event has no other record yet.
        replays: Entries of the ledger for its event, oldest first.
        message: The message; None where its bytes cannot be read.
        problem: Reason why its bytes cannot be read.
    """

    record: Mapping[str, Any]
    is_open: bool
    replays: Sequence[Mapping[str, Any]]
    message: Message | None
    problem: str | None


_OF_EVENT = """
SELECT letter.* EXCEPT (attributes, errors), TO_JSON_STRING(attributes) AS attributes, TO_JSON_STRING(errors) AS errors,
  status.is_open
FROM `{{ tables.dead_letters }}` AS letter
JOIN (
  SELECT DISTINCT event_id, fingerprint, failed_at, archive_uri, content_digest, is_open
  FROM `{{ tables.dead_letter_status }}`
  WHERE event_id = @event_id
) AS status
  ON status.event_id = letter.event_id
  AND status.fingerprint = letter.fingerprint
  AND status.failed_at = letter.failed_at
  AND status.archive_uri = letter.archive_uri
  AND COALESCE(status.content_digest, '') = COALESCE(letter.content_digest, '')
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY letter.failed_at, letter.fingerprint, letter.archive_uri, COALESCE(letter.content_digest, '')
  ORDER BY letter.message_id
) = 1
ORDER BY letter.failed_at DESC, letter.fingerprint, letter.message_id
"""


def dead_letters_of(
    event_id: str, client: bigquery.Client, storage: StorageClient, settings: Settings
) -> list[DeadLetterDetails]:
    """Return the dead letters of an event, the last one first.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery or Cloud Storage rejected a request or did not answer.
    """
    query = render(_OF_EVENT, tables=Tables(settings))
    config = query_config(event_id=("STRING", event_id))
    replays = replays_of(event_id, client, settings)
    return [_known(dict(row), replays, storage) for row in rows_of(client, query, config)]


def _known(record: dict[str, Any], replays: Sequence[Mapping[str, Any]], storage: StorageClient) -> DeadLetterDetails:
    is_open = record.pop("is_open")
    errors = msgspec.json.decode(record["errors"] or "[]")
    try:
        message, problem = message_of(record, storage), None
    except Unreadable as error:
        message, problem = None, str(error)
    return DeadLetterDetails({**record, "errors": errors}, is_open, replays, message, problem)


def message_of(record: Mapping[str, Any], storage: StorageClient) -> Message:
    """Return the message of a dead letter; from the archive where its payload is too large for the table.

    Raises:
        Unreadable: The archive object does not exist, or the caller may not read the payload.
    """
    payload = record["payload"]
    if payload is None:
        return _archived(record, storage)
    if len(payload) != record["payload_bytes"]:
        raise Unreadable(
            f"dead letter {record['event_id']}: you may not read its payload; the policy tag of the raw columns"
            " (docs/access.md) defines who may"
        )
    attributes = msgspec.json.decode(record["attributes"] or "{}", type=dict[str, str])
    return Message(payload, attributes, record["message_id"], record["publish_time"])


def _archived(record: Mapping[str, Any], storage: StorageClient) -> Message:
    archived = read_object(record["event_id"], object_at(record["archive_uri"], storage))
    for envelope in archived.envelopes:
        if envelope.message_id == record["message_id"]:
            return envelope.message()
    raise Unreadable(
        f"{archived.uri}, event {record['event_id']}: {archived.problem or 'it does not contain the event'}"
    )
