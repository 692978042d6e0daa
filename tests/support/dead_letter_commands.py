"""The commands for dead letters, run on the emulators, and events to run them on."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from typer.testing import CliRunner

from functions.core.message import Message
from sluice.cli import app
from tests.support import samples
from tests.support.datasets import Datasets
from tests.support.waiting import PATIENCE

NOW = datetime.now(UTC)


def order(days_ago: float = 0, **changes: Any) -> bytes:
    """Return the payload of an order of some days ago."""
    date = (NOW - timedelta(days=days_ago)).isoformat()
    return json.dumps(samples.event("order", order_date=date, **changes)).encode()


def message(event_id: str, payload: bytes, **attributes: str) -> Message:
    """Return a message of now."""
    return Message(payload, {"event_id": event_id, **attributes}, f"m-{event_id}", NOW)


def run(datasets: Datasets, *arguments: object, code: int = 0, script: str | None = None) -> str:
    """Run the command, as a process where it is a script; gives its standard output, or what it says of a failure."""
    environment = {**datasets.environment, "COLUMNS": "200", "CODE_VERSION": "tests"}
    given = [str(argument) for argument in arguments]
    if script is not None:
        command = [sys.executable, "-c", script, *given]
        ran = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran.stderr
    ended = CliRunner().invoke(app, given, env=environment)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.output
    assert ended.exit_code == code, ended.output
    return ended.stdout if code == 0 else ended.stderr


def letters(datasets: Datasets, *arguments: object) -> Any:
    """Return what `sluice dead-letters` prints as JSON."""
    return json.loads(run(datasets, "dead-letters", *arguments, "--json"))


def ledger(datasets: Datasets) -> list[dict[str, Any]]:
    """Return the rows of the table of replays, the oldest first."""
    return sorted(datasets.rows("live.replays"), key=lambda row: (row["replayed_at"], row["event_id"]))


KILLED = """
import os, signal
from sluice.replay import ledger, undeliverable
undeliverable.LEASE_SECONDS = 10
def kill(_, settled):
    if any(one.fate.name == "LOADED" for one in settled):
        os.kill(os.getpid(), signal.SIGKILL)
{}.__call__ = kill
from sluice.cli import app
app()
"""
"""Runs a command that is killed after its first batch; `{}` is the callback that it replaces."""
