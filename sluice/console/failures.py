"""Failures: the dead letters by cause, one cause with its last events, and what a rule means."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from functions.core.dead_letters import Stage
from functions.events import event_types
from sluice.console.page import NoParameters, NotThere
from sluice.console.replays import ReplayRun, last_run
from sluice.console.sources import Sources
from sluice.dead_letters import payload_view
from sluice.dead_letters.lookup import (
    DeadLetterDetails,
    DeadLetterFilter,
    Group,
    LetterStatus,
    Scale,
    dead_letters_of,
    groups,
    last_letters,
    trends,
)
from sluice.dead_letters.rules import RULES, Rule, StageRules, rules_of

type Since = Literal["1h", "24h", "7d", "30d"]

_SINCE = {"1h": timedelta(hours=1), "24h": timedelta(1), "7d": timedelta(7), "30d": timedelta(30)}

_STEPS = 24
"""Number of steps of a trend."""

_SHORTEST_STEP = 10
"""Seconds of the shortest step."""

_EXAMPLES = 10
"""Maximum number of events of a cause that are listed."""

MAX_EDITED_BYTES = 200_000
"""Maximum size of a payload that the form to repair shows."""


class FailuresParameters(msgspec.Struct, frozen=True):
    """Filter of the causes.

    Attributes:
        type: Event type that the payload states.
        stage: Stage that rejected the event.
        since: Time until now in which it was rejected; None for all times.
        state: `open` for events without another record, which a replay may still load; `all` for all.
        offset: Number of causes before the first that is listed.
        limit: Maximum number of causes.
    """

    type: str | None = None
    stage: Stage | None = None
    since: Since | None = None
    state: Literal["open", "all"] = "open"
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100


class FailureGroup(msgspec.Struct, frozen=True):
    """The dead letters of one cause, and their trend.

    Attributes:
        group: The dead letters.
        trend: Number of events in each step.
    """

    group: Group
    trend: Sequence[int]


class FailureList(msgspec.Struct, frozen=True):
    """The causes that a filter selects, most open events first.

    Attributes:
        parameters: The filter.
        since: Earliest time of a rejection, if it is limited.
        types: All event types.
        stages: All stages.
        scale: Steps of the trends.
        groups: The causes that are listed.
        causes: Number of all causes.
        events: Number of events of all causes.
        open_events: Number of these that have no other record yet.
        next_offset: `offset` of the next page; None if this one is the last.
        replay: The replay that is running or was the last; None if no button has started one.
    """

    parameters: FailuresParameters
    since: datetime | None
    types: Sequence[str]
    stages: Sequence[Stage]
    scale: Scale
    groups: Sequence[FailureGroup]
    causes: int
    events: int
    open_events: int
    next_offset: int | None
    replay: ReplayRun | None


def failures(sources: Sources, parameters: FailuresParameters) -> FailureList:
    """Return the causes of dead letters.

    Raises:
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected a query or did not answer.
    """
    now = datetime.now(UTC)
    since = now - _SINCE[parameters.since] if parameters.since else None
    choice = DeadLetterFilter((), parameters.type, parameters.stage, since, only_open=parameters.state == "open")
    causes = groups(sources.bigquery, sources.settings, choice)
    end = parameters.offset + parameters.limit
    scale, listed = _with_trends(sources, choice, causes[parameters.offset : end], since, now)
    return FailureList(
        parameters,
        since,
        sorted(event_types()),
        list(Stage),
        scale,
        listed,
        causes=len(causes),
        events=sum(group.events for group in causes),
        open_events=sum(group.open_events for group in causes),
        next_offset=end if len(causes) > end else None,
        replay=run if (run := last_run(sources, NoParameters())).started else None,
    )


def _with_trends(
    sources: Sources, choice: DeadLetterFilter, causes: Sequence[Group], since: datetime | None, now: datetime
) -> tuple[Scale, list[FailureGroup]]:
    scale = scale_until(now, since or min((group.first_seen_at for group in causes), default=now))
    numbers = trends(sources.bigquery, sources.settings, choice, scale) if causes else {}
    nothing = [0] * scale.steps
    return scale, [FailureGroup(group, numbers.get((group.fingerprint, group.stage), nothing)) for group in causes]


def scale_until(now: datetime, first: datetime) -> Scale:
    """Return the steps of a trend from a time until now, each a whole number of seconds long."""
    seconds = max(_SHORTEST_STEP, math.ceil((now - first).total_seconds() / _STEPS))
    return Scale(now - timedelta(seconds=seconds * _STEPS), seconds, _STEPS)


class FailureParameters(msgspec.Struct, frozen=True):
    """Parameters of the page of a cause.

    Attributes:
        fingerprint: Its fingerprint.
        event_id: Event that is the example; None for the last one.
    """

    fingerprint: str
    event_id: str | None = None


class Example(msgspec.Struct, frozen=True):
    """A dead letter of a cause with its payload.

    Attributes:
        event_id: Id of the event.
        message_id: Pub/Sub's id of the message.
        failed_at: Time of the rejection.
        is_open: Whether the event has no other record yet.
        code_version: Code that rejected it.
        attributes: Attributes of the message.
        payload_bytes: Size of the payload.
        errors: Its errors: path, rule and message of each.
        lines: Lines of the payload, each with the errors at this place.
        text: The payload as text to edit; None if it is too large or no text.
        problem: Reason why the payload cannot be read.
    """

    event_id: str
    message_id: str
    failed_at: datetime
    is_open: bool
    code_version: str
    attributes: Mapping[str, str]
    payload_bytes: int
    errors: Sequence[Mapping[str, str]]
    lines: Sequence[payload_view.Marked]
    text: str | None
    problem: str | None


class Failure(msgspec.Struct, frozen=True):
    """The dead letters of a cause.

    Attributes:
        group: The dead letters.
        trend: Number of events in each step.
        scale: Steps of the trend.
        letters: The last events.
        example: One of them with its payload; None if it was erased meanwhile.
        rules: Meaning of the stage.
        rule: Meaning of the rule; None if its name is all that there is to say.
    """

    group: Group
    trend: Sequence[int]
    scale: Scale
    letters: Sequence[LetterStatus]
    example: Example | None
    rules: StageRules
    rule: Rule | None


def failure(sources: Sources, parameters: FailureParameters) -> Failure:
    """Return the dead letters of a cause.

    Raises:
        NotThere: There are none, or the event is none of them.
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    choice = DeadLetterFilter((parameters.fingerprint,), only_open=False)
    with ThreadPoolExecutor(1) as executor:
        reading = executor.submit(_letters, sources, choice, parameters.event_id)
        causes = groups(sources.bigquery, sources.settings, choice)
        if not causes:
            raise NotThere(f"no dead letter has the fingerprint {parameters.fingerprint}")
        scale, [shown, *_] = _with_trends(sources, choice, causes, None, datetime.now(UTC))
    letters, example = reading.result()
    rules = rules_of(shown.group.stage)
    return Failure(shown.group, shown.trend, scale, letters, example, rules, rules.find(shown.group.rule or ""))


