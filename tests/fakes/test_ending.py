"""All commands end in the same way where settings are wrong or Google Cloud rejects a request."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import NotFound
from typer.testing import CliRunner, Result

from fake_google.answers import Answer, error
from fake_google.scripted import Cloud
from functions.drain import subscription
from functions.ingest import http_client
from functions.settings import NO_PROJECT
from sluice.cli import app
from sluice.commands.dead_letters import app as dead_letters
from sluice.commands.exit_codes import ExitCode, errors_as_exit_codes, print_error
from sluice.local.names import EMULATORS
from tests.support import metadata_server, rejecting_pubsub
from tests.support.waiting import PATIENCE

EXIT_CODES = pathlib.Path(__file__).parents[2] / "docs" / "exit-codes.md"

FILE = str(pathlib.Path(__file__).with_name("event.ndjson"))

ENVIRONMENT = {
    "ARCHIVE_BUCKET": "archive",
    "GOOGLE_CLOUD_PROJECT": "project",
    "DATASET": "live",
    "HISTORICAL_DATASET": "old",
    "SUBSCRIPTION": "projects/project/subscriptions/ingest",
    "SLUICE_TOPIC": "projects/project/topics/events",
    "SLUICE_UNDELIVERABLE": "projects/project/subscriptions/undeliverable",
}

COMMANDS: Sequence[Sequence[str]] = [
    ["bootstrap"],
    ["bootstrap", "--plan"],
    ["console"],
    ["backfill", FILE],
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
    ["smoke"],
    ["tail"],
    ["trace", "an-event"],
    ["trace", "an-event", "--date", "2026-11-23"],
    ["erase", "--user", "somebody"],
    ["drain", "--dry-run"],
    ["drain", "--loads-only"],
    ["drain"],
    ["reconcile"],
    ["replay", "--from", "2026-11-23"],
    ["replay", "--undeliverable"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "an-event"],
    ["dead-letters", "replay", "--all"],
]

PUBLISHING: Sequence[Sequence[str]] = [["publish", FILE], ["generate", "--limit", "1"], ["smoke"]]
"""Commands that publish to the topic; the first two use nothing else of Google Cloud."""

WITHOUT_ARCHIVE: Sequence[Sequence[str]] = [
    ["sql", "low_stock"],
    ["sql", "low_stock", "--dry-run"],
    ["sql", "--query", "SELECT 1"],
    ["snapshot"],
    ["snapshot", "orders"],
    ["snapshot", "--list"],
    ["restore", "orders_20261123T201500"],
    ["smoke", "--clean"],
    ["tail"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "an-event"],
]
"""Commands that need no ARCHIVE_BUCKET."""

COMMANDS_OF_DATASET = [command for command in COMMANDS if command[0] != "beam"]
"""Commands whose own process uses BigQuery."""

READING_FIRST: Sequence[Sequence[str]] = [
    ["backfill", "gs://archive/raw/"],
    ["beam", "gs://archive/raw/"],
]
"""Commands whose first request is one to Cloud Storage."""

MAX_SLEEP = 2.0
"""Maximum seconds that a failing command sleeps between its attempts."""


@pytest.fixture(scope="module")
def metadata() -> Iterator[Mapping[str, str]]:
    """The metadata server of a virtual machine without a service account."""
    with metadata_server.running(account=False) as variables:
        yield variables


@pytest.fixture(autouse=True)
def _environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, cloud: Cloud, metadata: Mapping[str, str]
) -> None:
    """A deployment that is allowed nothing, on a machine without credentials."""
    for name, value in {**ENVIRONMENT, **metadata, "CLOUDSDK_CONFIG": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", metadata["GCE_METADATA_HOST"])
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    http_client._authorized.cache_clear()
    cloud.on_job = lambda _: error(403, "accessDenied")
    cloud.on_get = lambda _: error(403, "accessDenied")


def run(command: Sequence[str]) -> Result:
    return CliRunner().invoke(app, list(command))


def of(command: Sequence[str]) -> str:
    return " ".join(part for part in command if part != FILE)


def name(command: Sequence[str]) -> tuple[str, ...]:
    return tuple(command[: 2 if command[0] == "dead-letters" else 1])


ONE_OF_EACH = list({name(command): command for command in COMMANDS if command != ["smoke"]}.values())

ALL = [*COMMANDS, *PUBLISHING[:2]]
"""Commands that use Google Cloud."""


def test_every_command_on_google_cloud_is_here() -> None:
    on_google_cloud: set[tuple[str, ...]] = {
        (registered.name or registered.callback.__name__,)
        for registered in app.registered_commands
        if registered.callback and registered.callback.__module__.startswith("sluice.commands.")
    }
    on_google_cloud |= {("dead-letters", str(registered.name)) for registered in dead_letters.registered_commands}
    others = {("cost",), ("package",), ("verify",), ("demo",), ("up",)}
    others |= {("status",), ("down",), ("env",)}  # tests/emulators/test_live_stack.py
    assert {name(command) for command in [*COMMANDS, *PUBLISHING]} | others == on_google_cloud


def test_page_lists_the_exit_codes_of_every_command() -> None:
    page = EXIT_CODES.read_text()
    first_cells = re.findall(r"^\| (.+?) \|", page.partition("| command |")[2], re.MULTILINE)
    written = {named for cell in first_cells for named in re.findall(r"`(.+?)`", cell)}
    assert written == {" ".join(name(command)) for command in [*COMMANDS, *PUBLISHING]} | {"verify"}
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
    assert why in ended.stderr
    assert cloud.calls == []


class Slept(BaseException):
    """A command has slept for too long; no handler of errors takes it for one."""


@pytest.fixture
def limited_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command sleep for `MAX_SLEEP` in total, which no slow machine makes longer."""
    remaining, sleep = MAX_SLEEP, time.sleep

    def limited(seconds: float) -> None:
        nonlocal remaining
        remaining -= seconds
        if remaining < 0:
            raise Slept
        sleep(seconds)

    monkeypatch.setattr("time.sleep", limited)


