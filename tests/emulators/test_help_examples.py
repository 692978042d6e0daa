"""The examples of all help texts, each run as it is written against a local stack with data.

A new command is in here by itself: its examples must end with exit code 0, or have a reason in `FAILING`.
"""

import contextlib
import functools
import gzip
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from sluice.local.data_folder import DataFolder
from sluice.local.process import MARK, Child, free_port, running
from tests.support import metadata_server
from tests.support.beam_process import python
from tests.support.clone import clone
from tests.support.help_texts import COMMANDS, examples
from tests.support.samples import event
from tests.support.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.check

LATE = [("snapshot",), ("restore",), ("down",)]
"""Commands that run after all others: `erase` fails where a snapshot has the person's data."""

IN_ORDER = sorted(COMMANDS, key=lambda name: LATE.index(name) if name in LATE else -1)

EXAMPLES = [(name, line) for name in IN_ORDER for line in examples(name)]

ENDED_BY_CTRL_C = {
    "sluice up": 0,
    "sluice up --fresh --port 28000": 0,
    "sluice generate --rate 20": 130,
    "sluice tail": 130,
    "sluice tail --bad --type order": 130,
}
"""Exit codes of the examples that run until Ctrl-C."""

TYPED = {"sluice sql --interactive": (b"SELECT count(*) FROM orders;\n", b"\x04")}
"""Lines for each prompt of the examples that need a terminal."""

FAILING = {
    "sluice smoke && sluice verify": (2, "cannot be verified", "verify needs a project in Google Cloud"),
    "sluice verify --load 600 --rate 50": (2, "cannot be verified", "verify needs a project in Google Cloud"),
    "sluice restore orders --at 24h --to orders_yesterday": (2, "did not exist yet", "the table is minutes old"),
}
"""Examples that cannot succeed here: exit code, words of the message, reason."""

EVENT_ID = "6f1c1a52-6a0f-4f0e-9d0b-3c8f2f0f4c11"
"""Id of a dead letter of user-17, which help texts name."""

TRANSFORM = """
import json

def transform(payload, attributes):
    try:
        return json.dumps(json.loads(payload) | {"status": "pending"}).encode()
    except (TypeError, ValueError):
        return payload
"""


class Stack(NamedTuple):
    """The running stack.

    Attributes:
        folder: The folder in which the examples run.
        environment: The environment of a shell there.
        values: Texts that replace the ids, days and names of the examples.
    """

    folder: pathlib.Path
    environment: Mapping[str, str]
    values: Mapping[str, str]


def orders(number: int) -> bytes:
    """Orders of now, one a line, each with an id of its own."""
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return b"".join(
        json.dumps(event("order", order_id=f"ORD-{1001 + index}", order_date=now)).encode() + b"\n"
        for index in range(number)
    )


def write_files(folder: pathlib.Path) -> None:
    """Write the files that examples name."""
    content = orders(60)
    (folder / "exports").mkdir(exist_ok=True)
    (folder / "events.ndjson").write_bytes(content)
    for name in ("events.ndjson.gz", "exports/orders.ndjson.gz"):
        (folder / name).write_bytes(gzip.compress(content))
    (folder / "fix.py").write_text(TRANSFORM)
    (folder / "ids.txt").write_text("user_id=user-18\ncustomer_id=C-1018\n")


