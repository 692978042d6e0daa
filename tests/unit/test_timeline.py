"""The stories of `sluice.shop.timeline` happen when they say: no event is ahead of the clock, or too old for a row."""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.rows import Row
from functions.settings import Settings
from sluice.cli import app
from sluice.publish import Publication
from sluice.shop.generator import Generated, Scenario
from sluice.shop.timeline import history_until, live
from sluice.smoke import oldest_midnight

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY = timedelta(days=1)
STATUSES = ["pending", "processing", "shipped", "delivered"]

type Decide = Callable[[Message, datetime], object]

stories = st.builds(
    Scenario,
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 10**9) | st.integers(1_000, 10_000),
)


def process(retention_days: int = 90) -> Decide:
    return EventPipeline.from_settings(Settings(archive_bucket="archive", retention_days=retention_days))


PROCESS = process()


def is_row(message: Generated | Publication, now: datetime, by: Decide = PROCESS) -> bool:
    return isinstance(by(Message(message.data, dict(message.attributes), "message", now), now), Row)


def good(messages: Iterable[Generated]) -> Iterator[dict[str, Any]]:
    return (json.loads(message.data) for message in messages if message.kind == "good")


def time_of(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event.get("order_date") or event["timestamp"])


def assert_states_are_in_order(messages: Sequence[Generated]) -> None:
    times = [time_of(event) for event in good(messages)]
    assert times == sorted(times)
    states: defaultdict[str, list[str]] = defaultdict(list)
    for event in good(messages):
        if event["event_type"] == "order":
            states[event["order_id"]].append(event["status"])
    assert all(statuses == STATUSES[: len(statuses)] for statuses in states.values())


@settings(max_examples=30, deadline=None)
@given(stories, st.integers(1, 1_000), st.timedeltas(-5_000 * DAY, 50_000 * DAY), st.integers(1, 1_825))
@example(Scenario(1), 8_000, timedelta(), 90)
@example(Scenario(1), 8_000, timedelta(hours=-12, seconds=1), 2)
@example(Scenario(1), 100, timedelta(hours=11, minutes=59), 1)
def test_a_story_ends_now_and_is_not_older_than_the_retention(
    scenario: Scenario, count: int, later: timedelta, retention_days: int
) -> None:
    now = NOW + later
    earliest = min(oldest_midnight(now, retention_days), now)
    messages = list(history_until(scenario, count, now, earliest))
    assert len(messages) == count
    assert_states_are_in_order(messages)
    by = process(retention_days)
    for message in messages:
        assert is_row(message, now, by) == (message.kind != "bad"), message
    times = [time_of(event) for event in good(messages)]
    assert all(earliest - MILLISECOND < time <= now for time in times)
    if not scenario.bad_share and not scenario.duplicate_share:
        assert now - times[-1] < MILLISECOND


def test_history_is_reproducible_and_later_ones_have_other_ids() -> None:
    def events_until(end: datetime) -> list[Generated]:
        return list(history_until(Scenario(1, 0.2, 0.1), 500, end, NOW - 30 * DAY))

    assert events_until(NOW) == events_until(NOW)
    later = events_until(NOW + MILLISECOND)
    assert ids(events_until(NOW)).isdisjoint(ids(later))
    for field in ("order_id", "inventory_id"):
        first, second = ({event.get(field) for event in good(of)} - {None} for of in (events_until(NOW), later))
        assert first
        assert first.isdisjoint(second)


def ids(messages: Iterable[Generated]) -> set[str]:
    return {message.attributes["event_id"] for message in messages}


def test_the_shop_is_busy_in_the_hours_that_it_says() -> None:
    logins = Counter(
        time_of(event).hour for event in good(history_until(Scenario(2), 30_000, NOW)) if "login" in event.values()
    )
    assert sum(logins[hour] for hour in range(18, 21)) > 3 * sum(logins[hour] for hour in range(1, 4))


class Clock:
    """A clock that shows a later time at each look."""

    def __init__(self, tick: timedelta) -> None:
        self.now = NOW
        self._tick = tick

    def __call__(self) -> datetime:
        self.now += self._tick
        return self.now


@settings(max_examples=15, deadline=None)
@given(stories, st.floats(0.000_1, 100))
def test_a_live_story_is_never_ahead_of_the_clock(scenario: Scenario, tick: float) -> None:
    clock = Clock(timedelta(seconds=tick))
    messages = []
    for message in itertools.islice(live(scenario, clock), 1_500):
        messages.append(message)
        assert is_row(message, clock.now) == (message.kind != "bad"), message
        if message.kind == "good":
            assert time_of(json.loads(message.data)) <= clock.now
    assert_states_are_in_order(messages)


class Sent(list[Publication]):
    """Messages that a command publishes: each must become a row at the time at which it is sent."""

    def __call__(self, messages: Iterable[Publication], *_: object, **__: object) -> None:
        for message in messages:
            now = datetime.now(UTC)
            assert is_row(message, now)
            assert time_of(json.loads(message.data)) <= now
            self.append(message)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    sent = Sent()
    monkeypatch.setattr("sluice.publish.publish", sent)
    monkeypatch.setenv("SLUICE_TOPIC", "projects/shop/topics/events")
    return sent


def sluice(*arguments: str, stdin: bytes | None = None) -> bytes:
    result = CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


@pytest.mark.parametrize("options", [[], ["--rate", "0.1"], ["--rate", "1000"], ["--seed", "5"]])
@pytest.mark.parametrize("limit", [1, 300, 8_000])
def test_generated_events_can_be_published(sent: Sent, limit: int, options: list[str]) -> None:
    sluice("publish", "-", stdin=sluice("generate", "--stdout", "--limit", f"{limit}", *options))
    assert len(sent) == limit
    newest = max(time_of(json.loads(message.data)) for message in sent)
    assert datetime.now(UTC) - newest < timedelta(minutes=10), "a scenario ends now"


def test_more_happens_in_a_day_where_the_retention_is_short(monkeypatch: pytest.MonkeyPatch, sent: Sent) -> None:
    monkeypatch.setenv("RETENTION_DAYS", "2")
    earliest = oldest_midnight(datetime.now(UTC), 2)
    result = CliRunner().invoke(app, ["generate", "--stdout", "--limit", "10000"])
    assert "events per day instead of 3000: RETENTION_DAYS is 2." in result.stderr
    sluice("publish", "-", stdin=result.stdout_bytes)
    assert min(time_of(json.loads(message.data)) for message in sent) >= earliest - MILLISECOND


def test_a_second_run_publishes_other_events(sent: Sent) -> None:
    for _ in range(2):
        sluice("generate", "--limit", "200", "--rate", "1000")
    event_ids = {message.attributes["event_id"] for message in sent}
    assert len(event_ids) == len(sent) == 400


def test_without_a_limit_events_are_written_as_they_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[float] = []

    def sent_at_once(items: Iterable[Generated], rate: float) -> Iterator[Generated]:
        paces.append(rate)
        return itertools.islice(items, 30)

    monkeypatch.setattr("sluice.publish.paced", sent_at_once)
    lines = sluice("generate", "--stdout", "--rate", "7").splitlines()
    assert (len(lines), paces) == (30, [7.0])
    assert all(datetime.now(UTC) - time_of(json.loads(line)) < timedelta(minutes=10) for line in lines)