def without_stack(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """Nothing listens where the variables say; no client gets to try it."""
    for variable in EMULATORS:
        monkeypatch.setenv(variable, "127.0.0.1:1")


def without_credentials(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """There is a metadata server, as on a virtual machine, which has no service account."""
    for variable in EMULATORS:
        monkeypatch.delenv(variable, raising=False)


def without_file(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    without_credentials(monkeypatch, cloud)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "none.json")


def without_project(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """A person has logged in, but no project is set."""
    without_credentials(monkeypatch, cloud)
    folder = pathlib.Path(os.environ["CLOUDSDK_CONFIG"])
    person = dict.fromkeys(("client_id", "client_secret", "refresh_token"), "none") | {"type": "authorized_user"}
    (folder / "application_default_credentials.json").write_text(json.dumps(person))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    monkeypatch.setenv("PATH", str(folder))  # no gcloud, which may have a project


def without_project_of_the_stack(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")


def without_permission(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """Google Cloud rejects each request: the `_environment` of all tests."""


def without_anything(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    """Neither the dataset nor the bucket exists."""
    dataset = "Not found: Dataset project:live was not found in location US"
    cloud.on_job = lambda _: error(404, dataset)
    cloud.on_get = lambda path: error(404, "The specified bucket does not exist." if "/b/" in path else dataset)


def without_bucket_setting(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    monkeypatch.delenv("ARCHIVE_BUCKET")


def without_subscription_setting(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    monkeypatch.delenv("SUBSCRIPTION")


def without_topic_setting(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    monkeypatch.delenv("SLUICE_TOPIC")


def with_topic_of_no_project(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    monkeypatch.setenv("SLUICE_TOPIC", "events")


LOGIN = "run `gcloud auth application-default login`, or start `sluice up`"
FORBIDDEN = r"(.*: )?accessDenied: the role `{role}` has this permission \(docs/access.md\)"
ROLES = {"bootstrap": "deployers", "sql": "readers", "erase": "erasers"}
"""Roles of commands; that of the others is `operators`."""
ABSENT = (
    r"snapshot \w+ does not exist; `sluice snapshot --list` lists all snapshots"
    r"|.*: is (DATASET right, and has the bootstrap created it \(docs/deploy.md\)|ARCHIVE_BUCKET right)\?"
)
BUCKET = r".*The specified bucket does not exist: is ARCHIVE_BUCKET right\?"
FAILURES: Sequence[tuple[Any, ExitCode, str, Sequence[Sequence[str]]]] = [
    (
        without_stack,
        ExitCode.FAILED,
        "no stack at 127.0.0.1:1: start `sluice up`, or unset .* to use Google Cloud",
        ALL,
    ),
    (
        without_credentials,
        ExitCode.FAILED,
        f"(.*: )?no credentials for Google Cloud: .*; {LOGIN} for the local stack",
        ALL,
    ),
    (
        without_file,
        ExitCode.FAILED,
        f"(.*: )?no credentials for Google Cloud: File none.json was not found; {LOGIN}.*",
        ALL,
    ),
    (without_project, ExitCode.WRONG, NO_PROJECT, COMMANDS_OF_DATASET),
    (
        without_project_of_the_stack,
        ExitCode.WRONG,
        NO_PROJECT,
        [command for command in COMMANDS_OF_DATASET if command != ["drain", "--dry-run"]],  # It reads the bucket only.
    ),
    (without_permission, ExitCode.FAILED, FORBIDDEN, [command for command in COMMANDS if command != ["smoke"]]),
    (
        without_anything,
        ExitCode.FAILED,
        ABSENT,
        [command for command in COMMANDS if command[0] not in {"smoke", "bootstrap"}],
    ),
    (without_anything, ExitCode.FAILED, BUCKET, READING_FIRST),
    (
        without_bucket_setting,
        ExitCode.WRONG,
        "environment: ARCHIVE_BUCKET is missing; set it to the bucket of the archive, or start `sluice up` .*",
        [command for command in COMMANDS if command not in WITHOUT_ARCHIVE],
    ),
    (without_bucket_setting, ExitCode.FAILED, FORBIDDEN, WITHOUT_ARCHIVE),
    (
        without_subscription_setting,
        ExitCode.WRONG,
        "environment: SUBSCRIPTION is missing; it is projects/PROJECT/subscriptions/NAME",
        [["drain"]],
    ),
    (
        without_topic_setting,
        ExitCode.WRONG,
        "--topic or SLUICE_TOPIC is missing; it must be projects/PROJECT/topics/TOPIC, or start `sluice up` .*",
        PUBLISHING,
    ),
    (
        with_topic_of_no_project,
        ExitCode.WRONG,
        "--topic or SLUICE_TOPIC is events; it must be projects/PROJECT/topics/TOPIC",
        PUBLISHING,
    ),
]
"""Failures by what is missing, with the commands that end so."""


@pytest.mark.usefixtures("limited_sleep")
@pytest.mark.parametrize(
    ("absence", "code", "sentence", "command"),
    [
        pytest.param(absence, code, sentence, command, id=f"{absence.__name__}: {of(command)}")
        for absence, code, sentence, commands in FAILURES
        for command in commands
    ],
)
def test_every_failure_is_a_sentence_at_once(
    monkeypatch: pytest.MonkeyPatch, cloud: Cloud, absence: Any, code: ExitCode, sentence: str, command: Sequence[str]
) -> None:
    absence(monkeypatch, cloud)
    assert_fails(run(command), code, sentence.replace("{role}", ROLES.get(command[0], "operators")))


@pytest.mark.usefixtures("limited_sleep")
@pytest.mark.parametrize(
    ("code", "text", "remedy"),
    [
        (grpc.StatusCode.NOT_FOUND, "Resource not found (resource=events).", "are SLUICE_TOPIC and .* right\\?"),
        (grpc.StatusCode.PERMISSION_DENIED, "Permission pubsub.topics.publish denied", "the role `.*` has this .*"),
    ],
)
@pytest.mark.parametrize("command", PUBLISHING, ids=of)
def test_a_rejection_by_pubsub_is_a_sentence_at_once(
    monkeypatch: pytest.MonkeyPatch, command: Sequence[str], code: grpc.StatusCode, text: str, remedy: str
) -> None:
    with rejecting_pubsub.running(code, text) as address:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        ended = run(command)
    assert_fails(ended, ExitCode.FAILED, f"{re.escape(text.rstrip('.'))}: {remedy}")


def test_a_rejection_by_pubsub_ends_endless_publishing(monkeypatch: pytest.MonkeyPatch) -> None:
    with rejecting_pubsub.running(grpc.StatusCode.NOT_FOUND, "Topic not found") as address:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        ended = run(["generate", "--rate", "5"])
    assert (ended.exit_code, "0 published" in ended.stderr) == (ExitCode.FAILED, True)


def behind_proxy(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A person has logged in, and all that is sent to Google Cloud takes a proxy."""
    without_project(monkeypatch, Cloud())
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "project")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://{address}")


@pytest.mark.parametrize("command", [["sql", "low_stock"], ["reconcile"]], ids=of)
def test_a_cloud_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, command: Sequence[str]) -> None:
    monkeypatch.setattr("sluice.commands.cloud_check._REQUEST_SECONDS", 0.2)
    monkeypatch.setattr("sluice.commands.cloud_check._PAUSE", 0.1)
    sentence = "oauth2.googleapis.com did not answer: "
    with socket.create_server(("127.0.0.1", 0)) as silent:
        behind_proxy(monkeypatch, f"127.0.0.1:{silent.getsockname()[1]}")
        assert_fails(run(command), ExitCode.FAILED, f"{sentence}.*Timeout|{sentence}ProxyError")
    behind_proxy(monkeypatch, "127.0.0.1:1")
    assert_fails(run(command), ExitCode.FAILED, f"{sentence}ProxyError")


def table_of(path: str) -> Answer:
    """Answer a request for a table, which may be seen; nothing else may."""
    if "/tables/" not in path:
        return error(403, "accessDenied")
    *_, dataset, _, table = path.partition("?")[0].split("/")
    reference = {"projectId": "project", "datasetId": dataset, "tableId": table}
    return 200, {"tableReference": reference, "schema": {"fields": []}, "type": "TABLE"}


@pytest.mark.usefixtures("limited_sleep")
def test_a_failure_within_a_run_says_what_to_do(cloud: Cloud) -> None:
    cloud.on_get = table_of
    ended = run(["backfill", FILE])
    assert ended.exit_code == ExitCode.FAILED
    assert re.search(
        rf"^Failed: .* from {FILE} line 1 .*: {FORBIDDEN.format(role='operators')}$", ended.stderr, re.MULTILINE
    ), ended.stderr


@pytest.mark.usefixtures("limited_sleep")
@pytest.mark.parametrize(
    ("code", "text", "remedy"),
    [
        (grpc.StatusCode.NOT_FOUND, "Resource not found (resource=undeliverable).", "are SLUICE_TOPIC and .* right\\?"),
        (grpc.StatusCode.PERMISSION_DENIED, "Permission pubsub.subscriptions.consume denied", "the role `operators`.*"),
    ],
)
def test_an_unreadable_subscription_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, cloud: Cloud, code: grpc.StatusCode, text: str, remedy: str
) -> None:
    cloud.on_get = table_of
    with rejecting_pubsub.running(code, text) as address:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        ended = run(["replay", "--undeliverable", "--dry-run"])
    assert ended.exit_code == ExitCode.FAILED
    sentence = rf"{ENVIRONMENT['SLUICE_UNDELIVERABLE']}: {re.escape(text.rstrip('.'))}: {remedy}"
    assert re.search(f"^Failed: {sentence}$", ended.stderr, re.MULTILINE), ended.stderr


def nothing_to_load(path: str) -> Answer:
    """Answer as a deployment without load files."""
    if "/o?" in path:
        return 200, {}
    return table_of(path) if "/tables/" in path else error(404, "No such object: archive/load/ledger.json")


@pytest.mark.usefixtures("limited_sleep")
@pytest.mark.parametrize(
    ("code", "text", "remedy"),
    [
        (grpc.StatusCode.NOT_FOUND, "Resource not found (resource=ingest).", r"is SUBSCRIPTION right\?"),
        (grpc.StatusCode.PERMISSION_DENIED, "Permission pubsub.subscriptions.consume denied", "the role `operators`.*"),
        (
            grpc.StatusCode.FAILED_PRECONDITION,
            "This method is not supported for push subscriptions.",
            r"SUBSCRIPTION is pushed to `ingest` \(ingest.mode = \"push\"\), so nobody can pull it",
        ),
    ],
)
def test_a_subscription_that_cannot_be_pulled_says_why(
    monkeypatch: pytest.MonkeyPatch, cloud: Cloud, code: grpc.StatusCode, text: str, remedy: str
) -> None:
    cloud.on_get = nothing_to_load
    with rejecting_pubsub.running(code, text) as address:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
        ended = run(["drain"])
    assert_fails(ended, ExitCode.FAILED, f"{re.escape(text.rstrip('.'))}: {remedy}")


def test_pubsub_that_does_not_answer_is_no_empty_subscription(monkeypatch: pytest.MonkeyPatch, cloud: Cloud) -> None:
    cloud.on_get = nothing_to_load
    monkeypatch.setattr(subscription, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        assert_fails(run(["drain"]), ExitCode.FAILED, "503 Pub/Sub did not answer within 0.2 s")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["publish", "none.ndjson"], ExitCode.WRONG, "'none.ndjson': No such file or directory"),
        (["backfill", "none.ndjson"], ExitCode.FAILED, "none.ndjson: no file, folder or object has this name"),
        (["beam", "none.ndjson"], ExitCode.FAILED, "none.ndjson: no file, folder or object has this name"),
        (["publish", __file__], ExitCode.FAILED, "is not NDJSON"),
        (["dead-letters", "replay", "--all", "--transform", "none.py"], ExitCode.WRONG, "'none.py' does not exist"),
        (["verify"], ExitCode.WRONG, "run `sluice smoke`"),
    ],
    ids=lambda value: of(value).replace(__file__, "FILE") if isinstance(value, list) else "",
)
def test_a_wrong_option_or_file_is_named(
    monkeypatch: pytest.MonkeyPatch, command: Sequence[str], code: ExitCode, words: str
) -> None:
    if command[0] == "publish":
        monkeypatch.setattr("sluice.publish.publish", lambda messages, *_, **__: list(messages))
    ended = run(command)
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == code
    assert words in ended.stderr


def assert_fails(ended: Result, code: ExitCode, sentence: str) -> None:
    """Check the exit code, and that each line of standard error is the sentence; but for a bar of progress."""
    assert isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == code, ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.strip() and not re.search(r"\d published ", line)]
    assert lines
    what = (
        r"Failed: |No snapshot of [a-z_]+: |Not published to \S+: " if code == ExitCode.FAILED else "Nothing was done: "
    )
    for line in lines:
        assert re.fullmatch(f"({what})({sentence})", line), line


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
    with server.accept()[0] as look:  # The command looks whether the local stack is there, for each variable.
        assert look.recv(1) == b""
    server.accept()[0].close()
    connection, _ = server.accept()
    with connection:
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == ExitCode.INTERRUPTED, errors
    assert "Traceback" not in errors


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
        (TimeoutError(), "TimeoutError"),
        (rejection(), "404 GET http://x"),
        (rejection(errors=[{"message": "No such object: a/b"}]), "No such object: a/b"),
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
