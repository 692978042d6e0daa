"""The alerts of `terraform/monitoring/`, as far as what the console knows can say whether they would ring."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from sluice.package import ROOT

type State = Literal["ok", "rings", "unknown"]

FOLDER = ROOT / "terraform"

_DEFAULT = re.compile(r"^ +(\w+) += optional\(number, ([\d.]+)\)$", re.MULTILINE)
_ALERT = re.compile(r"^(\w+):\n((?:  .*\n|\n)+)", re.MULTILINE)
_FIELD = re.compile(r"^  (\w+): (?:>-\n((?:    .*\n)+)|(.*)\n)", re.MULTILINE)
_NAME = re.compile(r"\$\{(\w+)\}")

_OBJECTIVE = "Cloud Monitoring computes it from log lines and responses; the live page shows the lag of the rows."
_RUNS = "It counts runs of scheduled jobs, which no table has."


class Definition(msgspec.Struct, frozen=True):
    """An alert of the engine `functions`, as Terraform defines it.

    Attributes:
        key: Its key in `alerts.yaml`.
        title: Its title, which is that of its section in `docs/operate.md`.
        severity: Its severity.
        means: What it means, with the default thresholds.
        for_seconds: Seconds for which its condition must hold.
    """

    key: str
    title: str
    severity: str
    means: str
    for_seconds: int

    @property
    def runbook(self) -> str:
        """The section of the documentation that says what to do."""
        return f"docs/operate.md#{self.title.lower().replace(' ', '-')}"


class Alert(msgspec.Struct, frozen=True):
    """Whether an alert would ring now.

    Attributes:
        definition: The alert.
        state: Whether it would ring; `unknown` if it cannot be known here.
        reason: The value that decides, with its threshold; or why it cannot be known.
        runbook: The section of the documentation that says what to do.
    """

    definition: Definition
    state: State
    reason: str
    runbook: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """Values that decide whether an alert rings. None stands for a value that the console does not know.

    Attributes:
        now: The time.
        started: The start of the local stack.
        oldest: Age of the oldest unacknowledged message.
        undelivered: Number of messages that Pub/Sub does not deliver any more.
        accepted: Rows of the last hour.
        rejected: Dead letters of the last hour.
        newest: End of the five minutes with the newest row or dead letter of the last day.
        compared: Time of arrival up to which all is compared.
        missing: Events that comparisons of the last two hours did not find, and objects that they could not read.
        conflicts: Event ids with several contents in these comparisons.
        billed_bytes: Bytes that BigQuery billed for queries of the last day.
        events_of_day: Rows and dead letters of the last day.
    """

    now: datetime
    started: datetime | None = None
    oldest: timedelta | None = None
    undelivered: int | None = None
    accepted: int | None = None
    rejected: int | None = None
    newest: datetime | None = None
    compared: datetime | None = None
    missing: int | None = None
    conflicts: int | None = None
    billed_bytes: int | None = None
    events_of_day: int = 0


@functools.cache
def thresholds(folder: pathlib.Path = FOLDER) -> Mapping[str, float]:
    """Return the defaults of the variables `alert_thresholds` and `objectives`.

    Raises:
        OSError: The file is not there.
    """
    text = (folder / "variables-monitoring.tf").read_text(encoding="utf-8")
    return {name: float(value) for name, value in _DEFAULT.findall(text)}


@functools.cache
def definitions(folder: pathlib.Path = FOLDER) -> Sequence[Definition]:
    """Return the alerts that watch the functions, in the order of their file.

    The file is a template of YAML. What is read here is a small part of it, for which no parser has to be installed.

    Raises:
        OSError: A file is not there.
    """
    values = thresholds(folder)
    text = (folder / "monitoring" / "alerts.yaml").read_text(encoding="utf-8")
    text = _NAME.sub(lambda name: f"{values[name[1]]:g}" if name[1] in values else name[0], text)
    alerts = []
    for key, body in _ALERT.findall(text):
        fields = {name: " ".join((block or line).split()) for name, block, line in _FIELD.findall(body)}
        if "functions" in fields.get("engine", "functions"):
            seconds = int(fields.get("for", "0s").removesuffix("s"))
            alerts.append(Definition(key, fields["title"], fields["severity"], fields["means"], seconds))
    return alerts


def alerts(facts: Facts) -> list[Alert]:
    """Return which alerts would ring with the default thresholds.

    Raises:
        OSError: The definitions are not there.
    """
    limits = thresholds()
    answers = []
    for definition in definitions():
        state, reason = _RULES.get(definition.key, _unknown(_RUNS))(facts, limits, definition)
        answers.append(Alert(definition, state, reason, definition.runbook))
    return answers


type _Rule = Callable[[Facts, Mapping[str, float], Definition], tuple[State, str]]


def _unknown(reason: str) -> _Rule:
    return lambda _facts, _limits, _definition: ("unknown", reason)


def _above(value: float | None, limit: float, text: str, missing: str) -> tuple[State, str]:
    if value is None:
        return "unknown", missing
    return "rings" if value > limit else "ok", text


def _oldest_message(facts: Facts, limits: Mapping[str, float], _: Definition) -> tuple[State, str]:
    limit = limits["oldest_message_seconds"]
    seconds = facts.oldest.total_seconds() if facts.oldest is not None else None
    return _above(seconds, limit, f"{seconds or 0:,.0f} s; it rings above {limit:g} s", "The age is not known.")


def _undeliverable(facts: Facts, _: Mapping[str, float], __: Definition) -> tuple[State, str]:
    if facts.started:
        return "unknown", "The local stack does not count them."
    count = facts.undelivered
    return _above(count, 0, f"{count or 0:,} messages; it rings above 0", "The number is not known.")


def _dead_letter_rate(facts: Facts, limits: Mapping[str, float], _: Definition) -> tuple[State, str]:
    if facts.accepted is None or facts.rejected is None:
        return "unknown", "The tables cannot be read."
    events = facts.accepted + facts.rejected
    share = facts.rejected / events if events else 0.0
    minimum, limit = limits["dead_letter_minimum"], limits["dead_letter_share"]
    rings = share > limit and facts.rejected >= minimum
    text = f"{facts.rejected:,} of {events:,} events of the last hour, {share:.1%}"
    return "rings" if rings else "ok", f"{text}; it rings above {limit:.0%} if they are at least {minimum:g}"


def _no_events(facts: Facts, limits: Mapping[str, float], _: Definition) -> tuple[State, str]:
    if facts.accepted is None:
        return "unknown", "The tables cannot be read."
    window = timedelta(minutes=limits["no_events_minutes"])
    since = max((time for time in (facts.newest, facts.started) if time), default=None)
    rings = since is None or facts.now - since > window
    last = f"the last event before {facts.newest:%Y-%m-%d %H:%M} UTC" if facts.newest else "none in the last day"
    return "rings" if rings else "ok", f"{last}; it rings {limits['no_events_minutes']:g} minutes after it"


def _missing(facts: Facts, _: Mapping[str, float], __: Definition) -> tuple[State, str]:
    count = facts.missing
    text = f"{count or 0:,} in the comparisons of the last two hours; it rings above 0"
    return _above(count, 0, text, "Nothing was compared in the last two hours.")


def _conflicts(facts: Facts, _: Mapping[str, float], __: Definition) -> tuple[State, str]:
    count = facts.conflicts
    text = f"{count or 0:,} in the comparisons of the last two hours; it rings above 0"
    return _above(count, 0, text, "Nothing was compared in the last two hours.")


def _no_reconciliation(facts: Facts, limits: Mapping[str, float], definition: Definition) -> tuple[State, str]:
    if facts.started:
        return "unknown", "On the local stack nobody schedules it."
    if facts.compared is None:
        return "unknown", "No checkpoint could be read."
    # A run compares what has arrived until an hour before.
    window = timedelta(minutes=limits["no_reconciliation_minutes"], seconds=definition.for_seconds) + timedelta(hours=1)
    rings = facts.now - facts.compared > window
    hours = window.total_seconds() / 3600
    return "rings" if rings else "ok", f"until {facts.compared:%Y-%m-%d %H:%M} UTC; it rings {hours:g} hours after it"


def _cost(facts: Facts, limits: Mapping[str, float], _: Definition) -> tuple[State, str]:
    if facts.started:
        return "unknown", "Queries of the local stack cost nothing."
    if facts.billed_bytes is None:
        return "unknown", "The jobs of the project were not read."
    own = limits["own_query_bytes"] * facts.events_of_day
    gib, limit = (facts.billed_bytes - own) / 2**30, limits["billed_gib_in_day"]
    return _above(gib, limit, f"{max(gib, 0):,.1f} GiB besides Sluice's own; it rings above {limit:g} GiB", "")


_RULES: Mapping[str, _Rule] = {
    "oldest_message": _oldest_message,
    "undeliverable": _undeliverable,
    "dead_letter_rate": _dead_letter_rate,
    "no_events": _no_events,
    "missing": _missing,
    "conflicting_event_ids": _conflicts,
    "no_reconciliation": _no_reconciliation,
    "cost": _cost,
    "server_errors": _unknown(_OBJECTIVE),
    "server_errors_slow": _unknown(_OBJECTIVE),
    "lag": _unknown(_OBJECTIVE),
    "lag_slow": _unknown(_OBJECTIVE),
}
