"""`sluice beam`: files through the pipeline on Apache Beam, as a person runs it."""

import contextlib
import gzip
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from functions.archive.envelope import Envelope
from functions.core.message import Message
from sluice.local.stack import Emulators
from sluice.shop.generator import generate
from tests.support.beam_process import ENVIRONMENT, HOW_TO_GET
from tests.support.command_line import sluice
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.requires import missing
from tests.support.waiting import PATIENCE, wait_until

NOW = datetime.now(UTC)

pytestmark = pytest.mark.check


@pytest.fixture(autouse=True)
def _beam(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Beam, and a place for the logs that are kept of runs that fail."""
    if not (ENVIRONMENT / "ready").exists():
        missing(HOW_TO_GET)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("logs")))


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


def messages(number: int) -> list[Message]:
    """Good and bad events, no two of which are one."""
    generated = itertools.islice(generate(seed=17, start=NOW, bad_share=0.1, duplicate_share=0), number)
    return [Message(event.data, event.attributes, str(position), NOW) for position, event in enumerate(generated)]


def lines(events: list[Message]) -> bytes:
    return b"".join(message.data.replace(b"\n", b" ") + b"\n" for message in events)


def sealed(events: list[Message]) -> bytes:
    return msgspec.json.Encoder().encode_lines([Envelope.from_message(message, None) for message in events])


def run(datasets: Datasets, *arguments: object) -> dict[str, Any]:
    ended = sluice(["beam", *arguments, "--json"], datasets.environment)
    assert ended.returncode == 0, ended.stderr
    counts: dict[str, Any] = json.loads(ended.stdout)
    return counts


def stored(datasets: Datasets) -> dict[str, int]:
    tables = ("orders", "inventory", "user_activity", "dead_letters")
    return {name: len(datasets.rows(f"live.{name}")) for name in tables}


def test_events_of_all_forms_are_counted_and_stored(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    """Plain events have the ids that a backfill gives them: it finds none to load but what is too old for Beam."""
    events = messages(120)
    (tmp_path / "a, b.ndjson").write_bytes(lines(events[:60]))
    (tmp_path / "c.gz").write_bytes(gzip.compress(sealed(events[60:])))
    counts = run(datasets, tmp_path / "a, b.ndjson", tmp_path)
    there = stored(datasets)
    assert counts["files"] == 2
    assert counts["rows"] == {name: number for name, number in there.items() if number and name != "dead_letters"}
    assert sum(counts["dead_letters"].values()) == there["dead_letters"] > 0
    assert counts["events"] == sum(there.values()) == sum(map(len, datasets.objects().values()))
    assert (counts["unfinished"], counts["objects"]) == (0, len(datasets.objects()))
    report = datasets.backfill(tmp_path, now=NOW)
    assert {table.partition(".")[0] for table in report.rows} <= {datasets.settings.historical_dataset}
    assert sum(report.dead_letters.values()) == 0


def test_overlapping_patterns_read_each_object_once(datasets: Datasets) -> None:
    datasets.stream(messages(50), NOW)
    bucket = f"gs://{datasets.settings.archive_bucket}"
    before = datasets.objects()
    counts = run(datasets, f"{bucket}/raw/", f"{bucket}/raw/dt=*/**", "--dry-run")
    assert (counts["files"], counts["events"]) == (len(before), 50)


def test_a_dry_run_counts_the_same_and_writes_nothing(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(sealed(messages(80)))
    dry = run(datasets, file, "--dry-run")
    assert sum(stored(datasets).values()) == len(datasets.objects()) == 0
    wet = run(datasets, file)
    same = ("files", "events", "rows", "dead_letters", "objects")
    assert [dry[name] for name in same] == [wet[name] for name in same]


def test_people_see_a_table(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(b'{"event_type": "order"}\nno JSON\n')
    ended = sluice(["beam", file], datasets.environment)
    assert ended.returncode == 0, ended.stderr
    assert "dead letters written: contract       1" in ended.stdout
    assert "dead letters written: decode         1" in ended.stdout
    assert "INFO" not in ended.stderr
    assert "INFO:apache_beam" in sluice(["beam", file, "--dry-run", "--verbose"], datasets.environment).stderr


def test_an_event_without_its_id_is_named_and_left_out(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "log.ndjson"
    file.write_bytes(b'{"event_type": "order", "order_id": "o-1"}\n\n{"event_type": "order"}\n')
    ended = sluice(["beam", file, "--id-field", "$.order_id", "--json"], datasets.environment)
    assert (ended.returncode, json.loads(ended.stdout)["without_id"]) == (1, 1)
    assert f"Skipped: {file} line 3: $.order_id is missing" in ended.stderr
    assert [row["event_id"] for row in datasets.rows("live.dead_letters")] == ["o-1"]


def test_a_file_that_breaks_off_is_named_with_its_last_line(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "broken.gz"
    file.write_bytes(gzip.compress(sealed(messages(40)))[:-20])
    ended = sluice(["beam", file], datasets.environment)
    assert ended.returncode == 1
    assert f"Failed: {file}: after line " in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Run the command again" in ended.stderr


def test_a_file_that_is_no_ndjson_has_its_whole_name(
    datasets: Datasets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part before its last dot is not the module of an error."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("orders.csv").write_text("a,b\n")
    ended = sluice(["beam", "orders.csv", "--dry-run"], datasets.environment)
    assert ended.returncode == 1
    assert f"Failed: {tmp_path.resolve()}/orders.csv: is not NDJSON" in ended.stderr


def test_error_of_bigquery_is_reported_in_one_sentence(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(sealed(messages(20)))
    datasets.client.delete_table(f"{datasets.settings.dataset}.orders")
    ended = sluice(["beam", file], {**datasets.environment, "FLUSH_TIMEOUT": "5"})
    assert ended.returncode == 1
    [why] = [line for line in ended.stderr.splitlines() if line.startswith("Failed: ")]
    assert "notFound" in why
    assert "orders" in why
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"IP_POLICY": "hash"}, "--ip_policy=hash needs"),
        ({"SLUICE_BEAM_PYTHON": "/nowhere"}, "/nowhere is not a Python interpreter"),
    ],
    ids=str,
)
def test_error_before_the_start_is_reported_in_one_sentence(
    datasets: Datasets, tmp_path: pathlib.Path, setting: dict[str, str], why: str
) -> None:
    file = tmp_path / "events.ndjson"
    file.write_bytes(sealed(messages(1)))
    ended = sluice(["beam", file], {**datasets.environment, **setting})
    assert ended.returncode in {1, 2}
    assert why in ended.stderr
    assert ended.stdout == ""


def test_ctrl_c_ends_it_and_beam(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    """BigQuery never answers: the archive has the events, and the run ends in the middle of a batch."""
    file = tmp_path / "events.ndjson"
    file.write_bytes(sealed(messages(20)))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(PATIENCE)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = subprocess.Popen(
            [sys.executable, "-m", "sluice.cli", "beam", str(file)],
            env={**os.environ, **datasets.environment, "BIGQUERY_EMULATOR_HOST": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(command.kill)
        for _ in range(2):  # The first only looks whether there is a stack.
            connection, _ = server.accept()
            stack.enter_context(connection)
        beam = children(command.pid)
        command.send_signal(signal.SIGINT)
        shown, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == 130, errors
    assert "not confirmed as written" in shown, errors
    assert "Interrupted." in errors
    assert "Run the command again" in errors
    assert "Traceback" not in errors
    assert beam
    wait_until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in beam), "Beam has ended")
    assert len(datasets.objects()) == 1


def children(parent: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]
