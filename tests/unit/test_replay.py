"""The pure parts of a replay: transforms, times, undeliverable messages, and the backfill's reports."""

import json
import pathlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import typer
from google.api_core.exceptions import Forbidden
from google.pubsub_v1.types import PubsubMessage

from functions.archive.envelope import Envelope
from functions.core.message import Message
from functions.files.sources import Line, Unreadable
from sluice.backfill.events import EventReader
from sluice.backfill.run import Backfill, Fate, Settled, call_in_order
from sluice.commands.options import parse_time
from sluice.dead_letters.lookup import DeadLetterFilter, message_of
from sluice.replay.archived import OfType
from sluice.replay.ledger import Cause, Origin
from sluice.replay.letters import Letter, Tally
from sluice.replay.transform import NoTransform, Transform
from sluice.replay.undeliverable import PUBLISHED, original
from tests.support import samples
from tests.support.settings import settings
from tests.support.waiting import PATIENCE

NOW = samples.NOW
read = EventReader.from_settings(settings(), NOW)


def transform(folder: pathlib.Path, text: str) -> Transform:
    file = folder / "repair.py"
    file.write_text(text)
    return Transform.load(file)


def test_a_transform_has_the_name_and_the_digest_of_its_file(tmp_path: pathlib.Path) -> None:
    first = transform(tmp_path, "def transform(payload, attributes):\n    return payload + b'x'\n")
    assert first(b"a", {}, "e") == b"ax"
    second = transform(tmp_path, "def transform(payload, attributes):\n    return None\n")
    assert second(b"a", {}, "e") is None
    assert first.name != second.name
    assert first.name.startswith("repair.py:")


def test_a_transform_cannot_change_the_attributes(tmp_path: pathlib.Path) -> None:
    attributes = {"event_id": "e"}
    transform(tmp_path, "def transform(payload, attributes):\n    attributes.clear()\n")(b"", attributes, "e")
    assert attributes == {"event_id": "e"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no function transform"),
        ("transform = 1", "has no function transform"),
        ("import nothing_of_this_name", "repair.py:1: ModuleNotFoundError"),
        ("\ndef transform(payload\n", "repair.py:2: SyntaxError"),
        ("\n\nraise ValueError('x')", "repair.py:3: ValueError: x"),
    ],
)
def test_a_file_that_is_no_transform_says_why(tmp_path: pathlib.Path, text: str, why: str) -> None:
    with pytest.raises(NoTransform, match=why):
        transform(tmp_path, text)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("raise KeyError('x')", r"repair\.py:2, event e-7: KeyError: 'x'"),
        ("import json; json.loads('{')", r"repair\.py:2, event e-7: JSONDecodeError"),
        ("return 'text'", r"repair\.py, event e-7: transform returned str, not bytes or None"),
    ],
)
def test_a_transform_that_fails_names_its_line_and_the_event(tmp_path: pathlib.Path, body: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        transform(tmp_path, f"def transform(payload, attributes):\n    {body}\n")(b"", {}, "e-7")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T20:15:00", datetime(2026, 11, 23, 20, 15, tzinfo=UTC)),
        ("2026-11-23T20:15:00+01:00", datetime(2026, 11, 23, 19, 15, tzinfo=UTC)),
    ],
)
def test_a_time_is_in_utc_unless_it_says_otherwise(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    ("text", "ago"), [("90m", timedelta(minutes=90)), ("24h", timedelta(days=1)), ("7d", timedelta(days=7))]
)
def test_a_time_may_be_how_long_ago(text: str, ago: timedelta) -> None:
    assert abs(datetime.now(UTC) - ago - parse_time(text)) < timedelta(seconds=PATIENCE)


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7w", "-1d", "999999d"])
def test_invalid_time_is_rejected(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_time(text)


PUBLISH_TIME = datetime(2026, 11, 20, 8, 0, 0, 123000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ("2026-11-01T10:00:00.226Z", datetime(2026, 11, 1, 10, 0, 0, 226000, tzinfo=UTC)),
        ("2026-11-01T12:00:00.226+02:00", datetime(2026, 11, 1, 10, 0, 0, 226000, tzinfo=UTC)),
        ("2026-11-01T10:00:00", PUBLISH_TIME),
        ("some time", PUBLISH_TIME),
        (None, PUBLISH_TIME),
    ],
)
def test_undeliverable_message_has_its_first_publish_time(published: str | None, expected: datetime) -> None:
    attributes = {"event_id": "e"} | ({PUBLISHED: published} if published else {})
    restored = original(
        PubsubMessage(data=b"\xff", attributes=attributes, message_id="9", publish_time=PUBLISH_TIME, ordering_key="k")
    )
    assert restored == Message(b"\xff", attributes, "9", expected, ordering_key="k")
    sealed = msgspec.json.encode(Envelope.from_message(restored, None))
    assert msgspec.json.decode(sealed, type=Envelope).message() == restored


