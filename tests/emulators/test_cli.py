"""The `sluice` command as a person runs it."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from tests.support.waiting import PATIENCE

SLUICE = [sys.executable, "-m", "sluice.cli"]
ROOT = pathlib.Path(__file__).parents[2]


def children(marker: str) -> list[str]:
    """Command lines of all processes of these tests whose environment has the marker."""
    command_lines = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"SLUICE_TEST_MARKER={marker}-{os.getpid()}\0".encode() in (process / "environ").read_bytes():
                command_lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return command_lines


needs_proc = pytest.mark.skipif(not pathlib.Path("/proc/self/environ").exists(), reason="needs /proc: run on Linux")


def start(marker: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SLUICE, *arguments],
        cwd=ROOT,
        env={**os.environ, **variables, "SLUICE_TEST_MARKER": f"{marker}-{os.getpid()}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@needs_proc
def test_demo_without_the_cloud_sdk_succeeds_and_cleans_up() -> None:
    process = start("demo-stand-in", "demo", "--stand-in", "--events", "300")
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert re.search(r"Every published event is accounted for: (\d+) of \1", output), output
    assert "a dead letter" in output
    assert "Which customers are worth most" in output
    assert children("demo-stand-in") == []


@needs_proc
@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, *(pytest.param(number, marks=pytest.mark.check) for number in (signal.SIGTERM, signal.SIGHUP))],
)
def test_stack_stops_on_an_interrupt_and_on_a_closed_terminal(number: signal.Signals, tmp_path: pathlib.Path) -> None:
    command = "demo" if number == signal.SIGTERM else "up"
    marker = f"interrupted-{command}-{number}"
    process = start(marker, command, SLUICE_DATA_DIR=str(tmp_path))
    assert process.stdout is not None
    seen, ready = "", "ingest " if command == "up" else "is up"
    while ready not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    process.send_signal(number)
    rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == (0 if command == "up" else 130), seen + rest
    assert "Traceback" not in rest
    assert children(marker) == []


def test_interrupted_publish_continues_without_new_events(running_emulators: Emulators, tmp_path: pathlib.Path) -> None:
    """The second run publishes the rest. Whatever is published by both has the same id."""
    topic, subscription = f"projects/{PROJECT}/topics/resumed", f"projects/{PROJECT}/subscriptions/resumed"
    PublisherClient().create_topic(name=topic)
    subscriber = SubscriberClient()
    subscriber.create_subscription(name=subscription, topic=topic)
    received: list[tuple[bytes, str]] = []

    def receive(until: int) -> None:
        for _ in range(1_000):
            pulled = subscriber.pull(subscription=subscription, max_messages=100, timeout=PATIENCE).received_messages
            received.extend((message.message.data, message.message.attributes["event_id"]) for message in pulled)
            subscriber.acknowledge(subscription=subscription, ack_ids=[message.ack_id for message in pulled])
            if len(received) >= until:
                return

    file = tmp_path / "events.ndjson"
    payloads = [b'{"n": %d}' % (number // 2) for number in range(300)]  # Each line is there twice: two events.
    file.write_bytes(b"\n".join(payloads))
    command = ["publish", str(file), "--topic", topic, "--attribute", "source=test", "--limit", "250"]
    process = start("publish", *command, "--rate", "50")
    receive(20)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    rest = re.search(r"--skip (\d+) --limit (\d+)\.", output)
    assert rest, output
    assert 20 <= int(rest[1]) < 250
    assert int(rest[1]) + int(rest[2]) == 250
    again = start("publish", *command[:-2], "--skip", rest[1], "--limit", rest[2])
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    receive(250)
    assert sorted({event_id: data for data, event_id in received}.values()) == sorted(payloads[:250])
