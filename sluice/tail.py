"""The newest rows and dead letters, as they come."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from google.api_core.retry import Retry
from google.cloud import bigquery

from functions.events import event_types
from functions.settings import Settings
from functions.sql import query_config, render
from functions.tables import Tables

# `content` is the row or the original bytes, as text. A partition of an event table is a day of the events' own time.
_EVENTS = """
SELECT * FROM (
  {% for name, table in event_tables %}
  SELECT
    processed_timestamp AS time, '{{ name }}' AS type, 'good' AS verdict, ingest.event_id AS event_id,
    ingest.message_id AS message_id, CAST(NULL AS STRING) AS stage, CAST(NULL AS STRING) AS rule,
    CAST(NULL AS STRING) AS path, CAST(NULL AS STRING) AS message, TO_JSON_STRING(event) AS content
  FROM `{{ table }}` AS event
  WHERE event_date >= @first_day AND processed_timestamp >= @since
  UNION ALL
  {% endfor %}
  SELECT
    failed_at AS time, event_type AS type, 'bad' AS verdict, event_id, message_id, stage,
    errors[SAFE_OFFSET(0)].rule AS rule, errors[SAFE_OFFSET(0)].path AS path,
    errors[SAFE_OFFSET(0)].message AS message, SAFE_CONVERT_BYTES_TO_STRING(payload) AS content
  FROM `{{ dead_letters }}`
  WHERE DATE(failed_at) >= DATE(@since) AND failed_at >= @since
)
WHERE (@type IS NULL OR type = @type)
  AND (
    @text IS NULL
    OR STRPOS(LOWER(CONCAT(event_id, ' ', IFNULL(content, ''), ' ', IFNULL(message, ''))), LOWER(@text)) > 0
  )
ORDER BY time DESC, event_id DESC
LIMIT @maximum
"""

_MAXIMUM = 100_000
"""Maximum number of events of one poll."""

_OWN_COLUMNS = {"event_type", "event_date", "processed_timestamp", "ingest"}
"""Columns of an event table that an event does not have itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class TailFilter:
    """Conditions that select events; an omitted condition selects all.

    Attributes:
        only_bad: Whether to select dead letters only.
        event_type: Event type of the row, or the type that the payload of the dead letter states.
        text: Text in the event id, the row, the payload or the message of the error, in any case.
    """

    only_bad: bool = False
    event_type: str | None = None
    text: str | None = None


class TailedEvent(msgspec.Struct, frozen=True):
    """A row or a dead letter.

    Attributes:
        time: Time at which Sluice processed or rejected the event.
        type: Event type; None if the payload of a dead letter states none.
        verdict: `good` or `bad`.
        event_id: Id of the event.
        message_id: Id of the message that brought it.
        stage: Stage that rejected the event.
        rule: Rule of its first error.
        path: Place of its first error.
        message: Message of its first error.
        content: The row as JSON, or the payload as text; None if the payload is not UTF-8 or only in the archive.
    """

    time: datetime
    type: str | None
    verdict: str
    event_id: str
    message_id: str
    stage: str | None
    rule: str | None
    path: str | None
    message: str | None
    content: str | None

    def payload(self) -> str:
        """Return the fields of the event as JSON: of a row those that have a value, of a dead letter the payload."""
        if self.verdict == "bad" or self.content is None:
            return self.content or ""
        row = msgspec.json.decode(self.content)
        fields = {name: value for name, value in row.items() if name not in _OWN_COLUMNS and value is not None}
        return msgspec.json.encode(fields).decode()


class Tail:
    """Polls the live dataset for new events.

    Attributes:
        billed: Bytes billed so far.
    """

    def __init__(
        self, client: bigquery.Client, settings: Settings, chosen: TailFilter, days: int, retry: Retry
    ) -> None:
        """Read no event yet.

        Args:
            client: Client of the datasets' project.
            settings: Names of the datasets.
            chosen: Which events to return.
            days: Days before today that the own time of an event may be, as rows are in the partition of that day.
            retry: Retry of the requests.
        """
        tables = Tables(settings)
        event_tables = [
            (name, tables.live(event_type.table))
            for name, event_type in event_types().items()
            if not chosen.only_bad and chosen.event_type in {None, name}
        ]
        self._sql = render(_EVENTS, event_tables=event_tables, dead_letters=tables.dead_letters)
        self._client, self._chosen, self._retry = client, chosen, retry
        self._days = timedelta(days)
        # A row appears when its flush has ended, so an event may come after others that were processed later.
        self._overlap = timedelta(seconds=2 * settings.flush_timeout)
        self._floor = self._newest = datetime.now(UTC)
        self._seen: dict[tuple[str, ...], datetime] = {}
        self.billed = 0

    def last(self, number: int) -> list[TailedEvent]:
        """Return the last events, oldest first. The next call of `new` returns those after them."""
        started = datetime.now(UTC)
        if not number:
            self._floor = self._newest = started
            return []
        events = self._query(started - self._days, number)
        # Events before the first one that is returned are none of `new`.
        self._floor = self._newest = events[0].time if len(events) == number else started - self._days
        self._remember(events)
        return events

    def new(self) -> list[TailedEvent]:
        """Return the events that have appeared since the last call, oldest first."""
        since = max(self._floor, self._newest - self._overlap)
        events = [event for event in self._query(since, _MAXIMUM) if _key(event) not in self._seen]
        self._remember(events)
        return events

    def _remember(self, events: Sequence[TailedEvent]) -> None:
        self._newest = max([self._newest, *(event.time for event in events)])
        self._seen |= {_key(event): event.time for event in events}
        oldest = self._newest - self._overlap
        self._seen = {key: time for key, time in self._seen.items() if time >= oldest}

    def _query(self, since: datetime, maximum: int) -> list[TailedEvent]:
        config = query_config(
            first_day=("DATE", (datetime.now(UTC) - self._days).date()),
            since=("TIMESTAMP", since),
            type=("STRING", self._chosen.event_type),
            text=("STRING", self._chosen.text),
            maximum=("INT64", maximum),
        )
        job = self._client.query(self._sql, config, retry=self._retry, job_retry=None)
        events = [TailedEvent(**dict(row)) for row in job.result(retry=self._retry)]
        self.billed += job.total_bytes_billed or 0
        return events[::-1]


def _key(event: TailedEvent) -> tuple[str, ...]:
    return event.verdict, event.event_id, event.message_id, event.time.isoformat()
