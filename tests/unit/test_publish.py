"""`sluice publish` and `sluice generate` prepare events before Pub/Sub receives them."""

import gzip
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from google.api_core.exceptions import ServiceUnavailable
from typer.testing import CliRunner, Result

from functions.files.id_fields import WithoutId
from functions.files.sources import Line
from sluice.cli import app
from sluice.publish import Publication, from_lines, shift_to
from tests.support.samples import event

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TOPIC", "projects/project/topics/events")


def order(time: str, **changes: Any) -> bytes:
    return json.dumps(event("order", order_date=time, **changes)).encode()


def change(time: str) -> bytes:
    return json.dumps(event("inventory", timestamp=time)).encode()


def times(lines: Iterable[bytes]) -> list[str]:
    return [(event := json.loads(line)).get("order_date") or event["timestamp"] for line in lines]


def numbered(lines: Iterable[bytes]) -> list[Line]:
    return [Line("file", number, line) for number, line in enumerate(lines, start=1)]


def shifted(lines: Iterable[bytes]) -> list[bytes]:
    return [publication.data for publication in shift_to(NOON, [Publication(line, {}) for line in lines])]


def test_newest_event_moves_to_the_given_time_with_equal_gaps() -> None:
    lines = [order("1996-07-04T00:00:00Z"), change("1996-07-05T06:00:00+06:00"), order("1996-07-04t12:00:00z")]
    expected = ["2026-11-22T12:00:00.000Z", "2026-11-23T12:00:00.000Z", "2026-11-23T00:00:00.000Z"]
    assert times(shifted(lines)) == expected


def test_moved_events_have_the_same_ids_in_each_run() -> None:
    lines = numbered([order("1996-07-04T00:00:00Z"), order("1996-07-05T00:00:00Z")])
    first, second = (
        [publication.attributes for publication in shift_to(now, from_lines(lines, [], WithoutId()))]
        for now in (NOON, NOON + timedelta(hours=1))
    )
    assert first == second


def test_moving_an_event_changes_nothing_else_of_it() -> None:
    line = msgspec.json.encode(msgspec.json.decode(order("1996-07-04T00:00:00Z", n=1)))
    line = line.replace(b"24.98", b"440.10").replace(b'"n":1', b'"n":123456789012345678901')
    assert b"440.10" in line
    assert shifted([line]) == [line.replace(b"1996-07-04T00:00:00Z", b"2026-11-23T12:00:00.000Z")]


@pytest.mark.parametrize("sentinel", ["9999-12-31T23:59:59Z", "2100-01-01T00:00:00Z"])
def test_a_date_that_means_never_stays_and_does_not_move_the_others(sentinel: str) -> None:
    lines = [order("1996-07-04T00:00:00Z"), order(sentinel)]
    assert times(shifted(lines)) == ["2026-11-23T12:00:00.000Z", sentinel]
    assert times(shifted(lines[1:])) == ["2026-11-23T12:00:00.000Z"], "alone, it is the newest"


@pytest.mark.parametrize("first", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:30"])
def test_the_first_dates_there_are_move_or_stay(first: str) -> None:
    moved = times(shifted([order(first), order("2026-11-23T13:00:00Z")]))
    assert moved == [first, "2026-11-23T12:00:00.000Z"]


def test_an_invalid_event_moves_with_the_others() -> None:
    lost = order("2025-01-01T10:00:00Z", status="lost")
    assert times(shifted([lost, order("2025-01-01T11:00:00Z")])) == [
        "2026-11-23T11:00:00.000Z",
        "2026-11-23T12:00:00.000Z",
    ]


def test_lines_without_a_time_are_not_changed() -> None:
    odd = [b"", b"not json", b"[]", b"\xff", b'{"event_type": "teleport"}', b'{"event_type": "order"}']
    odd += [order(time) for time in ("2025-01-01T10:00:00", "2025-01-01", "20250101T100000Z", "yesterday")]
    odd += [order("2025-01-01T10:00:00Z", n=1).replace(b'"n"', b'"status": "lost", "n"')]
    odd += [order("2025-01-01T10:00:00Z", n=1).replace(b'"n": 1', b'"n": 1e99999999999999999999')]
    assert shifted([*odd, order("2026-11-23T11:00:00Z")])[:-1] == odd


def test_lines_have_ids_of_their_own_that_are_the_same_again() -> None:
    lines = numbered([b'{"a": 1}', b"{}", b'{ "a": 1 }', b"no JSON"])
    messages = list(from_lines(lines, [], WithoutId()))
    assert [message.data for message in messages] == [line.data for line in lines]
    assert len({message.attributes["event_id"] for message in messages}) == 4
    assert list(from_lines(lines, [], WithoutId(), skip=2)) == messages[2:], "skipped lines count"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--skip 2."),
        (["--limit", "3"], "--skip 2 --limit 1."),
        (["--skip", "1", "--limit", "9"], "--skip 3 --limit 7."),
        (["--skip", "2", "--limit", "2"], "--skip 4."),
    ],
)
@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ServiceUnavailable("gone"), 1)])  # type: ignore[no-untyped-call]
def test_early_end_says_where_to_continue(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
    error: BaseException,
    code: int,
) -> None:
    """Lines are accepted in no order: those before the first that is not are skipped."""
    file = tmp_path / "events"
    file.write_bytes(b"\n".join(b'{"n": %d}' % number for number in range(8)))

    def accept(
        messages: Iterable[Publication], *_: object, published: Callable[[Publication], object], **__: object
    ) -> None:
        first, second, *others = itertools.islice(messages, 4)
        for publication in (second, *others[1:], first):
            published(publication)
        raise error

    monkeypatch.setattr("sluice.publish.publish", accept)
    ended, output = run("publish", str(file), *options)
    assert ended == code
    assert f"To publish the rest, run the command again with {message}" in output


