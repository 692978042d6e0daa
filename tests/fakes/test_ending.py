"""All commands end in the same way where settings are wrong or Google Cloud rejects a request."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import typer
from google.api_core.exceptions import NotFound
from typer.testing import CliRunner, Result

from fake_google.answers import error
from fake_google.scripted import Cloud
from sluice.cli import app
from sluice.commands.dead_letters import app as dead_letters
from sluice.commands.exit_codes import ExitCode, errors_as_exit_codes, print_error
from tests.support.waiting import PATIENCE

EXIT_CODES = pathlib.Path(__file__).parents[2] / "docs" / "exit-codes.md"

ENVIRONMENT = {
    "ARCHIVE_BUCKET": "archive",
    "GOOGLE_CLOUD_PROJECT": "project",
    "DATASET": "live",
    "HISTORICAL_DATASET": "old",
}

COMMANDS: Sequence[Sequence[str]] = [
    ["backfill", __file__],
    ["beam", "gs://archive/raw/"],
    ["sql", "low_stock"],
    ["sql", "low_stock", "--dry-run"],
    ["sql", "--query", "SELECT 1"],
    ["sql", "export_partition", "--param", "partition=20261123"],
    ["snapshot"],
    ["snapshot", "orders"],
    ["snapshot", "--list"],
    ["restore", "orders_20261123T201500"],
    ["restore", "orders", "--at", "2026-11-23T20:00:00", "--replace"],
    ["smoke", "--clean"],
    ["tail"],
    ["trace", "an-event"],
    ["erase", "--user", "somebody"],
    ["reconcile"],
    ["replay", "--from", "2026-11-23"],
    ["replay", "--undeliverable"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "an-event"],
    ["dead-letters", "replay", "--all"],
]

WITHOUT_BUCKET = (["sql", "low_stock"], ["sql", "--query"])


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """A deployment that is allowed nothing."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    cloud.on_job = lambda _: error(403, "accessDenied")
    cloud.on_get = lambda _: error(403, "accessDenied")


def run(command: Sequence[str]) -> Result:
    return CliRunner().invoke(app, list(command))


def of(command: Sequence[str]) -> str:
    return " ".join(part for part in command if part != __file__)


def name(command: Sequence[str]) -> tuple[str, ...]:
    return tuple(command[: 2 if command[0] == "dead-letters" else 1])


ONE_OF_EACH = list({name(command): command for command in COMMANDS}.values())


def test_every_command_on_google_cloud_is_here() -> None:
    on_google_cloud: set[tuple[str, ...]] = {
        (registered.name or registered.callback.__name__,)
        for registered in app.registered_commands
        if registered.callback and registered.callback.__module__.startswith("sluice.commands.")
    }
    on_google_cloud |= {("dead-letters", str(registered.name)) for registered in dead_letters.registered_commands}
    without_emulators = {("cost",), ("package",), ("verify",)}
    without_emulators |= {("demo",), ("up",), ("generate",), ("publish",)}  # tests/unit/test_publish.py
    assert {name(command) for command in COMMANDS} | without_emulators == on_google_cloud


def test_page_lists_the_exit_codes_of_every_command() -> None:
    page = EXIT_CODES.read_text()
    first_cells = re.findall(r"^\| (.+?) \|", page.partition("| command |")[2], re.MULTILINE)
    written = {named for cell in first_cells for named in re.findall(r"`(.+?)`", cell)}
    assert written == {" ".join(name(command)) for command in COMMANDS} | {"verify"}
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert codes == set(ExitCode)


@pytest.mark.parametrize("command", COMMANDS, ids=of)
@pytest.mark.parametrize("setting", [{"DATASET": "no-name"}, {"RETENTION_DAYS": "many"}], ids=str)
def test_a_wrong_setting_is_named_and_nothing_is_begun(
    monkeypatch: pytest.MonkeyPatch, cloud: Cloud, command: Sequence[str], setting: Mapping[str, str]
) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    ended = run(command)
    assert (ended.exit_code, ended.stdout) == (ExitCode.WRONG, "")
    assert ended.stderr.startswith("Nothing was done: environment: ")
    assert next(iter(setting)) in ended.stderr
    assert cloud.calls == []


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["reconcile", "--from", "2999-01-01"], "2999-01-01 is in the future"),
        (["reconcile", "--from", "2026-11-23", "--to", "2026-11-22"], "is not before"),
        (["reconcile", "--to", "2026-11-23", "--from", "2026-11-23"], "is not before"),
        (["replay", "--from", "2999-01-01"], "2999-01-01 is in the future"),
        (["replay", "--from", "2026-11-23", "--to", "2026-11-22"], "is not before"),
        (["replay", "--from", "24h", "--type", "orders"], "event type orders does not exist; event types are"),
        (["erase", "--user", "a", "--from", "2999-01-01"], "2999-01-01 is in the future"),
        (["erase", "--user", "a", "--from", "1h", "--to", "2h"], "is not before"),
        (["dead-letters", "list", "--since", "2999-01-01"], "2999-01-01 is in the future"),
        (["dead-letters", "replay", "--since", "2999-01-01"], "2999-01-01 is in the future"),
        (["backfill", __file__, "--schema-version", "99"], "no contract has version 99; versions are 1"),
        (["backfill", __file__, "--schema-version", "99", "--dry-run"], "no contract has version 99; versions are 1"),
    ],
)
def test_an_argument_out_of_range_is_no_empty_answer(cloud: Cloud, command: Sequence[str], why: str) -> None:
    ended = run(command)
    assert (ended.exit_code, ended.stdout) == (ExitCode.WRONG, "")
    assert why in re.sub(r"[\s│]+", " ", ended.stderr)
    assert cloud.calls == []