def git_repository(folder: pathlib.Path) -> None:
    """Make the folder a git repository, whose branch origin/main is what is there."""
    name = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for command in (
        ("init", "-q"),
        ("add", "jsonschemas", "sql"),
        (*name, "commit", "-qm", "all"),
        ("update-ref", "refs/remotes/origin/main", "HEAD"),
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, timeout=PATIENCE)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`sluice up` in a folder of its own, with data; contracts and code are those of a copy of the repository."""
    root = tmp_path_factory.mktemp("examples")
    project = clone(root / "clone")
    git_repository(project)
    folder = root / "work"
    folder.mkdir()
    with metadata_server.running(account=False) as metadata:
        environment = {
            "PATH": f"{project / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HOME": str(root),
            MARK: os.environ[MARK],
            **metadata,
        }
        command = ["sluice", "up", "--stand-in", "--port", str(free_port())]
        with running("up", ["env", *command], root, environment, cwd=folder, inherits=False) as up:
            up.wait_until(lambda: DataFolder(folder / ".sluice").running() is not None)
            yield Stack(folder, environment, prepare(up, functools.partial(sluice, folder, environment)))


def sluice(folder: pathlib.Path, environment: Mapping[str, str], line: str) -> str:
    """Run a line of shell, which must succeed, and return what it prints to standard output."""
    done = subprocess.run(
        line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prepare(up: Child, run: Callable[[str], str]) -> dict[str, str]:
    """Publish events, bad ones among them, and take a snapshot; return the values of the examples' names."""
    now = datetime.now(UTC)
    bad = {
        EVENT_ID: event("user_activity", user_id="user-17", activity_type="teleport", timestamp=now.isoformat()),
        "bad-order": event("order", status="teleported", order_date=now.isoformat()),
    }
    for event_id, content in bad.items():
        run(f"echo '{json.dumps(content).replace("'", '')}' | sluice publish - --attribute event_id={event_id}")

    def letters() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(run("sluice dead-letters list --json"))
        return listed

    wait_until(lambda: len(letters()) == len(bad), "the bad events are dead letters", up.tail, pause=0.5)
    fingerprint = letters()[0]["fingerprint"]
    run("sluice generate --limit 300 --rate 300 --bad-share 0.05")
    [snapshot] = json.loads(run("sluice snapshot orders --json"))
    [bucket] = re.findall(r"^gs://([^/:]+)", run("sluice status"), re.MULTILINE)
    today, yesterday = now.date(), now.date() - timedelta(1)
    return {
        "EVENT_ID": EVENT_ID,
        "BUCKET": bucket,
        "projects/PROJECT/topics/sluice-prod-events": "projects/sluice-local/topics/events",
        "4c1f0a9be2d37a55": fingerprint,
        "orders_20261123T201500": snapshot["snapshot"],
        "2026-11-23T": f"{yesterday}T",
        "2026-11-23": f"{today}",
        "2026-11-24": f"{today + timedelta(1)}",
    }


@pytest.mark.parametrize(("name", "line"), EXAMPLES, ids=[line for _, line in EXAMPLES])
def test_an_example_of_a_help_text_runs(stack: Stack, name: tuple[str, ...], line: str, tmp_path: pathlib.Path) -> None:
    environment = dict(stack.environment)
    if name == ("beam",):
        environment["SLUICE_BEAM_PYTHON"] = str(python())
    folder = tmp_path if name == ("up",) else stack.folder  # A folder has one stack.
    write_files(folder)
    command = functools.reduce(lambda text, value: text.replace(*value), stack.values.items(), line)
    code, printed = run(command, line, folder, environment)
    expected, words, _ = FAILING.get(line, (ENDED_BY_CTRL_C.get(line, 0), "", ""))
    assert (code, words in printed) == (expected, True), printed
    assert "Traceback" not in printed
    assert not re.search("[\x1b\u2500-\u257f\u2800-\u28ff]", printed) or line in TYPED, printed


def run(command: str, line: str, folder: pathlib.Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run an example, and return its exit code and what it prints."""
    output = folder / "output"
    with contextlib.ExitStack() as ending:
        file = ending.enter_context(output.open("wb"))
        stdin: int = subprocess.DEVNULL
        stdout: int = file.fileno()
        if line in TYPED:
            terminal, stdin = pty.openpty()
            stdout = stdin
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ending.callback(process.kill)
        if line in ENDED_BY_CTRL_C:
            wait_until(lambda: output.stat().st_size or process.poll() is not None, f"{command} prints something")
            os.killpg(process.pid, signal.SIGINT)
        if line in TYPED:
            os.close(stdin)
            typed = iter(TYPED[line])
            with contextlib.suppress(OSError):  # The end of a terminal is an error.
                while data := os.read(terminal, 1_000):
                    file.write(data)
                    if b"> " in data:
                        os.write(terminal, next(typed))
            os.close(terminal)
        code = process.wait(PATIENCE)
    return code, output.read_text()


def test_exceptions_name_examples() -> None:
    lines = {line for _, line in EXAMPLES}
    assert FAILING.keys() | ENDED_BY_CTRL_C.keys() | TYPED.keys() <= lines


def test_each_command_but_verify_has_an_example_that_succeeds() -> None:
    assert [name for name in COMMANDS if not set(examples(name)) - FAILING.keys()] == [("verify",)]