def test_without_an_event_id_the_message_is_the_identity() -> None:
    assert original(PubsubMessage(data=b"x", message_id="9", publish_time=PUBLISH_TIME)).event_id == "9"


class Given:
    """Lines as a source."""

    def __init__(self, *data: bytes, origins: tuple[object, ...] = ()) -> None:
        self._data = data
        self._origins = origins or (None,) * len(data)

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        for number, (data, origin) in enumerate(zip(self._data, self._origins, strict=True), start=1):
            advance(1)
            yield Line("given", number, data, origin)


def sealed(event_id: str, payload: bytes, event_type: str | None = None, **attributes: str) -> bytes:
    message = Message(payload, {"event_id": event_id, **attributes}, f"m-{event_id[:9]}", NOW)
    return msgspec.json.encode(Envelope.from_message(message, event_type))


def test_event_type_of_the_envelope_selects_the_lines() -> None:
    data = [sealed("a", b"{}", "order"), sealed("b", b"{}", "inventory"), sealed("c", b"{}"), b"\xff", b"[]", b"1"]
    of_type = OfType(Given(*data), "order").lines(lambda _: None)
    assert [line.data for line in of_type] == data[:1]


def order(**changes: Any) -> bytes:
    return json.dumps(samples.event("order", **changes)).encode()


def run_of(*sources: Given, fails: bool = False) -> tuple[Backfill, list[Settled]]:
    """Return a dry run, and the outcomes that its listener receives."""
    heard: list[Settled] = []

    def listen(settled: Any) -> None:
        if fails:
            raise Forbidden("no")  # type: ignore[no-untyped-call]
        heard.extend(settled)

    run = Backfill(read, None, None, listen)
    run(sources)
    return run, heard


def test_listener_gets_each_line_once_and_repetitions_last() -> None:
    run, heard = run_of(Given(sealed("a", order()), sealed("a", order()), sealed("b", b"bad")))
    assert sorted((settled.event.line.number, settled.fate.name) for settled in heard) == [
        (1, "LOADED"),
        (2, "REPEATED"),
        (3, "LOADED"),
    ]
    assert heard[-1].fate is Fate.REPEATED
    assert run.report.unfinished == 0


RUN = f"smoke-{'0' * 32}"
SMOKE = sealed(f"{RUN}-order", order(), sluice_smoke_test=RUN)


def test_event_of_the_smoke_test_is_not_loaded_and_reported_last() -> None:
    older = msgspec.json.decode(SMOKE) | {"attributes": {"event_id": f"{RUN}-order"}}
    run, heard = run_of(Given(SMOKE, json.dumps(older).encode(), sealed("a", order())))
    assert [settled.fate.name for settled in heard] == ["LOADED", "SMOKE_TEST", "SMOKE_TEST"]
    report = run.report
    assert (report.lines, report.smoke_tests, report.rows.total(), report.unfinished) == (3, 2, 1, 0)


def test_smoke_test_id_of_a_producer_is_a_dead_letter() -> None:
    run, _ = run_of(Given(sealed(f"{RUN}-order", order()), json.dumps({"event_id": f"{RUN}-order"}).encode()))
    assert (run.report.smoke_tests, run.report.dead_letters) == (0, {"decode": 1, "contract": 1})


def test_failed_listener_is_a_failure_and_gets_no_repetitions() -> None:
    run, heard = run_of(Given(sealed("a", order()), sealed("a", order())), fails=True)
    assert (heard, run.report.unfinished, run.report.repeated) == ([], 1, 1)
    [failure] = run.report.failures
    assert str(failure).startswith("dev_events_dataset.orders, from given line 1")


def test_failed_listener_stops_the_following_ones() -> None:
    heard: list[str] = []

    def reject(_: object) -> None:
        raise Forbidden("no")  # type: ignore[no-untyped-call]

    with pytest.raises(Forbidden):
        call_in_order([lambda _: heard.append("first"), reject, lambda _: heard.append("third")])([])
    assert heard == ["first"]


def test_lines_come_at_a_rate() -> None:
    times: list[datetime] = []
    run = Backfill(read, None, None, lambda _: times.append(datetime.now(UTC)), rate=20)
    started = datetime.now(UTC)
    run([Given(*(sealed(f"{number}", order()) for number in range(11)))])
    assert times[-1] - started >= timedelta(seconds=0.5)


