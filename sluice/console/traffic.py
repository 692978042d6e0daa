"""Traffic: events per second by type, dead letters, lag and flush sizes over a time until now."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from functions.events import event_types
from functions.sql import query_config, render
from functions.tables import Tables
from sluice.console.sources import Sources
from sluice.queries import short_retry

type Window = Literal["5m", "30m", "24h", "7d"]

_WINDOWS = {"5m": (300, 1), "30m": (1_800, 5), "24h": (86_400, 300), "7d": (604_800, 3_600)}
"""Seconds of each window, and seconds of each of its steps."""

# As in sql/monitoring/ the lag ends when the event is processed. The events of a flush have the same archive object.
_TRAFFIC = """
SELECT
  TIMESTAMP_SECONDS(DIV(UNIX_SECONDS(time), @step) * @step) AS start,
  {% for name, _ in event_tables %}
  COUNTIF(type = '{{ name }}') AS n{{ loop.index0 }},
  {% endfor %}
  COUNTIF(type IS NULL) AS bad,
  COUNT(DISTINCT archive_uri) AS flushes,
  APPROX_QUANTILES(lag, 100)[OFFSET(50)] AS p50,
  APPROX_QUANTILES(lag, 100)[OFFSET(99)] AS p99
FROM (
  {% for name, table in event_tables %}
  SELECT
    processed_timestamp AS time, '{{ name }}' AS type, ingest.archive_uri AS archive_uri,
    TIMESTAMP_DIFF(processed_timestamp, ingest.publish_time, MILLISECOND) AS lag
  FROM `{{ table }}`
  WHERE event_date >= @first_day AND processed_timestamp >= @since
  UNION ALL
  {% endfor %}
  SELECT failed_at, NULL, archive_uri, TIMESTAMP_DIFF(failed_at, publish_time, MILLISECOND)
  FROM `{{ dead_letters }}`
  WHERE DATE(failed_at) >= DATE(@since) AND failed_at >= @since
)
GROUP BY start
ORDER BY start
"""


class TrafficParameters(msgspec.Struct, frozen=True):
    """Parameters of the traffic.

    Attributes:
        window: Time until now.
        days: Days before today that an event's own date may be; by default `Sources.days`.
    """

    window: Window = "5m"
    days: Annotated[int, Meta(ge=0, le=3650)] | None = None


class Series(msgspec.Struct, frozen=True):
    """Events of a type by step.

    Attributes:
        name: Event type, or `dead letters`.
        events: Number of events in each step.
    """

    name: str
    events: Sequence[int]


class Traffic(msgspec.Struct, frozen=True):
    """The traffic of a window.

    Attributes:
        window: The window.
        step: Seconds of a step.
        starts: Beginning of each step, in seconds since 1970; the last one is not over.
        series: Events by step: of each event type, and the dead letters.
        p50: Median lag by step, in milliseconds; None where no event came.
        p99: 99th percentile of the lag by step, in milliseconds.
        accepted: Number of rows.
        rejected: Number of dead letters.
        flushes: Number of flushes, which is that of archive objects.
    """

    window: Window
    step: int
    starts: Sequence[int]
    series: Sequence[Series]
    p50: Sequence[int | None]
    p99: Sequence[int | None]
    accepted: int
    rejected: int
    flushes: int

    @property
    def events(self) -> int:
        """Number of rows and dead letters."""
        return self.accepted + self.rejected

    @property
    def events_per_flush(self) -> float | None:
        """Mean number of events of a flush."""
        return round(self.events / self.flushes, 1) if self.flushes else None


def traffic(sources: Sources, parameters: TrafficParameters) -> Traffic:
    """Return the traffic until now.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
    """
    seconds, step = _WINDOWS[parameters.window]
    last = int(time.time()) // step * step
    starts = range(last - seconds + step, last + step, step)
    tables = Tables(sources.settings)
    event_tables = [(name, tables.live(event_type.table)) for name, event_type in event_types().items()]
    config = query_config(
        step=("INT64", step),
        since=("TIMESTAMP", datetime.fromtimestamp(starts[0], UTC)),
        first_day=("DATE", (datetime.now(UTC) - timedelta(sources.days(parameters.days))).date()),
    )
    sql = render(_TRAFFIC, event_tables=event_tables, dead_letters=tables.dead_letters)
    job = sources.bigquery.query(sql, config, retry=short_retry(), job_retry=None)
    by_start = {int(row["start"].timestamp()): row for row in job.result(retry=short_retry())}
    names = [*(f"n{number}" for number, _ in enumerate(event_tables)), "bad"]
    counts = {name: [by_start[start][name] if start in by_start else 0 for start in starts] for name in names}
    titles = [*(name for name, _ in event_tables), "dead letters"]
    return Traffic(
        window=parameters.window,
        step=step,
        starts=list(starts),
        series=[Series(title, counts[name]) for title, name in zip(titles, names, strict=True)],
        p50=[by_start[start]["p50"] if start in by_start else None for start in starts],
        p99=[by_start[start]["p99"] if start in by_start else None for start in starts],
        accepted=sum(sum(counts[name]) for name in names[:-1]),
        rejected=sum(counts["bad"]),
        flushes=sum(row["flushes"] for row in by_start.values()),
    )
