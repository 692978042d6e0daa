"""`sluice drain`: pulls, waits for the load jobs, and shows what is pending."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.drain.drain import DrainReport
from functions.drain.ledger import Ledger, Load, StoredLedger
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.deletions import Patience
from sluice.erase.erasure import Erasure
from sluice.erase.ownership import Persons
from sluice.local.stack import Emulators
from tests.support import command_line, samples
from tests.support.drained import Drained, drained
from tests.support.waiting import PATIENCE


@pytest.fixture
def batch(running_emulators: Emulators) -> Iterator[Drained]:
    with drained(running_emulators) as opened:
        yield opened


def environment(batch: Drained) -> dict[str, str]:
    return {**batch.datasets.environment, "SUBSCRIPTION": str(batch.settings.subscription)}


def drain(batch: Drained, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return command_line.sluice(["drain", *options], environment(batch) | variables)


def drained_json(batch: Drained, *options: str) -> dict[str, Any]:
    done = drain(batch, "--json", *options)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def event_ids(batch: Drained) -> Sequence[str]:
    return sorted(name for names in batch.ids().values() for name in names)


def test_all_events_are_in_the_tables_when_it_ends(batch: Drained) -> None:
    events = batch.publish(300)
    report = drained_json(batch)
    assert event_ids(batch) == sorted(event.attributes["event_id"] for event in events)
    assert (report["messages"], report["loaded_rows"], report["is_empty"], report["pending"]) == (300, 300, True, [])


def test_a_dry_run_shows_pending_files_and_changes_nothing(batch: Drained) -> None:
    assert "No load files are pending." in drain(batch, "--dry-run").stderr
    batch.publish(100)
    batch.drain()
    objects = batch.load_objects()
    pending = drained_json(batch, "--dry-run")["pending"]
    assert {load["table"] for load in pending} == {"orders", "inventory", "user_activity", "dead_letters"}
    assert all(load["job_id"].startswith(f"sluice_drain_{load['table']}_") for load in pending)
    shown = drain(batch, "--dry-run", SUBSCRIPTION="").stdout
    assert all(load["job_id"] in shown for load in pending)
    assert batch.load_objects() == objects


def test_loads_only_finishes_the_jobs_of_earlier_runs(batch: Drained) -> None:
    events = batch.publish(100)
    batch.drain()
    batch.publish(10, seed=2)
    shown = drain(batch, "--loads-only", SUBSCRIPTION="")
    assert (shown.returncode, "rows loaded" in shown.stdout) == (0, True), shown.stderr
    assert event_ids(batch) == sorted(event.attributes["event_id"] for event in events)
    assert drained_json(batch)["messages"] == 10


def test_loads_only_finishes_files_of_a_clock_that_is_ahead(batch: Drained) -> None:
    """The clock of the function that wrote them, or that of this machine, may be wrong."""
    events = batch.publish(100)
    run = batch.new(timedelta(hours=1))
    run.pull(DrainReport(), run.system.monotonic() + PATIENCE)
    assert drained_json(batch, "--loads-only")["loaded_rows"] == 100
    assert batch.load_objects() == ["load/ledger.json"]
    assert event_ids(batch) == sorted(event.attributes["event_id"] for event in events)


def test_a_failed_load_is_named_with_table_and_files(batch: Drained) -> None:
    blob = batch.datasets.storage.bucket(batch.settings.archive_bucket).blob(
        "load/orders/20260101T000000.000000Z-x-1.ndjson.gz"
    )
    blob.upload_from_string(gzip.compress(b'{"nonsense":1}\n'))
    failed = drain(batch)
    assert failed.returncode == 1
    assert "Failed: load job failed, job_id sluice_drain_orders_" in failed.stderr
    assert "Failed: orders: load files that are not loaded: 1; the next run after " in failed.stderr
    shown = drain(batch, "--dry-run")
    assert (shown.returncode, "paused until" in shown.stdout) == (0, True)


def test_a_file_whose_rows_are_inserted_later_is_not_waited_for(batch: Drained) -> None:
    name, later = "load/orders/20260101T000000.000000Z-x-1.ndjson.gz", datetime.now(UTC) + timedelta(hours=1)
    bucket = batch.datasets.storage.bucket(batch.settings.archive_bucket)
    bucket.blob(name).upload_from_string(gzip.compress(b'{"nonsense":1}\n'))
    load = Load(f"sluice_drain_orders_{batch.settings.dataset}", "orders", [name], failures=3, until=later)
    StoredLedger(bucket, PATIENCE).replace(Ledger([load]), 0)
    failed = drain(batch, "--loads-only")
    assert failed.returncode == 1
    assert f"load files that are not loaded: 1; the next run after {later:%H:%M:%S} UTC repeats it" in failed.stderr
    [pending] = drained_json(batch, "--dry-run")["pending"]
    assert (pending["files"], pending["failures"], pending["paused_until"][:19]) == (1, 3, later.isoformat()[:19])


@pytest.mark.parametrize(
    ("subscription", "code", "words"),
    [
        ("", 2, "environment: SUBSCRIPTION is missing"),
        ("events-ingest", 2, "SUBSCRIPTION"),
        ("projects/sluice-local/subscriptions/none", 1, "is SUBSCRIPTION right?"),
    ],
)
def test_a_wrong_subscription_is_named(batch: Drained, subscription: str, code: int, words: str) -> None:
    ended = drain(batch, SUBSCRIPTION=subscription)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert words in ended.stderr


INTERRUPTED = """
import sys
from functions.drain.subscription import Subscription

