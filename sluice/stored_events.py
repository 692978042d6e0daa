"""The rows and dead letters of the live dataset as one list of events, the last first."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
from google.api_core.retry import Retry
from google.cloud import bigquery

from functions.events import event_types
from functions.settings import Settings
from functions.sql import query_config, render
from functions.tables import Tables

# A partition of an event table is a day of the events' own time.
_EVENTS = """
SELECT * FROM (
  {% for name, table in event_tables %}
  SELECT
    processed_timestamp AS time, '{{ name }}' AS type, 'good' AS verdict, ingest.event_id AS event_id,
    ingest.message_id AS message_id, CAST(NULL AS STRING) AS stage, CAST(NULL AS STRING) AS rule,
    CAST(NULL AS STRING) AS path, CAST(NULL AS STRING) AS message,
    {{ "TO_JSON_STRING(event)" if has_content else "CAST(NULL AS STRING)" }} AS content,
    ingest.publish_time AS publish_time, ingest.archive_uri AS archive_uri
  FROM `{{ table }}` AS event
  WHERE event_date >= @first_day AND processed_timestamp >= @since AND processed_timestamp < @before
  {{ "UNION ALL" if selects_bad or not loop.last }}
  {% endfor %}
  {% if selects_bad %}
  SELECT
    failed_at AS time, event_type AS type, 'bad' AS verdict, event_id, message_id, stage,
    errors[SAFE_OFFSET(0)].rule AS rule, errors[SAFE_OFFSET(0)].path AS path,
    errors[SAFE_OFFSET(0)].message AS message,
    {{ "SAFE_CONVERT_BYTES_TO_STRING(payload)" if has_content else "CAST(NULL AS STRING)" }} AS content,
    publish_time, archive_uri
  FROM `{{ dead_letters }}`
  WHERE DATE(failed_at) >= DATE(@since) AND failed_at >= @since AND failed_at < @before
  {{ "AND event_type = @type" if selects_type }}
  {% endif %}
)
{% if searches %}
WHERE STRPOS(LOWER(CONCAT(event_id, ' ', IFNULL(content, ''), ' ', IFNULL(message, ''))), LOWER(@text)) > 0
{% endif %}
ORDER BY time DESC, event_id DESC
LIMIT @maximum
"""

_OWN_COLUMNS = {"event_type", "event_date", "processed_timestamp", "ingest"}
"""Columns of an event table that an event does not have itself."""

type Verdict = Literal["good", "bad"]


@dataclasses.dataclass(frozen=True, slots=True)
class EventFilter:
    """Conditions that select events; an omitted condition selects all.

    Attributes:
        verdict: `good` for rows, `bad` for dead letters.
        event_type: Event type of the row, or the type that the payload of the dead letter states.
        text: Text in the event id, the row, the payload or the message of the error, in any case.
        days: Days before today that the own time of an event may be, as rows are in the partition of that day.
    """

    verdict: Verdict | None = None
    event_type: str | None = None
    text: str | None = None
    days: int = 1

    @property
    def first_day(self) -> datetime:
        """First time of the processing of the selected events."""
        return datetime.now(UTC) - timedelta(self.days)


class StoredEvent(msgspec.Struct, frozen=True):
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
        content: The row as JSON, or the payload as text; None if the payload is not UTF-8 or only in the archive, or if
            the contents were not asked for.
        publish_time: Time at which Pub/Sub accepted the message.
        archive_uri: Object with the raw bytes.
    """

    time: datetime
    type: str | None
    verdict: Verdict
    event_id: str
    message_id: str
    stage: str | None
    rule: str | None
    path: str | None
    message: str | None
    content: str | None
    publish_time: datetime
    archive_uri: str

    def payload(self) -> str:
        """Return the fields of the event as JSON: of a row those that have a value, of a dead letter the payload."""
        if self.verdict == "bad" or self.content is None:
            return self.content or ""
        row = msgspec.json.decode(self.content)
        fields = {name: value for name, value in row.items() if name not in _OWN_COLUMNS and value is not None}
        return msgspec.json.encode(fields).decode()


class StoredEvents:
    """Reads events, and adds up what that is billed for.

    Args:
        client: Client of the datasets' project.
        settings: Names of the datasets.
        retry: Retry of the requests.

    Attributes:
        billed: Bytes billed so far.
    """

    def __init__(self, client: bigquery.Client, settings: Settings, retry: Retry) -> None:
        self._client, self._tables, self._retry = client, Tables(settings), retry
        self.billed = 0

    def last(
        self,
        chosen: EventFilter,
        maximum: int,
        *,
        since: datetime | None = None,
        before: datetime | None = None,
        contents: bool = True,
    ) -> list[StoredEvent]:
        """Return the last events that a filter selects, the last first.

        Args:
            chosen: The filter.
            maximum: Maximum number of events.
            since: First time of processing; by default that of the filter.
            before: Time of processing that all events precede; by default all do.
            contents: Whether to return the contents. They are what such a query costs most for.

        Raises:
            google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
        """
        tables = [
            (name, self._tables.live(event_type.table))
            for name, event_type in event_types().items()
            if chosen.verdict != "bad" and chosen.event_type in {None, name}
        ]
        selects_bad = chosen.verdict != "good"
        if not tables and not selects_bad:
            return []
        sql = render(
            _EVENTS,
            event_tables=tables,
            dead_letters=self._tables.dead_letters,
            selects_bad=selects_bad,
            selects_type=chosen.event_type is not None,
            searches=chosen.text is not None,
            has_content=contents or chosen.text is not None,
        )
        config = query_config(
            first_day=("DATE", chosen.first_day.date()),
            since=("TIMESTAMP", since or chosen.first_day),
            before=("TIMESTAMP", before or datetime.now(UTC) + timedelta(1)),
            type=("STRING", chosen.event_type),
            text=("STRING", chosen.text),
            maximum=("INT64", maximum),
        )
        job = self._client.query(sql, config, retry=self._retry, job_retry=None)
        events = [StoredEvent(**dict(row)) for row in job.result(retry=self._retry)]
        self.billed += job.total_bytes_billed or 0
        return events