@pytest.mark.parametrize("command", [command for command in COMMANDS if command[:2] not in WITHOUT_BUCKET], ids=of)
def test_a_missing_setting_is_named_too(monkeypatch: pytest.MonkeyPatch, command: Sequence[str]) -> None:
    monkeypatch.delenv("ARCHIVE_BUCKET")
    ended = run(command)
    assert (ended.exit_code, ended.stdout) == (ExitCode.WRONG, "")
    assert "ARCHIVE_BUCKET" in ended.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=of)
def test_rejection_by_google_cloud_is_reported_verbatim(command: Sequence[str]) -> None:
    ended = run(command)
    assert ended.exit_code == ExitCode.FAILED
    assert isinstance(ended.exception, SystemExit)
    for line in ended.stderr.splitlines():
        assert line.startswith(("Failed: ", "No snapshot of "))
        assert line.endswith(": accessDenied")


@pytest.mark.parametrize("command", COMMANDS, ids=of)
def test_missing_credentials_are_reported_with_the_local_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, command: Sequence[str]
) -> None:
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    ended = run(command)
    assert (ended.exit_code, ended.stdout) == (ExitCode.FAILED, "")
    assert ended.stderr.startswith("Failed: ")
    assert "none.json" in ended.stderr
    assert "sluice up" in ended.stderr


@pytest.fixture(scope="module")
def silent() -> Iterator[list[tuple[socket.socket, subprocess.Popen[str]]]]:
    """All commands at once, each with a Google Cloud that takes its first request and never answers."""
    with contextlib.ExitStack() as stack:
        begun = []
        for command in ONE_OF_EACH:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            process = subprocess.Popen(
                [sys.executable, "-m", "sluice.cli", *command],
                env={**os.environ, **ENVIRONMENT, "BIGQUERY_EMULATOR_HOST": url, "STORAGE_EMULATOR_HOST": url},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.callback(process.kill)
            begun.append((server, process))
        yield begun


@pytest.mark.parametrize("number", range(len(ONE_OF_EACH)), ids=map(of, ONE_OF_EACH))
def test_ctrl_c_ends_every_command_with_130_and_without_a_traceback(
    silent: list[tuple[socket.socket, subprocess.Popen[str]]], number: int
) -> None:
    server, process = silent[number]
    server.settimeout(PATIENCE)
    connection, _ = server.accept()
    with connection:
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.INTERRUPTED, errors
    assert "Traceback" not in errors


def test_missing_project_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, errors_as_exit_codes():
        raise OSError("Project was not passed")
    assert ended.value.exit_code == ExitCode.FAILED
    assert capsys.readouterr().err.startswith("Failed: Project was not passed\nFor the local stack")


def test_internal_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), errors_as_exit_codes():
        raise ZeroDivisionError


def test_closed_pipe_prints_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError), errors_as_exit_codes():
        raise BrokenPipeError
    assert capsys.readouterr().err == ""


def rejection(**more: Any) -> Exception:
    return NotFound("GET http://x", **more)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("a [/] b", "a [/] b"),
        (rejection(), "404 GET http://x"),
        (rejection(errors=[{"message": "Not found: Table t"}]), "Not found: Table t"),
    ],
)
def test_error_is_printed_literally(capsys: pytest.CaptureFixture[str], why: Any, text: str) -> None:
    print_error("No [b]:", why)
    assert capsys.readouterr().err == f"No [b]: {text}\n"


def test_terminal_escapes_in_an_error_are_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_error("Failed:", "event \x1b[2J: KeyError")
    assert capsys.readouterr().err == "Failed: event \\x1b[2J: KeyError\n"