pull = Subscription.pull

def announced(*arguments):
    print("pulling", flush=True)
    return pull(*arguments)

Subscription.pull = announced
sys.argv = ["sluice", "drain"]
from sluice.cli import app
app()
"""


def test_ctrl_c_while_it_pulls_ends_the_command(batch: Drained) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        env={**os.environ, **environment(batch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "pulling\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, errors
    assert "0 messages are durable. The next run loads them, and pulls the others again." in errors
    assert "Traceback" not in errors


def test_reconcile_and_erase_wait_for_what_is_not_loaded(batch: Drained) -> None:
    """A repair would load it twice, and the rows of the person would come after the erasure."""
    batch.publish(60)
    batch.drain()
    repaired = command_line.sluice(["reconcile", "--repair"], environment(batch) | {"FLUSH_TIMEOUT": "0.01"})
    assert repaired.returncode == 1
    assert "sluice drain --loads-only" in repaired.stderr
    settings, client, storage = batch.settings, batch.datasets.client, batch.datasets.storage
    person = Persons({"customer_id": {"nobody"}})
    impatient = Erasure(person, client, storage, settings, patience=Patience(0))()
    assert any("load files" in remaining for remaining in impatient.remaining)
    batch.settle()
    assert Erasure(person, client, storage, settings, patience=Patience(0))().remaining == []
    assert command_line.sluice(["reconcile", "--repair"], environment(batch)).returncode == 0


def test_what_arrives_while_an_erasure_runs_leaves_no_rows(batch: Drained, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is archived after the dead letters were searched, and loaded when it is gone from the archive."""
    search = DeadLetters.erase

    def search_first(letters: DeadLetters) -> None:
        search(letters)
        for event_id, status in (("row", "pending"), ("dead letter", "lost")):
            event = samples.event("order", customer_id="ada", order_date=datetime.now(UTC).isoformat(), status=status)
            batch.publish_data(json.dumps(event).encode(), event_id)
        run, report = batch.new(), DrainReport()
        run.pull(report, run.system.monotonic() + PATIENCE)
        assert report.messages == 2

    monkeypatch.setattr(DeadLetters, "erase", search_first)
    erasure = Erasure(
        Persons({"customer_id": {"ada"}}),
        batch.datasets.client,
        batch.datasets.storage,
        batch.settings,
        patience=Patience(PATIENCE, pause=0.1),
    )
    erased = erasure(advance=lambda text, _=(): "load files" in text and batch.drain())
    batch.settle()
    assert (erased.remaining, erased.envelopes) == ([], 2)
    assert event_ids(batch) == []
