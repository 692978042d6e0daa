"""Health of batch mode: whether a run is overdue, how many load files wait, and which load jobs fail."""

import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from functions.drain.pending_loads import PendingLoad, pending_loads
from sluice.console.health_answer import Answer, Read, read
from sluice.console.sources import Sources
from sluice.verify.project import DRAIN, Project, of_service, short_name

_WINDOW = timedelta(hours=6)
"""Time in which the last runs are searched: more than four of the longest intervals."""

_LINES = 5
"""Number of runs by which the interval is known."""

_LEAST_OVERDUE = timedelta(minutes=21)
_LEAST_WAIT = timedelta(minutes=30)
"""Minimum ages above which a run is overdue, and a load file waits too long; those of the alerts (docs/batch.md)."""


class Runs(NamedTuple):
    """The last runs of `drain`.

    Attributes:
        newest: Time at which the newest one ended; None if there was none within six hours.
        report: Fields of its log line.
        interval: Time between two runs; zero if it is not known.
    """

    newest: datetime | None
    report: Mapping[str, Any]
    interval: timedelta


def runs_of(project: Project) -> Runs | None:
    """Return the last runs of a deployment by its log; None if it has no function `drain`.

    Raises:
        Unknown: An API rejected a request or did not answer.
    """
    if DRAIN not in project.services:
        return None
    name = short_name(project.service(DRAIN)["name"])
    entries = project.lines(f'{of_service(name)} AND jsonPayload.message="drain"', _WINDOW, _LINES)
    times = [datetime.fromisoformat(entry["timestamp"]) for entry in entries]
    gaps = [later - earlier for later, earlier in pairwise(times)]
    # A run that somebody started between two others, or an outage, changes some gaps, but not the one in the middle.
    interval = statistics.median_high(gaps) if gaps else timedelta()
    return Runs(times[0] if times else None, entries[0]["jsonPayload"] if entries else {}, interval)


def batch_answers(sources: Sources) -> list[Answer]:
    """Return the answers about batch mode; none where it is not in use and has left nothing."""
    bucket = sources.storage.bucket(sources.settings.archive_bucket)
    pending = read(lambda: pending_loads(bucket, sources.settings.flush_timeout))
    runs: Read[Runs | None] = Read()
    if sources.local is None:
        runs = read(lambda: runs_of(Project.with_default_credentials(sources.settings)))
    return answers(datetime.now(UTC), runs, pending)


def answers(now: datetime, runs: Read[Runs | None], pending: Read[list[PendingLoad]]) -> list[Answer]:
    """Return the answers.

    Args:
        now: The time.
        runs: The runs of `drain`; neither a value nor a problem where that function does not exist.
        pending: What waits to be loaded.
    """
    is_deployed = bool(runs.value or runs.problem)
    if is_deployed:
        return [_runs(now, runs), _waits(now, runs.value.interval if runs.value else timedelta(), pending)]
    return [_waits(now, None, pending)] if pending.value else []


def _runs(now: datetime, runs: Read[Runs | None]) -> Answer:
    question = "Does batch mode run?"
    runbook = "docs/operate.md#the-drain-does-not-run"
    if runs.value is None:
        return Answer(question, "unknown", runs.problem, None, "Ask for the role `operators`.", "docs/access.md")
    newest, report, interval = runs.value
    todo = "Look at the schedule of the function `drain`."
    if newest is None:
        return Answer(question, "problem", "No run of `drain` within six hours.", None, todo, runbook)
    each = f"one comes each {interval.total_seconds() / 60:.0f} min" if interval else "it is the only one"
    if now - newest > max(4 * interval + timedelta(minutes=5), _LEAST_OVERDUE):
        text = f"A run is overdue: the last one ended at {newest:%H:%M} UTC, and {each}."
        return Answer(question, "problem", text, newest, todo, runbook)
    if errors := report.get("errors"):
        text, fails = f"The last run ended early: {errors[0]}", "docs/operate.md#the-drain-fails"
        return Answer(question, "problem", text, newest, "Look at the log of `drain`.", fails)
    return Answer(question, "ok", f"The last run took {report['messages']:,.0f} messages; {each}.", newest, "", runbook)


def _waits(now: datetime, interval: timedelta | None, pending: Read[list[PendingLoad]]) -> Answer:
    """Return what waits to be loaded.

    Args:
        now: The time.
        interval: Time between two runs, zero if it is not known; None if nobody runs `drain`.
        pending: What waits.
    """
    question = "What waits to be loaded?"
    runbook = "docs/operate.md#load-files-wait-too-long"
    if pending.value is None:
        return Answer(question, "unknown", pending.problem, None, "Ask for the role `operators`.", "docs/access.md")
    loads = pending.value
    if not loads:
        return Answer(question, "ok", "No load file waits.", None, "", runbook)
    oldest = min(loads, key=lambda load: load.oldest)
    age = max(now - oldest.oldest, timedelta())
    count = sum(len(load.files) for load in loads)
    text = f"{count:,} load files, the oldest of {oldest.table} for {age.total_seconds():,.0f} s"
    text += "".join(f"; {failure}" for failure in _failures(loads)) + "."
    if interval is None:
        todo, runbook = "`sluice drain --loads-only`", "docs/batch.md#switch-back"
        return Answer(question, "problem", f"{text} No function `drain` loads them.", oldest.oldest, todo, runbook)
    if any(load.failures for load in loads) or age > max(3 * interval, _LEAST_WAIT):
        return Answer(question, "problem", text, oldest.oldest, "`sluice sql failed_jobs` says why jobs fail.", runbook)
    return Answer(question, "ok", text, oldest.oldest, "", runbook)


def _failures(loads: Sequence[PendingLoad]) -> list[str]:
    """Return a clause for each table whose load jobs fail."""
    failures: dict[str, str] = {}
    for load in loads:
        if load.failures:
            again = f", the next comes after {load.paused_until:%H:%M} UTC" if load.paused_until else ""
            failures[load.table] = f"{load.failures} load jobs of {load.table} failed in a row{again}"
    return list(failures.values())
