"""All that reads the archive reads an hour after it is compacted as before, by the addresses that its rows name."""

import gzip
import json
import pathlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from functions.archive import layout
from functions.archive.compaction import HourCompaction
from functions.archive.envelope import read_envelopes
from functions.archive.reader import ArchiveReader, CompactedObject
from functions.core.contracts import Contracts
from functions.core.message import Message
from functions.core.pipeline import EventPipeline
from functions.core.privacy import Privacy
from functions.events import event_types
from functions.reconcile.findings import HourCounts, Reconciliation
from functions.reconcile.reconciler import Reconciler
from functions.reconcile.scheduled import Checkpoints, Part
from sluice.demo.check import ArchiveFollower
from sluice.erase.erasure import Erasure
from sluice.erase.ownership import Persons
from sluice.local.functions import serving
from sluice.local.stack import Emulators
from sluice.record_comparison import ContentComparison
from sluice.trace import trace
from tests.support import samples
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.dead_letter_commands import run
from tests.support.waiting import PATIENCE

NOW = datetime.now(UTC)
HOUR = (NOW - timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
END = HOUR + timedelta(hours=1)


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators, views=True) as fresh:
        fill(fresh)
        yield fresh


def order(event_id: str, **changes: Any) -> Message:
    event = samples.event("order", **{"order_date": HOUR.isoformat(), **changes})
    return Message(json.dumps(event).encode(), {"event_id": event_id}, f"m-{event_id}", HOUR)


def fill(datasets: Datasets) -> None:
    """Two objects each ten minutes, of Ada's and Bob's orders, and a bad one; and all their rows and dead letters.

    They are processed in their hour: of a dead letter of the next day, reconciliation reads the object.
    """
    process, archive = EventPipeline.from_settings(datasets.settings), datasets.archive()
    for number in range(12):
        messages = [order(f"{person}-{number}", customer_id=person) for person in ("ada", "bob")]
        if number == 3:
            messages += [order("ada-long", customer_id="ada", note="x" * 2**21), order("bob-bad", status="lost")]
        archive.write(
            archive.name(HOUR + timedelta(minutes=5 * number)), [process(message, HOUR) for message in messages], 60
        )
    datasets.backfill(f"gs://{datasets.settings.archive_bucket}/raw/", now=HOUR + timedelta(minutes=59))


def compact(datasets: Datasets) -> None:
    done = HourCompaction(datasets.storage, datasets.settings.archive_bucket, event_types())(HOUR)
    assert (done.originals, done.objects, done.events) == (12, 1, 26)


def reconcile(
    datasets: Datasets, start: datetime = HOUR, end: datetime = END, *, contents: bool = False
) -> Reconciliation:
    compare = ContentComparison(Contracts.load(), Privacy.from_settings(datasets.settings)) if contents else None
    return Reconciler(datasets.client, datasets.storage, datasets.settings, compare)(start, end)


def delete(datasets: Datasets, table: str, condition: str = "TRUE") -> None:
    datasets.client.query_and_wait(f"DELETE FROM `{datasets.settings.dataset}.{table}` WHERE {condition}")


def addresses(datasets: Datasets) -> dict[str, str]:
    """Return the address that each row names."""
    return {row["ingest"]["event_id"]: row["ingest"]["archive_uri"] for row in datasets.rows("live.orders")}


def late(datasets: Datasets) -> None:
    process, archive = EventPipeline.from_settings(datasets.settings), datasets.archive()
    archive.write(archive.name(HOUR + timedelta(minutes=21)), [process(order("bob-late"), NOW)], 60)


def test_reconciliation_is_the_same_without_reading(datasets: Datasets, monkeypatch: pytest.MonkeyPatch) -> None:
    before, of_contents = reconcile(datasets), reconcile(datasets, contents=True)
    assert before.total == HourCounts(archived=26, matched=26, rows=24, dead_letters=2)
    compact(datasets)
    assert reconcile(datasets, contents=True).accounts == of_contents.accounts
    halves = HourCounts()
    for start, end in ((HOUR, HOUR + timedelta(minutes=20)), (HOUR + timedelta(minutes=20), END)):
        halves.add(reconcile(datasets, start, end).total)
    assert halves == before.total
    monkeypatch.setattr(CompactedObject, "read", None)
    assert reconcile(datasets).accounts == before.accounts


@pytest.mark.parametrize("also", [lambda _: None, late])
def test_missing_rows_are_found_and_repaired_by_their_addresses(
    datasets: Datasets, also: Callable[[Datasets], None]
) -> None:
    before = addresses(datasets)
    compact(datasets)
    also(datasets)
    delete(datasets, "orders", "ingest.event_id IN ('ada-3', 'bob-7')")
    delete(datasets, "dead_letters", "event_id = 'bob-bad'")
    for contents in (False, True):
        result = reconcile(datasets, contents=contents)
        missing = {event.event_id: event.archive_uri for event in result.missing if event.event_id != "bob-late"}
        assert missing == {"ada-3": before["ada-3"], "bob-7": before["bob-7"], "bob-bad": before["ada-3"]}
        assert (result.total.extra, result.total.different, result.unreadable) == (0, 0, [])
    times = ("--from", HOUR.isoformat(), "--to", END.isoformat())
    run(datasets, "reconcile", *times, "--repair", "--json", code=0)
    assert before.items() <= addresses(datasets).items()
    assert reconcile(datasets).is_complete


