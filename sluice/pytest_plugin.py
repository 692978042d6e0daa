"""A plugin of pytest for tests of producers: does what they publish become rows?

The fixture `sluice` finds the local stack of `sluice up`. A test publishes, or lets the program under test publish to
`sluice.topic`, and then asks for the event:

    def test_order_is_accepted(sluice):
        shop.place_order("A-1")
        sluice.events.good("order", order_id="A-1")

If it was rejected, the test fails with the place, the rule and the reason. Everything goes through the console's API,
so that the plugin needs no other package.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from sluice.local import data_folder

SECONDS = 10.0
"""Seconds in which an event has to become a row or a dead letter."""

_PAUSE = 0.2
"""Seconds between two looks."""

_COLUMNS = 80
"""Columns of an explanation."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """An event that Sluice has processed.

    Attributes:
        type: Event type; None if the payload of a dead letter states none.
        event_id: Id of the event.
        payload: The event as it was published; text if it is no JSON.
        attributes: Attributes of its message.
        stage: Stage that rejected it; None of a row, as the next three.
        path: Place of its first error.
        rule: Rule of its first error.
        reason: Message of its first error.
        url: Page of the console that shows it.
    """

    type: str | None
    event_id: str
    payload: Any
    attributes: Mapping[str, str]
    stage: str | None
    path: str | None
    rule: str | None
    reason: str | None
    url: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Expected:
    """The event that a test expects."""

    verdict: str
    event_type: str | None
    fields: Mapping[str, object]
    error: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def differences(self, event: Event) -> dict[str, str]:
        """Return by name what an event has different."""
        payload = event.payload if isinstance(event.payload, dict) else {}
        actual = {name: (payload.get(name), value) for name, value in self.fields.items()}
        actual |= {name: (getattr(event, name), value) for name, value in self.error.items()}
        if self.event_type is not None:
            actual["event_type"] = event.type, self.event_type
        differences = {
            name: f"{name} is {value!r}, not {expected!r}"
            for name, (value, expected) in actual.items()
            if value != expected
        }
        is_good = event.stage is None
        if is_good != (self.verdict == "good"):
            reason = f"{event.stage}: {event.path}: {event.rule}: {event.reason}"
            differences["verdict"] = "it was accepted" if is_good else f"it was rejected: {reason}"
        return differences

    def __str__(self) -> str:
        values = [f"{name}={value!r}" for name, value in {**self.fields, **self.error}.items()]
        return " ".join([f"{self.verdict} event", *([self.event_type] if self.event_type else []), *values])


class Events:
    """The events that have been processed since the test began.

    Args:
        url: Address of the console.
        since: Beginning of the test.
    """

    def __init__(self, url: str, since: datetime) -> None:
        self._url = url
        self._since = since

    def good(
        self, event_type: str | None = None, *, test_id: str | None = None, timeout: float = SECONDS, **fields: object
    ) -> Event:
        """Return the row of an event; wait for it if it is not there yet. If it does not come, the test fails.

        Args:
            event_type: Event type.
            test_id: Value of the message's attribute `test_id`.
            timeout: Maximum seconds to wait.
            **fields: Fields of the payload with their values.
        """
        __tracebackhide__ = True
        return self._await(_Expected("good", event_type, fields), test_id, timeout)

    def bad(
        self,
        event_type: str | None = None,
        *,
        test_id: str | None = None,
        path: str | None = None,
        rule: str | None = None,
        timeout: float = SECONDS,
        **fields: object,
    ) -> Event:
        """Return the dead letter of an event; wait for it if it is not there yet. If it does not come, the test fails.

        Args:
            event_type: Type that the payload states.
            test_id: Value of the message's attribute `test_id`.
            path: Place of the first error.
            rule: Rule of the first error.
            timeout: Maximum seconds to wait.
            **fields: Fields of the payload with their values.
        """
        __tracebackhide__ = True
        error = {name: value for name, value in (("path", path), ("rule", rule)) if value is not None}
        return self._await(_Expected("bad", event_type, fields, error), test_id, timeout)

    def all(self, *, test_id: str | None = None) -> list[Event]:
        """Return the events that have been processed since the test began, at most 1 000, the last first.

        Args:
            test_id: Value of the message's attribute `test_id`; None for all.
        """
        query = {"since": self._since.isoformat(), "limit": "1000", **({"test_id": test_id} if test_id else {})}
        answer = _request(f"{self._url}/api/events?{urllib.parse.urlencode(query)}")
        return [_event(listed, self._url) for listed in answer["events"]]

    def _await(self, expected: _Expected, test_id: str | None, timeout: float) -> Event:
        __tracebackhide__ = True
        deadline = time.monotonic() + timeout
        while True:
            others = []
            for event in self.all(test_id=test_id):
                differences = expected.differences(event)
                if not differences:
                    return event
                others.append((event, differences))
            # An event that has the wrong verdict will not get the right one.
            is_decided = any(list(differences) == ["verdict"] for _, differences in others)
            if is_decided or time.monotonic() > deadline:
                pytest.fail(_explanation(expected, others, timeout), pytrace=False)
            time.sleep(_PAUSE)


def _event(listed: Mapping[str, Any], url: str) -> Event:
    try:
        payload = json.loads(listed["payload"])
    except (TypeError, ValueError):
        payload = listed["payload"]
    return Event(
        type=listed["type"],
        event_id=listed["event_id"],
        payload=payload,
        attributes=listed["attributes"],
        stage=listed["stage"],
        path=listed["path"],
        rule=listed["rule"],
        reason=listed["message"],
        url=f"{url}/event?{urllib.parse.urlencode({'id': listed['event_id']})}",
    )


def _explanation(expected: _Expected, others: Sequence[tuple[Event, Mapping[str, str]]], seconds: float) -> str:
    if not others:
        return f"no {expected}: nothing was processed within {seconds:g} s. Was it published to the stack's topic?"
    nearest = sorted(others, key=lambda other: (len(other[1]), "verdict" not in other[1]))[:5]
    lines = [f"no {expected}. Processed since the test began{', the nearest five' if len(others) > 5 else ''}:"]
    for event, differences in nearest:
        text = f"{event.type or '(no type)'} {event.event_id}: {'; '.join(differences.values())}"
        lines += [*_wrapped(text), f"    {event.url}"]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, _COLUMNS, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


class Sluice:
    """The local stack, for one test.

    Args:
        url: Address of its console.
        environment: Variables by which clients find it.

    Attributes:
        environment: Variables by which clients find it.
        topic: Full name of the topic to publish to.
        test_id: An id of the test.
        events: The events that have been processed since the test began.
    """

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._url = url
        self.environment = environment
        self.topic = environment["SLUICE_TOPIC"]
        self.test_id = str(uuid.uuid4())
        self.events = Events(url, datetime.now(UTC))

    def publish(self, event: object, **attributes: str) -> None:
        """Publish an event, with the attribute `test_id` and these."""
        message = {"event": event, "attributes": {"test_id": self.test_id, **attributes}}
        _request(f"{self._url}/api/events", "POST", message)

    def clear(self) -> None:
        """Delete all rows, dead letters and archive objects of the stack."""
        _request(f"{self._url}/api/events", "DELETE")


def _request(url: str, method: str = "GET", content: object = None) -> Any:  # noqa: ANN401 - the answer's JSON
    __tracebackhide__ = True
    data = None if content is None else json.dumps(content).encode()
    headers = {"content-type": "application/json", "x-sluice-client": "pytest"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the console's address
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
            return json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        pytest.fail(f"{method} {url}: {error.code}: {text}", pytrace=False)
    except OSError as error:
        pytest.fail(f"the console of the local stack does not answer at {url}: {error}", pytrace=False)


@pytest.fixture
def sluice() -> Sluice:
    """The local stack of `sluice up`, as the test's folder or SLUICE_DATA_DIR names it."""
    folder = data_folder.find()
    stack = folder.running()
    if stack is None:
        pytest.fail(f"no stack runs in {folder.path}: start `sluice up`", pytrace=False)
    url = next(process.address for process in stack.processes if process.name == "console")
    return Sluice(url, stack.environment)
