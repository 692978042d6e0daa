"""Batch mode: what is published is archived and loaded, and each message is acknowledged once it is durable."""

import dataclasses
import functools
import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import Forbidden
from google.cloud import bigquery

from functions.clients import storage_client
from functions.drain import drain, subscription
from functions.drain.ledger import Ledger, Pause, StoredLedger
from functions.drain.limits import MAX_SECONDS
from functions.drain.loads import Loads
from functions.reconcile.reconciler import Reconciler
from functions.system import System
from sluice.local.stack import Emulators
from sluice.shop.generator import Generated
from tests.support import broken_tables, samples
from tests.support.drained import Drained, drained
from tests.support.waiting import wait_until

SETTLED = ["load/ledger.json"]
HOUR = timedelta(hours=1)


@pytest.fixture
def batch(running_emulators: Emulators) -> Iterator[Drained]:
    with drained(running_emulators) as opened:
        yield opened


def published_ids(events: list[Generated]) -> list[str]:
    return sorted(event.attributes["event_id"] for event in events)


def loaded_ids(batch: Drained) -> list[str]:
    return sorted(itertools.chain(*batch.ids().values()))


def test_all_events_are_loaded_once_and_archived(batch: Drained) -> None:
    events = batch.publish(500)
    report = batch.drain()
    assert (report.errors, report.messages, report.is_empty) == ([], 500, True)
    batch.settle()
    assert loaded_ids(batch) == published_ids(events)
    archived = [envelope.event_id for lines in batch.datasets.objects().values() for envelope in lines]
    assert sorted(archived) == published_ids(events)
    assert batch.load_objects() == SETTLED
    reconcile = Reconciler(batch.datasets.client, batch.datasets.storage, batch.settings)
    now = datetime.now(UTC)
    assert reconcile(now - HOUR, now + HOUR).is_complete


def test_a_backlog_is_written_in_chunks(batch: Drained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "CHUNK_MESSAGES", 100)
    events = batch.publish(450)
    report = batch.drain()
    assert report.chunks >= 5
    batch.settle()
    assert loaded_ids(batch) == published_ids(events)
    assert len(batch.datasets.objects()) == report.chunks


def test_a_run_without_messages_writes_nothing(batch: Drained) -> None:
    report = batch.drain()
    assert (report.messages, report.is_empty, batch.load_objects()) == (0, True, [])


def test_the_time_of_a_run_ends_it(batch: Drained) -> None:
    batch.publish(10)
    times = itertools.chain([0.0], itertools.repeat(MAX_SECONDS + 1.0))
    report = dataclasses.replace(batch.new(), system=System(monotonic=lambda: next(times)))()
    assert (report.messages, report.is_empty) == (0, False)


def test_two_runs_at_once_load_each_event_once(batch: Drained) -> None:
    events = batch.publish(600)
    runs = [batch.new() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda run: run(), runs))
    assert [report.errors for report in reports] == [[], [], []]
    assert sum(report.messages for report in reports) == 600
    batch.settle()
    assert loaded_ids(batch) == published_ids(events)


def _crash(*_: object) -> None:
    raise KeyboardInterrupt


CRASHES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the ledger": lambda patch: patch.setattr(Loads, "advance", _crash),
    "with the ledger written": lambda patch: patch.setattr(Loads, "_start", _crash),
    "with a job started": lambda patch: patch.setattr(StoredLedger, "replace", _then_crash(StoredLedger.replace)),
}


def _then_crash[**P](call: Callable[P, object]) -> Callable[P, None]:
    def crash(*arguments: P.args, **named: P.kwargs) -> None:
        call(*arguments, **named)
        raise KeyboardInterrupt

    return crash