def test_replay_and_backfill_name_the_addresses(datasets: Datasets) -> None:
    before = addresses(datasets)
    compact(datasets)
    late(datasets)
    for arguments in (
        ("replay", "--from", HOUR.isoformat(), "--to", END.isoformat()),
        ("backfill", f"gs://{datasets.settings.archive_bucket}/raw/"),
    ):
        delete(datasets, "orders")
        delete(datasets, "dead_letters")
        run(datasets, *arguments)
        assert before.items() <= addresses(datasets).items()
        assert sorted(row["event_id"] for row in datasets.rows("live.dead_letters")) == ["ada-long", "bob-bad"]
    delete(datasets, "orders")
    run(datasets, "replay", "--from", (HOUR + timedelta(minutes=20)).isoformat(), "--to", END.isoformat())
    assert set(addresses(datasets)) == {f"{person}-{n}" for person in ("ada", "bob") for n in range(4, 12)} | {
        "bob-late"
    }


def test_event_is_traced_to_its_bytes(datasets: Datasets) -> None:
    compact(datasets)
    uri = addresses(datasets)["bob-5"]
    for _ in range(2):  # by its row, and by the day
        [archived] = trace("bob-5", datasets.client, datasets.storage, datasets.settings, HOUR.date()).objects
        assert (archived.uri, archived.problem) == (uri, None)
        assert [envelope.message() for envelope in archived.envelopes] == [order("bob-5", customer_id="bob")]
        delete(datasets, "orders", "ingest.event_id = 'bob-5'")
    follower = ArchiveFollower(datasets.storage, datasets.settings.archive_bucket)
    assert len(list(follower.new_envelopes())) == 26
    assert list(follower.new_envelopes()) == []


@pytest.mark.parametrize("also", [lambda _: None, late])
def test_person_is_erased_from_compacted_objects(datasets: Datasets, also: Callable[[Datasets], None]) -> None:
    compact(datasets)
    also(datasets)
    person = Persons({"user_id": {"ada"}, "customer_id": {"ada"}})
    trial = Erasure(person, datasets.client, datasets.storage, datasets.settings, dry_run=True)()
    erased = Erasure(person, datasets.client, datasets.storage, datasets.settings)()
    assert erased == trial
    assert (erased.envelopes, erased.objects_rewritten, erased.objects_deleted) == (13, 1, 0)
    assert (set(erased.objects.values()), len(erased.objects), erased.remaining) == ({1, 2}, 12, [])
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    stored = b"".join(gzip.decompress(blob.download_as_bytes()) for blob in bucket.list_blobs(prefix="raw/"))
    assert b"ada" not in stored
    assert {envelope.event_id for envelope in read_envelopes(stored)} >= {f"bob-{number}" for number in range(12)}
    assert reconcile(datasets).total.missing == (also is late)
    last = Persons({"customer_id": {"bob"}}, frozenset({"bob-bad", "bob-late"}))
    assert Erasure(last, datasets.client, datasets.storage, datasets.settings)().objects_deleted == 1 + (also is late)
    assert list(ArchiveReader(datasets.storage, bucket.name).stored()) == []


def test_function_compacts_the_hours_that_are_complete(
    datasets: Datasets, running_emulators: Emulators, tmp_path: pathlib.Path
) -> None:
    process, archive = EventPipeline.from_settings(datasets.settings), datasets.archive()
    next_hour = [archive.name(END + timedelta(minutes=minute)) for minute in (1, 2)]
    for name in next_hour:
        archive.write(name, [process(order(name), NOW)], 60)
    checkpoints = Checkpoints(datasets.storage, datasets.settings.archive_bucket)
    for start in (HOUR, END):
        checkpoints.add(Part(start, reconcile(datasets, start, start + timedelta(hours=1))))
    environment = {**running_emulators.environment, **datasets.environment}
    with serving("compact", tmp_path, environment, "compact") as function:
        first, second = (httpx.post(function.url, timeout=PATIENCE) for _ in range(2))
        assert httpx.get(function.url).status_code == httpx.codes.METHOD_NOT_ALLOWED
        logged = [json.loads(line) for line in function.child.log.read_text().splitlines() if "compact" in line]
    [hour] = first.json()["hours"]
    assert (hour["hour"], hour["originals"], hour["objects"], hour["events"]) == (HOUR.isoformat(), 12, 1, 26)
    assert first.json()["until"] == second.json()["until"] == END.isoformat(), "the next hour misses events"
    assert second.json()["hours"] == []
    [line] = [line for line in logged if line["message"] == "compaction"]
    assert {name: line[name] for name in hour} == hour
    listed = [blob.name for blob in datasets.storage.list_blobs(datasets.settings.archive_bucket, prefix="raw/")]
    assert [name for name in listed if layout.is_original(name)] == next_hour
