"""The last events, and all that is known of one."""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from functions.archive.reader import ObjectNotFound, UnreadableObject
from functions.events import event_types
from sluice.console.page import NotThere
from sluice.console.sources import Sources
from sluice.dead_letters.payload_view import Marked, marked
from sluice.stored_events import EventFilter, StoredEvent, Verdict
from sluice.trace import Trace, trace

TEST_ID = "test_id"
"""Attribute of a message that names the test that it belongs to."""

_SCANNED = 2_000
"""Maximum number of events among which those of a test are searched."""


class EventsParameters(msgspec.Struct, frozen=True):
    """Filter of the list of events.

    Attributes:
        verdict: `good` for rows, `bad` for dead letters.
        type: Event type.
        text: Text in id, row, payload or error, in any case.
        test_id: Value of the message's attribute `test_id`. Of the last 2 000 events, those of this test are listed.
        since: First time of processing.
        before: Time of processing that all listed events precede.
        limit: Maximum number of events.
        days: Days before today that an event's own date may be; by default `Sources.days`.
    """

    verdict: Verdict | None = None
    type: str | None = None
    text: str | None = None
    test_id: str | None = None
    since: datetime | None = None
    before: datetime | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 50
    days: Annotated[int, Meta(ge=0, le=3650)] | None = None


class ListedEvent(msgspec.Struct, frozen=True):
    """An event in the list.

    Attributes:
        time: Time at which Sluice processed or rejected it.
        type: Event type; None if the payload of a dead letter states none.
        verdict: `good` for a row, `bad` for a dead letter.
        event_id: Id of the event.
        stage: Stage that rejected it.
        rule: Rule of its first error.
        path: Place of its first error.
        message: Message of its first error.
        lag: Milliseconds from its publication to `time`.
        payload: The original text; None if the archive does not have it any more.
        attributes: Attributes of the message.
    """

    time: datetime
    type: str | None
    verdict: Verdict
    event_id: str
    stage: str | None
    rule: str | None
    path: str | None
    message: str | None
    lag: int
    payload: str | None
    attributes: dict[str, str]


class EventList(msgspec.Struct, frozen=True):
    """The last events that a filter selects.

    Attributes:
        parameters: The filter.
        types: All event types.
        events: The events, the last first.
        before: `before` of the next page; None if this one is the last.
    """

    parameters: EventsParameters
    types: Sequence[str]
    events: Sequence[ListedEvent]
    before: datetime | None


def events(sources: Sources, parameters: EventsParameters) -> EventList:
    """Return the last events.

    Raises:
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    chosen = EventFilter(parameters.verdict, parameters.type, parameters.text, sources.days(parameters.days))
    maximum = parameters.limit if parameters.test_id is None else _SCANNED
    stored = sources.events.last(chosen, maximum, since=parameters.since, before=parameters.before, contents=False)
    listed = [_listed(sources, event) for event in stored]
    if parameters.test_id is not None:
        listed = [event for event in listed if event.attributes.get(TEST_ID) == parameters.test_id]
    before = stored[-1].time if len(stored) == maximum else None
    return EventList(parameters, sorted(event_types()), listed[: parameters.limit], before)


def _listed(sources: Sources, event: StoredEvent) -> ListedEvent:
    envelope = None
    with contextlib.suppress(ObjectNotFound, UnreadableObject):
        envelope = sources.envelope(event.archive_uri, event.message_id)
    message = envelope.message() if envelope else None
    return ListedEvent(
        time=event.time,
        type=event.type,
        verdict=event.verdict,
        event_id=event.event_id,
        stage=event.stage,
        rule=event.rule,
        path=event.path,
        message=event.message,
        lag=round((event.time - event.publish_time).total_seconds() * 1_000),
        payload=message.data.decode(errors="backslashreplace") if message else None,
        attributes=dict(message.attributes) if message else {},
    )


class EventParameters(msgspec.Struct, frozen=True):
    """Parameters of the page of an event.

    Attributes:
        id: Id of the event.
        wait: Whether the page waits for an event that is not there yet.
    """

    id: str
    wait: bool = False


class ArchivedMessage(msgspec.Struct, frozen=True):
    """A message of the event, as it is in the archive.

    Attributes:
        archive_uri: Its object.
        message_id: Pub/Sub's id.
        publish_time: Time at which Pub/Sub accepted it.
        attributes: Its attributes.
        text: The original bytes, as text.
        lines: Lines of the payload, each with the errors of a dead letter at this place.
    """

    archive_uri: str
    message_id: str
    publish_time: datetime
    attributes: dict[str, str]
    text: str
    lines: Sequence[Marked]


class TracedEvent(msgspec.Struct, frozen=True):
    """All records of an event.

    Attributes:
        trace: Its rows, dead letters, replays and archive objects.
        messages: Its messages in the archive.
        problems: Archive objects that cannot be read, and why.
    """

    trace: Trace
    messages: Sequence[ArchivedMessage]
    problems: Sequence[str]


def event(sources: Sources, parameters: EventParameters) -> TracedEvent:
    """Return all records of an event.

    Raises:
        NotThere: There is none.
        google.api_core.exceptions.GoogleAPIError: A service rejected a request or did not answer.
    """
    traced = trace(parameters.id, sources.bigquery, sources.storage, sources.settings)
    if not traced.is_found and not parameters.wait:
        raise NotThere("; ".join((f"no table has an event {parameters.id}", *traced.problems)))
    errors = {letter.message_id: letter.errors for letter in traced.dead_letters}
    messages = []
    for archived in traced.objects:
        for envelope in archived.envelopes:
            message = envelope.message()
            messages.append(
                ArchivedMessage(
                    archived.uri,
                    message.message_id,
                    message.publish_time,
                    dict(message.attributes),
                    message.data.decode(errors="backslashreplace"),
                    marked(message.data, errors.get(message.message_id, ())),
                )
            )
    problems = [f"{archived.uri}: {archived.problem}" for archived in traced.objects if archived.problem]
    return TracedEvent(traced, messages, problems)