@pytest.mark.parametrize("where", CRASHES)
def test_the_next_run_loads_what_a_crash_has_left(batch: Drained, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    events = batch.publish(60)
    with monkeypatch.context() as patch:
        CRASHES[where](patch)
        with pytest.raises(KeyboardInterrupt):
            batch.drain()
    batch.settle()
    assert loaded_ids(batch) == published_ids(events)
    assert batch.load_objects() == SETTLED


def test_a_crash_while_loaded_files_are_deleted_loads_nothing_twice(
    batch: Drained, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = batch.publish(60)
    batch.drain()
    wait_until(lambda: loaded_ids(batch) == published_ids(events), "all is loaded", pause=0.2)
    with monkeypatch.context() as patch:
        patch.setattr(Loads, "_delete", _then_crash(Loads._delete))
        with pytest.raises(KeyboardInterrupt):
            batch.drain()
    batch.settle()
    assert loaded_ids(batch) == published_ids(events)


def test_messages_of_a_crashed_run_come_again(batch: Drained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator gives a message to the next run when the lease ends, after the subscription's ack deadline."""
    events = batch.publish(20)
    with monkeypatch.context() as patch:
        patch.setattr(subscription.Subscription, "acknowledge", _crash)
        with pytest.raises(KeyboardInterrupt):
            batch.drain()
    batch.settle()
    assert loaded_ids(batch) == published_ids(events), "what is in a load file is loaded, acknowledged or not"


def publish_order(batch: Drained, event_id: str, **fields: object) -> None:
    event = samples.event("order", order_date=datetime.now(UTC).isoformat(), **fields)
    batch.publish_data(json.dumps(event).encode(), event_id)


def test_a_bad_row_alone_becomes_a_dead_letter(batch: Drained) -> None:
    good, bad = {"EVENT-0", "EVENT-1", "EVENT-3"}, {"EVENT-2", "EVENT-4"}
    with broken_tables.other_type(batch.datasets.client, f"{batch.settings.dataset}.orders"):
        for event_id in sorted(good | bad):
            publish_order(batch, event_id, **({"new": "text"} if event_id in bad else {}))
            assert batch.drain().messages == 1
        batch.settle()
    batch.settle()
    assert set(batch.ids()["orders"]) == good
    letters = batch.datasets.rows("live.dead_letters")
    assert {(letter["event_id"], letter["stage"]) for letter in letters} == {(name, "warehouse") for name in bad}
    assert all(json.loads(letter["payload"])["new"] == "text" for letter in letters)


def test_rows_wait_for_a_column_that_their_table_lacks(batch: Drained) -> None:
    table = f"{batch.settings.dataset}.orders"
    batch.datasets.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
    publish_order(batch, "EVENT", new="text")
    wait_until(lambda: "orders" in paused(batch), "the job fails", pause=0.1)
    batch.datasets.client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN extras JSON")
    batch.settle(ahead=HOUR)
    assert batch.ids()["orders"] == ["EVENT"]


def paused(batch: Drained) -> dict[str, Pause]:
    """Run once, and return the tables that are paused."""
    batch.drain()
    return ledger(batch).pauses


def ledger(batch: Drained) -> Ledger:
    storage = storage_client(batch.settings)
    return StoredLedger(storage.bucket(batch.settings.archive_bucket), 10).read()[0]


def test_failed_jobs_are_repeated_after_longer_and_longer_pauses(batch: Drained) -> None:
    blob = batch.datasets.storage.bucket(batch.settings.archive_bucket).blob(
        "load/orders/20260101T000000.000000Z-x-1.ndjson.gz"
    )
    blob.upload_from_string(gzip.compress(b'{"nonsense":1}\n'))
    ahead, pauses = timedelta(), list[timedelta]()
    for failures in range(1, 4):
        wait_until(functools.partial(has_failed, batch, ahead), "the job fails", pause=0.1)
        pause = ledger(batch).pauses["orders"]
        assert pause.failures == failures
        pauses.append(pause.until - datetime.now(UTC) - ahead)
        ahead += 2 * pauses[-1]
    assert pauses == sorted(pauses)
    blob.delete()
    batch.settle(ahead + HOUR)
    assert batch.load_objects() == SETTLED


def has_failed(batch: Drained, ahead: timedelta) -> bool:
    """Run once by a clock that is ahead, and return whether a job has failed since the last run."""
    report = batch.new(ahead)()
    return report.loads is not None and report.loads.failed_jobs > 0


def _reject(patch: pytest.MonkeyPatch, method: str, is_rejected: Callable[[str], bool]) -> None:
    """Let BigQuery reject the requests for some jobs."""
    request = getattr(bigquery.Client, method)

    def rejected(client: bigquery.Client, *arguments: Any, **named: Any) -> Any:
        if is_rejected(named.get("job_id") or arguments[0]):
            raise Forbidden("injected")  # type: ignore[no-untyped-call]
        return request(client, *arguments, **named)

    patch.setattr(bigquery.Client, method, rejected)


def test_a_job_that_cannot_be_seen_stops_no_other(batch: Drained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another account has started it."""
    batch.publish(60)
    batch.drain()
    with monkeypatch.context() as patch:
        _reject(patch, "get_job", lambda job_id: "_orders_" in job_id)
        wait_until(lambda: pending_tables(batch) == {"orders"}, "all other tables are loaded", pause=0.1)
    batch.settle()
    assert batch.load_objects() == SETTLED


def pending_tables(batch: Drained) -> set[str]:
    """Run once, and return the tables with load files that are left."""
    batch.drain()
    return {name.split("/")[1] for name in batch.load_objects()} - {"ledger.json"}


def test_files_of_an_outage_of_bigquery_go_into_one_job(batch: Drained, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Generated] = []
    with monkeypatch.context() as patch:
        _reject(patch, "load_table_from_uri", lambda _: True)
        for seed in range(4):
            events += batch.publish(20, seed)
            assert batch.drain().loads
    assert len({load.table for load in ledger(batch).loads}) == len(ledger(batch).loads)
    batch.drain()
    batch.drain()
    assert max(len(load.files) for load in ledger(batch).loads) > 1
    batch.settle()
    assert loaded_ids(batch) == published_ids(events)


def test_unknown_fields_are_json_values_in_load_files(batch: Drained) -> None:
    """BigQuery would keep a text as a JSON string. The table may be without the column when the file is written."""
    batch.datasets.client.query_and_wait(f"ALTER TABLE `{batch.settings.dataset}.orders` DROP COLUMN extras")
    publish_order(batch, "EVENT", new="text")
    batch.drain()
    [name] = [name for name in batch.load_objects() if "/orders/" in name]
    blob = batch.datasets.storage.bucket(batch.settings.archive_bucket).blob(name)
    assert json.loads(gzip.decompress(blob.download_as_bytes()))["extras"] == {"new": "text"}
