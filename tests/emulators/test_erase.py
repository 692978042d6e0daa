"""A person is gone from everywhere, and nobody else is."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.message import Message
from functions.reconciliation import Reconciler
from ops.erase import Erasure, Person
from ops.stack.stack import Emulators
from tests.emulators.datasets import Datasets, fresh_datasets
from tests.unit import samples

NOW = datetime.now(UTC)


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


def message(name: str, event_id: str, age: timedelta = timedelta(), **changes: Any) -> Message:
    time_field = "order_date" if name == "order" else "timestamp"
    payload = json.dumps({**samples.event(name), time_field: (NOW - age).isoformat(), **changes}).encode()
    return Message(payload, {"event_id": event_id}, f"m-{event_id}", NOW)


def sluice(datasets: Datasets, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [pathlib.Path(sys.executable).with_name("sluice"), "erase", *arguments],
        env={**os.environ, **datasets.environment, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fill(datasets: Datasets) -> None:
    """Events of Ada and others, in every place."""
    datasets.stream(
        [
            message("order", "ada-1", customer_id="ada"),
            message("order", "bob-1", customer_id="bob"),
            message("user_activity", "ada-2", user_id="ada"),
            message("inventory", "stock-1"),
            message("order", "ada-bad", customer_id="ada", status="lost"),
            Message(b'{"customer_id": "ada", ', {"event_id": "ada-broken"}, "m-ada-broken", NOW),
            Message(b"\xff", {"event_id": "nobody's"}, "m-nobody", NOW),
            message("order", "ada-long", customer_id="ada", note="x" * 2**21),
            message("order", "bob-long", customer_id="bob", note="x" * 2**21),
        ],
        NOW,
    )
    datasets.stream([message("order", "ada-alone", customer_id="ada")], NOW)
    datasets.stream([message("order", "ada-old", timedelta(days=89), customer_id="ada")], NOW)
    archive = f"gs://{datasets.settings.archive_bucket}/raw/"
    datasets.backfill(archive, now=NOW + timedelta(days=2))  # a copy in history, and a dead letter of another day


def envelopes(datasets: Datasets) -> list[str]:
    return sorted(envelope.event_id for some in datasets.objects().values() for envelope in some)


LEFT = ["bob-1", "bob-long", "nobody's", "stock-1"]


def test_a_person_is_gone_from_everywhere_and_nobody_else_is(datasets: Datasets) -> None:
    fill(datasets)
    assert datasets.ids("historical.orders") == ["ada-old"]
    person = Person({"user_id": "ada", "customer_id": "ada"})
    trial = Erasure(person, datasets.client, datasets.storage, datasets.settings, dry_run=True)()
    before = envelopes(datasets)
    erased = Erasure(person, datasets.client, datasets.storage, datasets.settings)()
    assert erased == trial
    live, historical = datasets.settings.dataset, datasets.settings.historical_dataset
    assert +erased.rows == {
        f"{live}.orders": 3,
        f"{live}.user_activity": 1,
        f"{live}.dead_letters": 3,
        f"{historical}.orders": 1,
    }
    assert (erased.envelopes, erased.objects_deleted, erased.unreadable) == (7, 3, [])
    assert len(before) - erased.envelopes == len(LEFT)
    assert envelopes(datasets) == LEFT
    assert datasets.ids("live.orders") == ["bob-1"]
    assert datasets.ids("historical.orders") == datasets.ids("live.user_activity") == []
    assert sorted(row["event_id"] for row in datasets.rows("live.dead_letters")) == ["bob-long", "nobody's"]
    again = Erasure(person, datasets.client, datasets.storage, datasets.settings)()
    assert (again.rows.total(), again.envelopes) == (0, 0)


def test_what_is_left_is_as_it_was_and_reconciles(datasets: Datasets) -> None:
    fill(datasets)
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    before = {one.event_id: one for some in datasets.objects().values() for one in some}
    Erasure(Person({"user_id": "ada", "customer_id": "ada"}), datasets.client, datasets.storage, datasets.settings)()
    for uri, some in datasets.objects().items():
        assert all(before[one.event_id] == one for one in some)
        blob = bucket.get_blob(uri.split("/", 3)[3])
        counted = {name: int(count) for name, count in blob.metadata.items()}
        types = [one.event_type or "unknown" for one in some]
        assert (counted, blob.content_type) == ({name: types.count(name) for name in types}, "application/gzip")
    found = Reconciler(datasets.client, datasets.storage, datasets.settings)(
        NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    )
    assert (found.is_complete, found.total.extra, found.total.archived) == (True, 0, len(LEFT))


def test_a_run_that_was_interrupted_is_completed_by_the_next(datasets: Datasets) -> None:
    fill(datasets)
    person = Person({"user_id": "ada", "customer_id": "ada"})

    def stop(what: str) -> None:
        if what.startswith("archive"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Erasure(person, datasets.client, datasets.storage, datasets.settings)(advance=stop)
    assert datasets.ids("live.orders") == ["ada-1", "ada-alone", "ada-old", "bob-1"]
    Erasure(person, datasets.client, datasets.storage, datasets.settings)()
    assert datasets.ids("live.orders") == ["bob-1"]
    assert envelopes(datasets) == LEFT


def test_an_object_that_somebody_changes_meanwhile_loses_the_person_all_the_same(datasets: Datasets) -> None:
    datasets.stream([message("order", "a", customer_id="ada"), message("order", "b", customer_id="bob")], NOW)
    erasure = Erasure(Person({"customer_id": "ada"}), datasets.client, datasets.storage, datasets.settings)
    [blob] = datasets.storage.list_blobs(datasets.settings.archive_bucket, prefix="raw/")
    data = blob.download_as_bytes()
    datasets.storage.bucket(datasets.settings.archive_bucket).blob(blob.name).upload_from_string(data)
    change = erasure.rewrite(blob)
    assert (change.removed, change.left) == (1, 1)
    assert envelopes(datasets) == ["b"]


def test_the_command_tells_what_it_did_and_what_it_does_not_reach(datasets: Datasets) -> None:
    fill(datasets)
    trial = sluice(datasets, "--customer", "ada", "--dry-run", "--json")
    assert trial.returncode == 0, trial.stderr
    answer = json.loads(trial.stdout)
    assert (answer["dry_run"], answer["envelopes"], answer["rows"][f"{datasets.settings.dataset}.orders"]) == (
        True,
        6,
        3,
    )
    assert f"{datasets.settings.dataset}.user_activity" not in answer["rows"]
    done = sluice(datasets, "--user", "ada", "--customer", "ada")
    assert done.returncode == 0, done.stderr
    assert "time travel" in done.stderr
    assert "ada" not in done.stdout + done.stderr
    assert envelopes(datasets) == LEFT
    assert sluice(datasets).returncode == sluice(datasets, "--user", "").returncode == 2
