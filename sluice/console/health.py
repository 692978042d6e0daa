"""Health: is it running, is anything lost, what waits, what does it cost, and which alert would ring."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from functions.reconcile.reconciler import Reconciler
from functions.reconcile.scheduled import Checkpoint, Checkpoints, Part
from functions.tables import Tables
from sluice.console.alerts import Alert, Facts, alerts
from sluice.console.batch_mode import batch_answers
from sluice.console.health_answer import Answer, Read, State, read
from sluice.console.page import NoParameters
from sluice.console.sources import LocalStack, Sources
from sluice.console.traffic import Traffic, TrafficParameters, traffic
from sluice.cost import measured
from sluice.cost.sluice import Sluice
from sluice.cost.workload import DAYS_OF_MONTH, Workload
from sluice.local.deliveries import read_deliveries
from sluice.local.faults import read_faults
from sluice.local.status import ended_processes
from sluice.queries import queries, short_retry
from sluice.verify.project import Project, short_name

_DAY = timedelta(days=1)
_COMPARED = timedelta(hours=2)
_RECENT = _COMPARED + timedelta(hours=1)
"""Age of the end of comparisons of the last two hours: a run compares what has arrived until an hour before."""
_AGE = "pubsub.googleapis.com/subscription/oldest_unacked_message_age"
_UNDELIVERED = "pubsub.googleapis.com/subscription/num_undelivered_messages"
_METRIC_DELAY = timedelta(minutes=10)
_LOOKS = (0.0, 1.0, 2.0, 4.0)
"""Seconds before each comparison of the local stack: rows follow their archive object after a moment."""


class Health(msgspec.Struct, frozen=True):
    """The health of a deployment.

    Attributes:
        at: Time of the answers.
        answers: The five questions, and those about batch mode where it is in use.
        alerts: The alerts of Terraform.
        events_per_day: Rows and dead letters of the last 24 hours, from which the cost is estimated.
        usd_per_day: Estimated cost of a day by part, in USD.
        comparisons: Comparisons of the last day, the newest first.
    """

    at: datetime
    answers: Sequence[Answer]
    alerts: Sequence[Alert]
    events_per_day: int
    usd_per_day: Mapping[str, float]
    comparisons: Sequence[Checkpoint]


def health(sources: Sources, _: NoParameters) -> Health:
    """Return the answers. What cannot be read is an answer, too: it says what is missing."""
    now = datetime.now(UTC)
    day = read(lambda: traffic(sources, TrafficParameters("24h")))
    checkpoints = Checkpoints(sources.storage, sources.settings.archive_bucket)
    comparisons = read(lambda: list(checkpoints.since(now - _DAY))[::-1])
    waiting = read(lambda: local_waiting(sources.local) if sources.local else _cloud_waiting(sources))
    facts = _facts(sources, now, day.value, comparisons.value, waiting.value)
    if sources.local is None:
        facts = dataclasses.replace(facts, billed_bytes=read(lambda: _billed_bytes(sources)).value)
    rung = read(lambda: alerts(facts))
    usd = usd_per_day(facts.events_of_day)
    return Health(
        at=now,
        answers=[
            _running(sources, day, facts),
            _lost(sources, comparisons),
            _waits(waiting, rung.value or ()),
            *batch_answers(sources),
            _costs(sum(usd.values()), facts.events_of_day, day.problem),
            _rings(rung),
        ],
        alerts=rung.value or (),
        events_per_day=facts.events_of_day,
        usd_per_day=usd,
        comparisons=comparisons.value or (),
    )


class Waiting(msgspec.Struct, frozen=True):
    """Messages that are not acknowledged.

    Attributes:
        oldest: Age of the oldest; 0 if none waits.
        undelivered: Messages that Pub/Sub does not deliver any more; None if they are not counted.
        count: Messages that wait; None if they are not counted.
    """

    oldest: timedelta
    undelivered: int | None = None
    count: int | None = None


def local_waiting(local: LocalStack) -> Waiting:
    """Return what waits in the relay of the local stack."""
    deliveries = read_deliveries(local.data)
    if deliveries is None or deliveries.oldest is None:
        return Waiting(timedelta(), count=0)
    return Waiting(datetime.now(UTC) - deliveries.oldest, count=deliveries.waiting)


def _cloud_waiting(sources: Sources) -> Waiting:
    return waiting_of(Project.with_default_credentials(sources.settings))


def waiting_of(project: Project) -> Waiting:
    """Return what waits in the subscription of a deployment, by Cloud Monitoring.

    Raises:
        Unknown: An API rejected a request or did not answer.
        Failed: The deployment has no subscription.
    """
    subscription = project.subscription
    topic = subscription.get("deadLetterPolicy", {}).get("deadLetterTopic")
    others = project.all("pubsub", f"v1/{project.path}/subscriptions", "subscriptions") if topic else []
    undelivered = [
        int(_newest(project, _UNDELIVERED, other["name"]) or 0) for other in others if other.get("topic") == topic
    ]
    age = _newest(project, _AGE, subscription["name"])
    return Waiting(timedelta(seconds=age or 0.0), sum(undelivered) if undelivered else None)


def _newest(project: Project, metric: str, subscription: str) -> float | None:
    """Return the newest value of a metric of a subscription; None without any, as if no message waits."""
    series = f'metric.type="{metric}" AND resource.labels.subscription_id="{short_name(subscription)}"'
    points = project.points(series, _METRIC_DELAY)
    return float(points[0]["value"].get("int64Value", 0)) if points else None


def _facts(
    sources: Sources,
    now: datetime,
    day: Traffic | None,
    comparisons: Sequence[Checkpoint] | None,
    waiting: Waiting | None,
) -> Facts:
    running = sources.local.running if sources.local else None
    recent = [comparison for comparison in latest(comparisons or ()) if now - comparison.end < _RECENT]
    facts = Facts(
        now=now,
        started=running.started if running else None,
        oldest=waiting.oldest if waiting else None,
        undelivered=waiting.undelivered if waiting else None,
        compared=comparisons[0].end if comparisons else None,
        missing=sum(comparison.total.missing + comparison.unreadable for comparison in recent) if recent else None,
        conflicts=sum(comparison.total.conflicts for comparison in recent) if recent else None,
    )
    if day is None:
        return facts
    accepted, rejected = (_of_last_hour(day, name) for name in ("accepted", "rejected"))
    busy = [start for index, start in enumerate(day.starts) if any(series.events[index] for series in day.series)]
    newest = min(now, datetime.fromtimestamp(busy[-1] + day.step, UTC)) if busy else None
    return dataclasses.replace(facts, accepted=accepted, rejected=rejected, newest=newest, events_of_day=day.events)


def latest(comparisons: Sequence[Checkpoint]) -> list[Checkpoint]:
    """Return the comparisons that no newer one has repeated.

    Args:
        comparisons: Comparisons, the newest first. The first one of a deployment compares nothing.
    """
    kept: list[Checkpoint] = []
    for comparison in comparisons:
        if comparison.start < comparison.end and (not kept or comparison.end <= kept[-1].start):
            kept.append(comparison)
    return kept


def _of_last_hour(day: Traffic, kind: str) -> int:
    steps = 3600 // day.step
    *rows, letters = day.series
    return sum(sum(series.events[-steps:]) for series in (rows if kind == "accepted" else [letters]))


def _running(sources: Sources, day: Read[Traffic], facts: Facts) -> Answer:
    newest = f"the newest event came before {facts.newest:%H:%M} UTC" if facts.newest else "no event in 24 hours"
    return _local_running(sources.local, newest) if sources.local else _cloud_running(sources, day, facts, newest)


_RUNNING = "Is it running?"


def _local_running(local: LocalStack, newest: str) -> Answer:
    stack = local.running
    if stack is None:
        return Answer(_RUNNING, "problem", "The local stack has ended.", None, "Type `sluice up`.", _LOCAL)
    if ended := ended_processes(stack):
        todo = "Read their logs in the data folder, then `sluice down` and `sluice up`."
        return Answer(_RUNNING, "problem", f"Ended: {', '.join(ended)}.", stack.started, todo, _LOCAL)
    text = f"All {len(stack.processes)} processes run; {newest}."
    if broken := read_faults(local.data).active:
        text += f" On purpose, {' and '.join(broken)}."
    return Answer(_RUNNING, "ok", text, stack.started, "", _LOCAL)


def _cloud_running(sources: Sources, day: Read[Traffic], facts: Facts, newest: str) -> Answer:
    if day.problem:
        return Answer(_RUNNING, "unknown", day.problem, None, "Ask for the role that it names.", "docs/access.md")
    missing = read(lambda: _missing_tables(sources))
    if missing.value:
        text = f"Missing: {', '.join(missing.value)}."
        return Answer(_RUNNING, "problem", text, None, "Run the bootstrap.", _BOOTSTRAP)
    text = f"{newest}; {missing.problem or 'all tables exist'}."
    if facts.newest is None:
        todo = "Ask the producers whether they publish, and look at the push."
        return Answer(_RUNNING, "problem", text, None, todo, _NO_EVENTS)
    return Answer(_RUNNING, "ok", text, facts.newest, "", _NO_EVENTS)


_LOCAL = "docs/local-stack.md#see-what-it-does"
_BOOTSTRAP = "docs/operate.md#run-the-bootstrap"
_NO_EVENTS = "docs/operate.md#no-events-at-all"
_MISSING = "docs/operate.md#events-are-missing"


def _missing_tables(sources: Sources) -> Sequence[str]:
    """Return the tables that the bootstrap makes and that do not exist."""
    tables = Tables(sources.settings)
    datasets = (sources.settings.dataset, sources.settings.historical_dataset)
    there = {
        f"{dataset}.{table.table_id}"
        for dataset in datasets
        for table in sources.bigquery.list_tables(dataset, retry=short_retry())
    }
    return [name for name in (*tables.events(), tables.dead_letters, tables.replays) if name not in there]


def _lost(sources: Sources, comparisons: Read[list[Checkpoint]]) -> Answer:
    question = "Is anything lost?"
    if comparisons.value is None:
        return Answer(
            question, "unknown", comparisons.problem, None, "Ask for the role that it names.", "docs/access.md"
        )
    compared = latest(comparisons.value)
    if not compared:
        todo = "Compare now." if sources.local else "Look at the schedule of the function `reconcile`."
        runbook = _MISSING if sources.local else "docs/operate.md#the-reconciliation-does-not-run"
        return Answer(question, "unknown", "Nothing was compared in the last 24 hours.", None, todo, runbook)
    newest = compared[0]
    worst = next((comparison for comparison in compared if comparison.total.missing or comparison.unreadable), newest)
    total = worst.total
    span = f"arrived from {worst.start:%Y-%m-%d %H:%M:%S} to {worst.end:%Y-%m-%d %H:%M:%S} UTC"
    if total.missing or worst.unreadable:
        unreadable = f", and {worst.unreadable:,} objects are unreadable" if worst.unreadable else ""
        text = f"{total.missing:,} of {total.archived:,} events are missing{unreadable}: they {span}."
        start = worst.start.strftime("%Y-%m-%dT%H:%M:%SZ")
        todo = f"`sluice reconcile --from {start}` looks again; `--repair` loads them from the archive."
        return Answer(question, "problem", text, newest.end, todo, _MISSING)
    return Answer(
        question, "ok", f"None of {total.archived:,} events is missing that {span}.", newest.end, "", _MISSING
    )


def _waits(waiting: Read[Waiting], rung: Sequence[Alert]) -> Answer:
    question = "How old is the oldest unacknowledged message?"
    runbook = "docs/operate.md#events-wait-too-long"
    if waiting.value is None:
        todo = "Ask for the role `operators`." if "403" in waiting.problem else ""
        return Answer(question, "unknown", waiting.problem, None, todo, "docs/access.md" if todo else runbook)
    messages = waiting.value
    count = "" if messages.count is None else f"; {messages.count:,} messages wait"
    if not messages.oldest:
        return Answer(question, "ok", f"No message waits{count if messages.count else ''}.", None, "", runbook)
    rings = any(alert.definition.key == "oldest_message" and alert.state == "rings" for alert in rung)
    todo = "Look at the log of `ingest`, in batch mode of `drain`." if rings else ""
    since = datetime.now(UTC) - messages.oldest
    text = f"{messages.oldest.total_seconds():,.1f} s{count}."
    return Answer(question, "problem" if rings else "ok", text, since, todo, runbook)


def usd_per_day(events: int) -> Mapping[str, float]:
    """Return the modelled cost in USD of a day with so many events, by part."""
    measurement = measured.read()
    bill = Sluice(measurement, Workload(max(events, 1), measurement.message_bytes)).bill()
    parts: dict[str, float] = {}
    for item, usd in bill.items.items():
        part = item.split(":")[0]
        parts[part] = parts.get(part, 0.0) + usd / DAYS_OF_MONTH
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


def _costs(usd: float, events: int, problem: str) -> Answer:
    question = "What does it cost today?"
    runbook = "docs/cost.md"
    if problem:
        return Answer(question, "unknown", problem, None, "", runbook)
    text = f"{usd:,.2f} USD a day in the cloud at the {events:,} events of the last 24 hours, by the cost model."
    return Answer(question, "ok", text, None, "", runbook)


def _rings(rung: Read[list[Alert]]) -> Answer:
    question = "Which alert would ring?"
    runbook = "docs/operate.md"
    if rung.value is None:
        return Answer(question, "unknown", rung.problem, None, "", runbook)
    ringing = [alert.definition.title for alert in rung.value if alert.state == "rings"]
    unknown = sum(alert.state == "unknown" for alert in rung.value)
    note = f"{unknown} of {len(rung.value)} cannot be known here."
    if ringing:
        todo = "The table below has what each means."
        return Answer(question, "problem", f"{', '.join(ringing)}. {note}", None, todo, runbook)
    return Answer(question, "ok", f"None. {note}", None, "", runbook)


def _billed_bytes(sources: Sources) -> int:
    return sum(row["bytes_billed"] or 0 for row in _rows(sources, "cost_by_user", days="1"))


def _rows(sources: Sources, name: str, **given: str) -> list[Any]:
    query = queries()[name].bind(sources.bigquery.project, sources.settings, given)
    job = sources.bigquery.query(query.sql, query.config(), retry=short_retry(), job_retry=None)
    return list(job.result(retry=short_retry()))


class DataHealth(msgspec.Struct, frozen=True):
    """The health of today's data.

    Attributes:
        answers: Answers of queries of `sql/monitoring/`.
    """

    answers: Sequence[Answer]


def data_health(sources: Sources, _: NoParameters) -> DataHealth:
    """Return the answers of queries that read the rows of today, which is billed in the cloud."""
    with ThreadPoolExecutor(len(_CHECKS)) as pool:
        return DataHealth(list(pool.map(lambda check: check.run(sources), _CHECKS)))


def _fresh(rows: Sequence[Any]) -> tuple[State, str]:
    lags = [(row["p95_lag_seconds"], row["table_name"]) for row in rows if row["p95_lag_seconds"] is not None]
    if not lags:
        return "ok", "No row in the last hour."
    lag, table = max(lags)
    return "ok", f"95 % of the rows of the last hour came within {lag:,.1f} s; {table} is the slowest table."


def _duplicated(rows: Sequence[Any]) -> tuple[State, str]:
    count, duplicates = (sum(row[name] for row in rows) for name in ("row_count", "duplicates"))
    return "ok", f"{duplicates:,} of {count:,} rows, which the views leave out."


def _conflicting(rows: Sequence[Any]) -> tuple[State, str]:
    if not rows:
        return "ok", "None."
    return "problem", f"{len(rows):,}, for example {rows[0]['event_id']} of {rows[0]['table_name']}."


def _drifted(rows: Sequence[Any]) -> tuple[State, str]:
    if not rows:
        return "ok", "Tables and views have the same columns."
    return "problem", f"{len(rows):,} columns differ, for example {rows[0]['column_name']} of {rows[0]['compared']}."


@dataclasses.dataclass(frozen=True)
class _Check:
    """A question that a query of `sql/monitoring/` answers.

    Attributes:
        question: The question.
        query: Name of the query.
        verdict: Returns the state and the answer by the rows.
        parameters: Parameters of the query.
        todo: What to do about a problem.
        runbook: The section of the documentation that says more.
    """

    question: str
    query: str
    verdict: Callable[[Sequence[Any]], tuple[State, str]]
    parameters: Mapping[str, str]
    todo: str
    runbook: str

    def run(self, sources: Sources) -> Answer:
        """Return the answer."""
        rows = read(lambda: _rows(sources, self.query, **self.parameters))
        if rows.value is None:
            return Answer(self.question, "unknown", rows.problem, None, "", f"sluice sql {self.query}")
        state, text = self.verdict(rows.value)
        return Answer(self.question, state, text, None, self.todo if state == "problem" else "", self.runbook)


_TODAY = {"days": "1"}

_CHECKS = (
    _Check("How late are rows?", "ingestion_freshness", _fresh, _TODAY, "", "docs/operate.md#events-arrive-late"),
    _Check("How many rows are duplicates?", "duplicate_rate", _duplicated, _TODAY, "", "docs/monitoring.md"),
    _Check(
        "Which event ids have several contents?",
        "conflicting_event_ids",
        _conflicting,
        _TODAY,
        "Ask the producer for an id for each event.",
        "docs/operate.md#an-event-id-has-several-contents",
    ),
    _Check("Do tables and views fit together?", "schema_drift", _drifted, {}, "Run the bootstrap.", _BOOTSTRAP),
)


def compare(sources: Sources, _: NoParameters) -> Checkpoint:
    """Compare what arrived in the last two hours with the tables of the local stack, and keep the result.

    It is kept as the function `reconcile` keeps it, in the archive's bucket.

    Raises:
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    reconciler = Reconciler(sources.bigquery, sources.storage, sources.settings)
    start = datetime.now(UTC) - _COMPARED
    for seconds in _LOOKS:
        time.sleep(seconds)
        result = reconciler(start, datetime.now(UTC))
        if result.is_complete:
            break
    checkpoints = Checkpoints(sources.storage, sources.settings.archive_bucket)
    checkpoints.add(Part(start, result))
    return next(checkpoints.since(result.until))
