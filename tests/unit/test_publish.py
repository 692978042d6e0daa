"""What `sluice publish` and `sluice generate` do with events before Pub/Sub sees them."""

import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from ops.cli import app
from ops.publish import from_lines, shift_to
from tests.unit.samples import event

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_the_newest_event_is_moved_to_the_given_time_and_the_distances_stay() -> None:
    lines = [
        json.dumps(event("order", order_date="1996-07-04T00:00:00Z")).encode(),
        json.dumps(event("inventory", timestamp="1996-07-05T06:00:00+06:00")).encode(),
    ]
    order, change = (json.loads(line) for line in shift_to(NOON, lines))
    assert (order["order_date"], change["timestamp"]) == ("2026-11-22T12:00:00.000Z", "2026-11-23T12:00:00.000Z")


def test_moving_an_event_changes_nothing_else_of_it() -> None:
    line = b'{"event_type":"order","order_date":"1996-07-04T00:00:00Z","total_amount":440.10,"n":123456789012345678901}'
    assert shift_to(NOON, [line]) == [line.replace(b"1996-07-04T00:00:00Z", b"2026-11-23T12:00:00.000Z")]


def test_what_has_no_time_is_left_as_it_is() -> None:
    odd = [b"", b"not json\n", b"[]", b"\xff", b'{"event_type": "teleport"}', b'{"event_type": "order"}']
    odd += [b'{"event_type": "order", "order_date": 5}', b'{"event_type": []}']
    assert shift_to(NOON, odd) == odd


def test_each_line_is_a_message_with_an_identity_of_its_own_and_blank_lines_are_none() -> None:
    messages = list(from_lines([b"{}\n", b"\n", b"{}\r\n"]))
    assert [message.data for message in messages] == [b"{}", b"{}"]
    assert len({message.attributes["event_id"] for message in messages}) == 2


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


def test_shares_of_more_than_all_are_refused() -> None:
    code, output = run("generate", "--bad-share", "0.6", "--duplicate-share", "0.5")
    assert code == 2
    assert "more than 1 together" in output


def test_without_credentials_it_says_so_and_how_to_find_the_local_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "nowhere.json")
    result = CliRunner().invoke(app, ["publish", "-"], input='{"event_type": "order"}\n')
    assert result.exit_code == 1
    assert "Not published" in result.output
    assert "sluice up" in result.output


def test_a_file_that_is_not_there_is_named() -> None:
    code, output = run("publish", "nowhere.ndjson")
    assert code == 2
    assert "nowhere.ndjson" in output
