"""An interrupted erasure continues where it stopped, and what changed meanwhile does not escape it."""

import json
import pathlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from functions.archive.compaction import HourCompaction
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.events import event_types
from sluice.erase import checkpoint
from sluice.local.stack import Emulators
from tests.support import command_line, samples
from tests.support.background import event_loop
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.fault_proxy import STORAGE, Fault, Forward, Proxy, Rule, silence
from tests.support.waiting import PATIENCE

NOW = datetime.now(UTC)
HOURS = [(NOW - timedelta(hours=hours)).replace(minute=0, second=0, microsecond=0) for hours in (6, 5, 4)]

EACH_HOUR_ALONE = "from sluice.erase import archive; archive._OBJECTS_AT_ONCE = 1; from sluice.cli import app; app()"


@pytest.fixture
def datasets(running_emulators: Emulators, monkeypatch: pytest.MonkeyPatch) -> Iterator[Datasets]:
    """Three hours with three objects each, of Ada's and Bob's orders."""
    monkeypatch.setattr(checkpoint, "CLOCK_MARGIN", timedelta())  # All objects are new here.
    with fresh_datasets(running_emulators) as fresh:
        for hour in HOURS:
            for minute in range(3):
                write(fresh, hour + timedelta(minutes=minute), "ada" if minute else "cyd", "bob")
        yield fresh


def write(datasets: Datasets, time: datetime, *persons: str, **changes: Any) -> None:
    """Write an object with an order of each person, as `ingest` does."""
    process, archive = EventPipeline.from_settings(datasets.settings), datasets.archive()
    messages = []
    for person in persons:
        event = samples.event("order", **{"customer_id": person, "order_date": time.isoformat(), **changes})
        event_id = f"{person}-{time:%H%M}"
        messages.append(Message(json.dumps(event).encode(), {"event_id": event_id}, f"m-{event_id}", time))
    archive.write(archive.name(time), [process(message, NOW) for message in messages], 60)


def erase(datasets: Datasets, file: pathlib.Path, *more: str, code: int = 0) -> dict[str, Any]:
    arguments = ["erase", "--customer", "ada", "--checkpoint", str(file), "--json", *more]
    ended = command_line.sluice(arguments, datasets.environment)
    assert ended.returncode == code, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def persons(datasets: Datasets) -> set[str]:
    return {envelope.event_id[:3] for archived in datasets.objects().values() for envelope in archived}


def passing() -> Fault:
    """No fault: its rule counts requests."""

    async def forwarded(_: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        return (await forward(body)).response()

    return Fault("none", forwarded)


def test_killed_run_is_continued_without_reading_finished_hours(
    datasets: Datasets, running_emulators: Emulators, tmp_path: pathlib.Path
) -> None:
    file, reached = tmp_path / "checkpoint", threading.Event()
    downloads = [f"^GET /download/.*hr={hour:%H}/" for hour in HOURS]
    with event_loop() as run, pytest.MonkeyPatch.context() as patch:
        proxy = Proxy({STORAGE: [running_emulators.storage]})
        run(proxy.__aenter__())
        try:
            for name, value in {**datasets.environment, "STORAGE_EMULATOR_HOST": proxy.url(STORAGE)}.items():
                patch.setenv(name, value)
            arguments = ["erase", "--customer", "ada", "--checkpoint", str(file)]
            with proxy.breaking(Rule(silence(reached=reached), STORAGE, downloads[1])):
                with subprocess.Popen([sys.executable, "-c", EACH_HOUR_ALONE, *arguments]) as process:
                    assert reached.wait(PATIENCE)
                    process.kill()
                assert process.returncode == -signal.SIGKILL
            with file.open("ab") as torn:
                torn.write(b'{"hour":"gs://')
            assert "ada" in persons(datasets)
            reads = [Rule(passing(), STORAGE, path) for path in downloads]
            with proxy.breaking(*reads):
                answer = erase(datasets, file)
        finally:
            run(proxy.__aexit__())
    assert [rule.hits for rule in reads] == [0, 3, 3]
    assert (answer["objects_skipped"], answer["objects_read"], answer["forecast"]["objects"]) == (3, 6, 6)
    assert persons(datasets) == {"bob", "cyd"}
    assert erase(datasets, file)["objects_read"] == 0
    assert "ada" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


def late(datasets: Datasets) -> int:
    write(datasets, HOURS[0] + timedelta(minutes=30), "ada", "bob")
    return 1


def compacted(datasets: Datasets) -> int:
    """The object is read as a new one, and as one that may have lines of originals that were rewritten."""
    write(datasets, HOURS[0] + timedelta(minutes=30), "ada", "bob")
    HourCompaction(datasets.storage, datasets.settings.archive_bucket, event_types())(HOURS[0])
    return 2


def replaced(datasets: Datasets) -> int:
    """Another program writes what an object had before."""
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    blob = list(bucket.list_blobs(prefix="raw/"))[1]
    content = blob.download_as_bytes()
    write(datasets, HOURS[0] + timedelta(minutes=45), "ada")
    other = next(new for new in bucket.list_blobs(prefix="raw/") if "4500" in new.name)
    bucket.blob(blob.name).upload_from_string(other.download_as_bytes() + content, content_type=blob.content_type)
    other.delete()
    return 1


@pytest.mark.parametrize("change", [late, compacted, replaced])
def test_what_changed_in_a_finished_hour_is_read_again(
    datasets: Datasets, tmp_path: pathlib.Path, change: Callable[[Datasets], int]
) -> None:
    file = tmp_path / "checkpoint"
    assert erase(datasets, file)["objects_read"] == 9
    changed = change(datasets)
    assert "ada" in persons(datasets)
    answer = erase(datasets, file)
    assert (answer["objects_read"], answer["objects_rewritten"]) == (changed, 1)
    assert persons(datasets) == {"bob", "cyd"}


def test_uncertain_events_of_finished_hours_are_reported_again(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    write(datasets, HOURS[1] + timedelta(minutes=30), "bob", giver={"customer_id": "ada"})
    file = tmp_path / "checkpoint"
    for read in (10, 1):
        answer = erase(datasets, file, code=1)
        assert (answer["objects_read"], len(answer["doubtful"]["places"])) == (read, 1)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["--customer", "eve"], "with other ids or events"),
        (["--event", "bob-0000"], "with other ids or events"),
        (["--from", "2026-01-01"], "--from is not given there, and 2026-01-01T00:00:00+00:00 here"),
        (["--dry-run"], "a dry run changes nothing"),
    ],
)
def test_checkpoint_of_another_request_is_rejected(
    datasets: Datasets, tmp_path: pathlib.Path, more: Sequence[str], problem: str
) -> None:
    file = tmp_path / "checkpoint"
    erase(datasets, file)
    arguments = ["erase", "--customer", "ada", "--checkpoint", str(file), *more]
    rejected = command_line.sluice(arguments, datasets.environment)
    assert (rejected.returncode, problem in " ".join(rejected.stderr.split())) == (2, True), rejected.stderr
    file.write_text("a list of mine\n")
    rejected = command_line.sluice(arguments[:5], datasets.environment)
    assert (rejected.returncode, file.read_text()) == (2, "a list of mine\n")