def record(event_id: str = "e", payload: bytes | None = None, **changes: Any) -> dict[str, Any]:
    data = order(status="lost") if payload is None else payload
    columns = {
        "event_id": event_id,
        "message_id": f"m-{event_id}",
        "publish_time": NOW,
        "payload": data,
        "payload_bytes": len(data),
        "attributes": json.dumps({"event_id": event_id}),
        "archive_uri": "gs://archive/raw/dt=2026-11-23/hr=12/x",
        "own_fingerprint": "f",
        **Cause("f", "contract", "order", "$.status", "enum")._asdict(),
    }
    return columns | changes


def line_of(record: dict[str, Any], repair: Transform | None, tally: Tally) -> list[Line]:
    return list(Letter(record, 1, None, repair, tally).lines(lambda _: None))


def test_only_unchanged_dead_letters_name_their_archive_object(tmp_path: pathlib.Path) -> None:
    tally = Tally()
    [plain] = line_of(record(), None, tally)
    assert read(plain).archive_uri == "gs://archive/raw/dt=2026-11-23/hr=12/x"
    assert read(plain).outcome.message == Message(order(status="lost"), {"event_id": "e"}, "m-e", NOW)
    repair = transform(
        tmp_path, "def transform(payload, attributes):\n    return payload.replace(b'lost', b'pending')\n"
    )
    [repaired] = line_of(record(), repair, tally)
    event = read(repaired)
    assert (event.archive_uri, event.identity.event_id, event.table) == (None, "e", "dev_events_dataset.orders")
    assert event.outcome.message.attributes == {"event_id": "e", "sluice_transform": repair.name}
    assert isinstance(repaired.origin, Origin)
    assert repaired.origin.transform == repair.name
    [change] = tally.changes
    assert (change.before, change.after) == (order(status="lost"), order(status="pending"))


@pytest.mark.parametrize(("gives", "lines", "left_alone"), [("payload", 1, 0), ("None", 0, 1)])
def test_a_transform_may_change_nothing_or_leave_an_event_alone(
    tmp_path: pathlib.Path, gives: str, lines: int, left_alone: int
) -> None:
    tally = Tally()
    lines_of_record = line_of(
        record(), transform(tmp_path, f"def transform(payload, attributes):\n    return {gives}\n"), tally
    )
    assert (len(lines_of_record), tally.count("left_alone"), tally.count("events"), tally.changes) == (
        lines,
        left_alone,
        1,
        [],
    )
    assert [read(line).archive_uri for line in lines_of_record] == ["gs://archive/raw/dt=2026-11-23/hr=12/x"] * lines


def test_masked_payload_is_not_replayed_as_an_empty_payload() -> None:
    with pytest.raises(Unreadable, match="dead letter e: you may not read its payload"):
        message_of(record(payload=b"", payload_bytes=7), None)


def test_tally_counts_passing_events_and_remaining_errors(tmp_path: pathlib.Path) -> None:
    tally = Tally()
    good = [line for number in range(2) for line in line_of(record(f"{number}", order()), None, tally)]
    same = line_of(record("2"), None, tally)
    other = line_of(record("3", b"bad"), None, tally)
    tally([Settled(read(line), Fate.LOADED, None) for line in (*good, *same, *other)])
    [cause] = tally.causes.values()
    assert (cause.events, cause.passing, tally.count("passing")) == (4, 2, 2)
    assert sorted((error.cause.stage, error.cause.rule, error.events) for error in cause.still.values()) == [
        ("contract", "enum", 1),
        ("decode", "json", 1),
    ]


def test_a_dead_letter_of_the_smoke_test_is_left_out_and_counted(tmp_path: pathlib.Path) -> None:
    tally = Tally()
    fails = transform(tmp_path, "def transform(payload, attributes):\n    raise ValueError\n")
    assert line_of(record(f"{RUN}-smoke_test"), fails, tally) == []
    assert (tally.count("events"), tally.count("smoke_tests")) == (1, 1)


def test_a_choice_has_a_condition_for_each_thing_that_is_given() -> None:
    assert DeadLetterFilter().where() == "TRUE AND is_open"
    assert DeadLetterFilter(only_open=False).where() == "TRUE"
    where = DeadLetterFilter(["f"], "order", "decode", NOW, event_id="1", message_id="2").where()
    assert all(f"@{name}" in where for name in DeadLetterFilter().parameters())