def test_attributes_are_those_of_all_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Publication] = []
    monkeypatch.setattr("sluice.publish.publish", lambda messages, *_, **__: sent.extend(messages))
    options = [
        "--attribute",
        "source=a=b",
        "--attribute",
        "event_id=own",
        "--attribute",
        "empty=",
        "--schema-version",
        "1",
    ]
    assert CliRunner().invoke(app, ["publish", "-", *options], input="{}").exit_code == 0
    assert [message.attributes for message in sent] == [
        {"event_id": "own", "source": "a=b", "empty": "", "schema_version": "1"}
    ]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--attribute", "source"], "'source' is not KEY=VALUE"),
        (["--attribute", "=a"], "'=a' is not KEY=VALUE"),
        (["--attribute", "retry=a"], "retry cannot be an attribute"),
        (["--attribute", "googclient=a"], "googclient cannot be an attribute"),
        (["--attribute", "a=1", "--attribute", "a=2"], "a is given twice"),
        (["--attribute", "schema_version=1", "--schema-version", "1"], "schema_version is given twice"),
        (["--attribute", "event_id=a", "--id-field", "$.a"], "event_id is given by --id-field already"),
        (["--schema-version", "99"], "no contract has version 99; versions are 1"),
    ],
)
def test_wrong_attribute_is_named_before_anything_is_done(options: list[str], problem: str) -> None:
    code, output = run("publish", __file__, *options)
    assert code == 2
    assert problem in output


def test_the_ids_of_messages_are_those_of_the_fields(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line without an id is named and not sent; one that is no event is sent, and becomes a dead letter."""
    file = tmp_path / "events"
    file.write_bytes(b'{"meta": {"id": "a"}}\n\n{"meta": {}}\n{"meta": {"id": 7}}\n{"meta": {"id": 1.5}}\n{no JSON}\n')
    sent: list[Publication] = []
    monkeypatch.setattr("sluice.publish.publish", lambda messages, *_, **__: sent.extend(messages))
    result = CliRunner().invoke(app, ["publish", str(file), "--id-field", "$.meta.id"])
    assert [message.attributes["event_id"] for message in sent[:2]] == ["a", "7"]
    assert sent[2].data == b"{no JSON}"
    assert (result.exit_code, len(sent)) == (1, 3)
    assert f"Not published: {file} line 3: $.meta.id is missing\n" in result.output
    assert (
        f"{file} line 5: $.meta.id cannot be an id; allowed are an integer and a string that is not empty"
        in result.output
    )


@pytest.mark.parametrize("command", ["publish", "backfill"])
@pytest.mark.parametrize("path", ["order_id", "$", "$.user-agent", "$..id", "$[*].id", "$.a[01]", "$['\\x']"])
def test_a_wrong_path_of_an_id_is_named_before_anything_is_done(command: str, path: str) -> None:
    code, output = run(command, __file__, "--id-field", path)
    assert code == 2
    assert "--id-field" in output


def published(
    monkeypatch: pytest.MonkeyPatch, *arguments: str, stdin: bytes | None = None
) -> tuple[Result, list[bytes]]:
    """Return the result of `sluice publish`, and the payloads that it would have published."""
    sent: list[bytes] = []
    monkeypatch.setattr(
        "sluice.publish.publish", lambda messages, *_, **__: sent.extend(message.data for message in messages)
    )
    return CliRunner().invoke(app, ["publish", *arguments], input=stdin), sent


@pytest.mark.parametrize("compress", [False, True])
def test_a_byte_order_mark_and_gzip_are_no_part_of_the_events(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *, compress: bool
) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}'
    file = tmp_path / "events"
    file.write_bytes(gzip.compress(data) if compress else data)
    for result, sent in (
        published(monkeypatch, str(file)),
        published(monkeypatch, "-", stdin=file.read_bytes()),
    ):
        assert (result.exit_code, sent) == (0, [b'{"a": 1}', b'{"a": 2}']), result.output


@pytest.mark.parametrize("stdin", [False, True])
def test_file_that_is_not_ndjson_is_not_published(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, *, stdin: bool
) -> None:
    (tmp_path / "events.json").write_text("[\n  {}\n]")
    source = "-" if stdin else str(tmp_path / "events.json")
    result, sent = published(monkeypatch, source, stdin=(tmp_path / "events.json").read_bytes())
    assert (result.exit_code, sent) == (1, [])
    assert "is a JSON array; write one event a line: jq -c '.[]'" in result.output


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_the_generator_writes_ndjson_where_no_topic_is_wanted() -> None:
    code, output = run("generate", "--stdout", "--limit", "50", "--seed", "3")
    assert code == 0
    assert {json.loads(line)["event_type"] for line in output.splitlines()} <= {"order", "inventory", "user_activity"}
    assert len(output.splitlines()) == 50


def test_every_command_helps_and_a_wrong_option_is_named() -> None:
    for command in ("demo", "up", "publish", "generate"):
        code, output = run(command, "--help")
        assert code == 0
        assert "Usage" in output
    assert run("publish", "--help")[1].count("--shift-to-now") >= 1
    code, output = run("generate", "--bad-share", "2")
    assert code == 2
    assert "--bad-share" in output


@pytest.mark.parametrize("duplicates", ["0.4", "0.5"])
def test_shares_without_good_events_are_rejected(duplicates: str) -> None:
    code, output = run("generate", "--bad-share", "0.6", "--duplicate-share", duplicates)
    assert code == 2
    assert "below 1 together" in output


def test_missing_file_is_named() -> None:
    code, output = run("publish", "nowhere.ndjson")
    assert code == 2
    assert "nowhere.ndjson" in output