def _letters(
    sources: Sources, choice: DeadLetterFilter, event_id: str | None
) -> tuple[Sequence[LetterStatus], Example | None]:
    """Return the last events of a cause, and the example."""
    letters = last_letters(sources.bigquery, sources.settings, choice, _EXAMPLES)
    chosen = [letter for letter in letters if event_id in {None, letter.event_id}]
    if event_id and not chosen:
        of_event = dataclasses.replace(choice, event_id=event_id)
        chosen = last_letters(sources.bigquery, sources.settings, of_event, maximum=1)
        if not chosen:
            raise NotThere(f"the event {event_id} has no dead letter of this cause")
    return letters, _example(sources, chosen[0]) if chosen else None


def _example(sources: Sources, chosen: LetterStatus) -> Example | None:
    details = dead_letters_of(chosen.event_id, sources.bigquery, sources.storage, sources.settings)
    key = chosen.message_id, chosen.failed_at
    return next((_as_example(of) for of in details if (of.record["message_id"], of.record["failed_at"]) == key), None)


def _as_example(letter: DeadLetterDetails) -> Example:
    record, message = letter.record, letter.message
    return Example(
        event_id=record["event_id"],
        message_id=record["message_id"],
        failed_at=record["failed_at"],
        is_open=letter.is_open,
        code_version=record["code_version"],
        attributes=msgspec.json.decode(record["attributes"] or "{}"),
        payload_bytes=record["payload_bytes"],
        errors=record["errors"],
        lines=payload_view.marked(message.data, record["errors"]) if message else (),
        text=payload_view.editable(message.data) if message and len(message.data) <= MAX_EDITED_BYTES else None,
        problem=letter.problem,
    )


class RuleParameters(msgspec.Struct, frozen=True):
    """Parameters of the page of a rule.

    Attributes:
        name: Its name, as the errors of dead letters have it; None for all rules.
        stage: Stage that has it; None for all stages.
    """

    name: str | None = None
    stage: Stage | None = None


class RuleOfStage(msgspec.Struct, frozen=True):
    """A rule, or all rules, of a stage.

    Attributes:
        stage: The stage, and what its rejections mean.
        rules: The rules.
    """

    stage: StageRules
    rules: Sequence[Rule]


class RuleHelp(msgspec.Struct, frozen=True):
    """Meaning of a rule, and the causes that have it.

    Attributes:
        name: Name of the rule; None for all.
        stages: Its meanings by stage.
        groups: The open causes with this rule.
    """

    name: str | None
    stages: Sequence[RuleOfStage]
    groups: Sequence[Group]


def rule(sources: Sources, parameters: RuleParameters) -> RuleHelp:
    """Return what a rule means.

    Raises:
        NotThere: No stage has it.
        google.api_core.exceptions.GoogleAPIError: BigQuery rejected the query or did not answer.
    """
    name, stages = parameters.name, [rules_of(parameters.stage)] if parameters.stage else RULES
    if name is None:
        return RuleHelp(None, [RuleOfStage(rules, rules.rules) for rules in stages], ())
    meanings = [(rules, rules.find(name)) for rules in stages]
    listed = [RuleOfStage(rules, [rule]) for rules, rule in meanings if rule and rule.names]
    # Other names are exceptions, reasons of BigQuery, or keywords of JSON Schema.
    listed = listed or [RuleOfStage(rules, [rule] if rule else []) for rules, rule in meanings if rule or rules.note]
    if not listed:
        raise NotThere(
            f"the stage {parameters.stage} has no rule {name}: its rules are at /rule?stage={parameters.stage}"
        )
    causes = groups(sources.bigquery, sources.settings, DeadLetterFilter(stage=parameters.stage))
    return RuleHelp(name, listed, [group for group in causes if group.rule == name])
