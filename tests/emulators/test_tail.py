"""`sluice tail` shows the last rows and dead letters, and new ones as they come, on the emulators."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pytest

from sluice.local.stack import Emulators
from sluice.queries import short_retry
from sluice.stored_events import EventFilter
from sluice.tail import Tail
from tests.support import command_line
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.dead_letter_commands import NOW, message, order
from tests.support.waiting import PATIENCE


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


def add(datasets: Datasets, seconds: float, **orders: str) -> None:
    """Process an order of each id with this status at a time, in seconds from NOW."""
    messages = [message(event_id, order(status=status, order_id=event_id)) for event_id, status in orders.items()]
    datasets.stream(messages, NOW + timedelta(seconds=seconds))


def sluice(datasets: Datasets, *arguments: str) -> str:
    ended = command_line.sluice(["tail", "--no-follow", *arguments], {**datasets.environment, "COLUMNS": "80"})
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"^billed [\d.]+ MiB, [\d.]+ USD$|^$", ended.stderr, re.MULTILINE)
    return ended.stdout


def ids(output: str) -> list[str]:
    return [json.loads(line)["event_id"] for line in output.splitlines()]


def test_last_events_have_verdict_id_and_payload(datasets: Datasets) -> None:
    add(datasets, 0, accepted="pending")
    add(datasets, 1, rejected="lost")
    good, bad = sluice(datasets).splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  order          good  accepted  \{\"", good)
    assert '"order_id":"accepted"' in good
    assert re.search(r"order +bad +rejected  contract enum \$\.status  \{", bad)
    assert bad.endswith(", ...")
    assert not re.search("[\u2500-\u257f\x1b\u2026]", good + bad)

    accepted, rejected = map(json.loads, sluice(datasets, "--json").splitlines())
    assert (accepted["verdict"], accepted["content"]["status"], accepted["content"]["ingest"]["message_id"]) == (
        "good",
        "pending",
        "m-accepted",
    )
    assert (rejected["verdict"], rejected["path"], rejected["rule"]) == ("bad", "$.status", "enum")
    assert '"lost"' in rejected["message"]
    assert json.loads(rejected["content"])["status"] == "lost"
    rows = list(csv.DictReader(sluice(datasets, "--csv").splitlines()))
    assert [row["event_id"] for row in rows] == ["accepted", "rejected"]


def test_events_are_selected_by_verdict_type_and_text(datasets: Datasets) -> None:
    add(datasets, 0, first="pending", second="shipped")
    add(datasets, 1, third="lost")
    datasets.stream([message("fourth", b'{"event_type": "unknown"}')], NOW + timedelta(seconds=2))
    assert ids(sluice(datasets, "--bad", "--json")) == ["third", "fourth"]
    assert ids(sluice(datasets, "--type", "order", "--json", "-n", "2")) == ["second", "third"]
    assert ids(sluice(datasets, "--type", "unknown", "--bad", "--json")) == ["fourth"]
    assert ids(sluice(datasets, "--grep", "SECOND", "--json")) == ["second"]
    assert ids(sluice(datasets, "--grep", "thi", "--json")) == ["third"]
    assert sluice(datasets, "--type", "inventory") == ""


def test_unknown_type_and_two_formats_are_wrong_options() -> None:
    wrong = command_line.sluice(["tail", "--type", "orders"], {"ARCHIVE_BUCKET": "archive"})
    assert wrong.returncode == 2
    assert "event type orders does not exist" in wrong.stderr
    assert command_line.sluice(["tail", "--json", "--csv"], {"ARCHIVE_BUCKET": "archive"}).returncode == 2


def test_event_that_appears_late_is_shown_once(datasets: Datasets) -> None:
    """A flush that ends later than another may have events that were processed earlier."""
    add(datasets, 0, old="pending")
    add(datasets, 10, begins="pending")
    tail = Tail(datasets.client, datasets.settings, EventFilter(), short_retry())
    assert [event.event_id for event in tail.last(1)] == ["begins"]
    assert tail.new() == []
    add(datasets, 30, newest="lost")
    assert [event.event_id for event in tail.new()] == ["newest"]
    add(datasets, 20, late="pending")
    assert [event.event_id for event in tail.new()] == ["late"]
    assert tail.new() == []


def test_follow_prints_new_events_until_it_is_interrupted(datasets: Datasets) -> None:
    add(datasets, 0, before="pending")
    command = [sys.executable, "-m", "sluice.cli", "tail", "-n", "0", "--interval", "0.5", "--json"]
    environment = {**os.environ, **datasets.environment}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        add(datasets, 3600, after="pending")
        assert json.loads(process.stdout.readline())["event_id"] == "after"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in errors
