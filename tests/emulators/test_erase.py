"""A person is gone from everywhere, and nobody else is."""

import base64
import contextlib
import gzip
import json
import pathlib
import re
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from google.cloud import bigquery
from google.cloud.storage import Blob

from functions.archive.reader import Archived, ArchiveReader
from functions.archive.summary import Summary
from functions.clients import bigquery_client
from functions.core.message import Message
from functions.events import event_types
from functions.reconcile.reconciler import Reconciler
from sluice.erase.archive import ArchiveErasure
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.deletions import Deletions, Patience
from sluice.erase.erasure import Erasure
from sluice.erase.ownership import Persons
from sluice.erase.report import Erased, Listed
from sluice.local.stack import Emulators
from sluice.snapshots import Snapshots
from tests.support import command_line, samples
from tests.support.background import event_loop
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.fault_proxy import BIGQUERY, Fault, Forward, Proxy, Rule, google_error

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
    return command_line.sluice(["erase", *arguments], {**datasets.environment, "COLUMNS": "160"})


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
            Message(b"\xff {", {"event_id": "nobody's"}, "m-nobody", NOW),
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
    return sorted(envelope.event_id for archived in datasets.objects().values() for envelope in archived)


LEFT = ["bob-1", "bob-long", "nobody's", "stock-1"]


def test_person_is_erased_everywhere_and_other_people_are_not(datasets: Datasets) -> None:
    fill(datasets)
    assert datasets.ids("historical.orders") == ["ada-old"]
    person = Persons({"user_id": {"ada"}, "customer_id": {"ada"}})
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
    assert (erased.envelopes, erased.objects_deleted, erased.remaining) == (7, 3, [])
    assert (sum(erased.objects.values()), erased.doubtful) == (7, Listed())
    assert len(before) - erased.envelopes == len(LEFT)
    assert envelopes(datasets) == LEFT
    assert datasets.ids("live.orders") == ["bob-1"]
    assert datasets.ids("historical.orders") == datasets.ids("live.user_activity") == []
    assert sorted(row["event_id"] for row in datasets.rows("live.dead_letters")) == ["bob-long", "nobody's"]
    again = Erasure(person, datasets.client, datasets.storage, datasets.settings)()
    assert (again.rows.total(), again.envelopes) == (0, 0)


def test_many_persons_are_erased_by_the_statements_of_one(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    fill(datasets)
    file = tmp_path / "ids"
    others = (f"customer_id=nobody-{number:040}" for number in range(1_500))
    file.write_text("\n".join(["# of May", "user_id=ada", "customer_id=ada", "", *others, "customer_id=bob"]))
    queries = []
    with pytest.MonkeyPatch.context() as patch:
        query = bigquery.Client.query_and_wait

        def counted(*arguments: Any, **options: Any) -> Any:
            queries.append(arguments)
            return query(*arguments, **options)

        patch.setattr(bigquery.Client, "query_and_wait", counted)
        for given in (["--ids-file", str(file)], ["--customer", "somebody"]):
            queries.clear()
            erased = sluice(datasets, *given, "--json")
            assert (erased.returncode, len(queries)) == (0, 9), erased.stderr
    assert envelopes(datasets) == ["nobody's", "stock-1"]
    assert datasets.ids("live.orders") == datasets.ids("live.user_activity") == datasets.ids("historical.orders") == []
    assert [row["event_id"] for row in datasets.rows("live.dead_letters")] == ["nobody's"]


def test_remaining_events_are_unchanged_and_reconcile(datasets: Datasets) -> None:
    fill(datasets)
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    before = {envelope.event_id: envelope for archived in datasets.objects().values() for envelope in archived}
    Erasure(
        Persons({"user_id": {"ada"}, "customer_id": {"ada"}}), datasets.client, datasets.storage, datasets.settings
    )()
    for uri, archived in datasets.objects().items():
        assert all(before[envelope.event_id] == envelope for envelope in archived)
        blob = bucket.get_blob(uri.split("/", 3)[3])
        assert Summary.from_metadata(blob.metadata) == Summary.of(archived, event_types())
        assert blob.content_type == "application/gzip"
    reconciliation = Reconciler(datasets.client, datasets.storage, datasets.settings)(
        NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    )
    assert (reconciliation.is_complete, reconciliation.total.extra, reconciliation.total.archived) == (
        True,
        0,
        len(LEFT),
    )


def test_a_run_that_was_interrupted_is_completed_by_the_next(datasets: Datasets) -> None:
    fill(datasets)
    person = Persons({"user_id": {"ada"}, "customer_id": {"ada"}})

    def stop(what: str, _: Sequence[Archived] = (), /) -> None:
        if what.startswith("archive"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Erasure(person, datasets.client, datasets.storage, datasets.settings)(advance=stop)
    assert datasets.ids("live.orders") == ["ada-1", "ada-alone", "ada-old", "bob-1"]
    Erasure(person, datasets.client, datasets.storage, datasets.settings)()
    assert datasets.ids("live.orders") == ["bob-1"]
    assert envelopes(datasets) == LEFT


def test_person_is_erased_from_a_concurrently_changed_object(datasets: Datasets) -> None:
    datasets.stream([message("order", "a", customer_id="ada"), message("order", "b", customer_id="bob")], NOW)
    person, erased, storage = Persons({"customer_id": {"ada"}}), Erased(), datasets.storage
    dead_letters = DeadLetters(person, storage, "dead_letters", Deletions(datasets.client, erased), erased)
    erasure = ArchiveErasure(person, storage, datasets.settings.archive_bucket, dead_letters, erased)
    [archived] = ArchiveReader(datasets.storage, datasets.settings.archive_bucket).objects()
    blob = Blob.from_uri(archived.uri, client=datasets.storage)
    blob.upload_from_string(blob.download_as_bytes())
    change = erasure.rewrite(archived)
    assert (len(change.removed), change.remaining) == (1, 1)
    assert envelopes(datasets) == ["b"]


BUFFERED = "UPDATE or DELETE statement over table would affect rows in the streaming buffer, which is not supported"


def buffering(bounded: int) -> Fault:
    """BigQuery that has all dead letters in its streaming buffer: it rejects every statement without a bound, and the
    first few that have one."""
    rejected = 0

    async def spoil(_: web.BaseRequest, body: bytes, forward: Forward) -> web.StreamResponse:
        nonlocal rejected
        if b"DELETE" in body and b"dead_letters" in body and (b"@before" not in body or rejected < bounded):
            rejected += b"@before" in body
            return google_error(400, BUFFERED)
        return (await forward(body)).response()

    return Fault("streaming buffer", spoil)


@contextlib.contextmanager
def behind(datasets: Datasets, emulator: str, fault: Fault) -> Iterator[bigquery.Client]:
    """A client of the emulator whose new jobs a fault befalls."""
    with event_loop() as run, pytest.MonkeyPatch.context() as patch:
        proxy = Proxy({BIGQUERY: [emulator]})
        run(proxy.__aenter__())
        try:
            patch.setenv("BIGQUERY_EMULATOR_HOST", proxy.url(BIGQUERY))
            with proxy.breaking(Rule(fault, BIGQUERY, "^POST .*/jobs$")):
                yield bigquery_client(datasets.settings)
        finally:
            run(proxy.__aexit__())


def long_letter() -> Message:
    """Its bytes are too many for the dead letters."""
    return message("order", "ada-long", customer_id="ada", status="lost", note="x" * 3 * 2**20)


def test_object_is_kept_while_a_dead_letter_needs_its_bytes(datasets: Datasets, running_emulators: Emulators) -> None:
    datasets.stream([message("order", "ada-bad", customer_id="ada", status="lost")], NOW)
    datasets.stream([long_letter()], NOW)
    assert {row["payload"] is None for row in datasets.rows("live.dead_letters")} == {True, False}
    person = Persons({"customer_id": {"ada"}})
    with behind(datasets, running_emulators.bigquery, buffering(1_000)) as client:
        impatient = Erasure(person, client, datasets.storage, datasets.settings, patience=Patience(0))()
    assert len(impatient.remaining) == 2
    assert envelopes(datasets) == ["ada-long"]
    assert len(datasets.rows("live.dead_letters")) == 2
    with behind(datasets, running_emulators.bigquery, buffering(2)) as client:
        patient = Erasure(person, client, datasets.storage, datasets.settings, patience=Patience(30, pause=0.05))()
    assert (patient.remaining, patient.objects_deleted) == ([], 1)
    assert (envelopes(datasets), datasets.rows("live.dead_letters")) == ([], [])


def test_uncertain_events_are_reported_and_kept(datasets: Datasets) -> None:
    datasets.stream([Message(b"7, broken", {"event_id": "whose"}, "m-1", NOW)], NOW)
    datasets.stream([Message(b'"7", broken', {"event_id": "theirs"}, "m-2", NOW)], NOW)
    erased = Erasure(Persons({"customer_id": {"7"}}), datasets.client, datasets.storage, datasets.settings)()
    assert (erased.unparsed, erased.remaining, erased.doubtful.count) == (2, [], 2)
    assert all(place.startswith("event whose in ") for place in erased.doubtful.places)
    assert envelopes(datasets) == ["whose"]


def test_erased_counts_are_reported_when_a_later_step_fails(datasets: Datasets) -> None:
    fill(datasets)
    datasets.client.delete_table(f"{datasets.settings.historical_dataset}.user_activity")
    failed = sluice(datasets, "--user", "ada", "--customer", "ada", "--json")
    assert failed.returncode == 1
    answer = json.loads(failed.stdout)
    assert (answer["complete"], answer["envelopes"]) == (False, 7)
    assert sum(answer["objects"].values()) == 7
    assert "Failed:" in failed.stderr


@pytest.mark.check
@pytest.mark.parametrize(
    "torn",
    [b"torn", gzip.compress(b"{}")[:-4], gzip.compress(b'{"event_id":"ada\xff"}\n')],
    ids=["no gzip", "cut", "not UTF-8"],
)
def test_remaining_data_is_named_with_exit_code_1_until_erased(datasets: Datasets, torn: bytes) -> None:
    datasets.stream([message("order", "a", customer_id="ada")], NOW)
    datasets.stream([long_letter()], NOW)
    bucket = datasets.storage.bucket(datasets.settings.archive_bucket)
    blobs = list(bucket.list_blobs())
    for blob in blobs:
        bucket.blob(blob.name).upload_from_string(torn)
    remaining = sluice(datasets, "--customer", "ada")
    assert remaining.returncode == 1
    for blob in blobs:
        assert f"Not erased: gs://{bucket.name}/{blob.name}: " in remaining.stderr
    assert "event ada-long: its bytes are unreadable" in remaining.stderr
    assert datasets.ids("live.orders") == []
    for blob in blobs:
        bucket.blob(blob.name).delete()
    assert sluice(datasets, "--customer", "ada", "--from", "24h").returncode == 0


def test_command_reports_counts_and_unreached_copies(datasets: Datasets) -> None:
    fill(datasets)
    trial = sluice(datasets, "--customer", "ada", "--dry-run", "--json")
    assert trial.returncode == 0, trial.stderr
    answer = json.loads(trial.stdout)
    assert answer["forecast"]["objects"] == answer["objects_read"] == len(datasets.objects())
    assert f"To read: {len(datasets.objects())} objects, " in trial.stderr
    assert (answer["dry_run"], answer["envelopes"], answer["rows"][f"{datasets.settings.dataset}.orders"]) == (
        True,
        6,
        3,
    )
    assert f"{datasets.settings.dataset}.user_activity" not in answer["rows"]
    done = sluice(datasets, "--user", "ada", "--customer", "ada")
    assert done.returncode == 0, done.stderr
    assert "time travel" in done.stderr
    assert not re.search(r"\bada\b", done.stdout + done.stderr)
    assert envelopes(datasets) == LEFT


def letter(event_id: str, data: bytes, key: str = "", **attributes: str) -> Message:
    return Message(data, {"event_id": event_id, **attributes}, f"m-{event_id}", NOW, ordering_key=key)


def everywhere(datasets: Datasets) -> set[str]:
    """Events that are in the archive, and no others that are dead letters or rows."""
    archived = set(envelopes(datasets))
    dead_letters = {row["event_id"] for row in datasets.rows("live.dead_letters")}
    assert archived >= dead_letters.union(*(datasets.ids(f"{name}.orders") for name in ("live", "historical")))
    return archived


def test_person_is_erased_in_every_encoding_attribute_and_key(datasets: Datasets) -> None:
    def order(customer: str) -> str:
        event = samples.event("order", customer_id=customer, order_date=NOW.isoformat())
        return json.dumps(event, ensure_ascii=False)

    def sealed(inner: str) -> bytes:
        """Its own person field is empty, and that of a nested object is Bob's."""
        outer = samples.event("order", customer_id="", gift={"customer_id": "bob"})
        return json.dumps(outer | {"sealed": base64.b64encode(inner.encode()).decode()}).encode()

    ada, bob = "zoë.lovelace", "bob"
    for whose in (ada, bob):
        latin = order(whose).encode("latin-1")
        datasets.stream(
            [
                letter(f"{whose} UTF-16", order(whose).encode("utf-16")),
                letter(f"{whose} UTF-16-LE", order(whose).encode("utf-16-le")),
                letter(f"{whose} UTF-32", order(whose).encode("utf-32")),
                letter(f"{whose} latin-1", latin + b"\xff" if whose == bob else latin),
                letter(f"{whose} gzip", gzip.compress(order(whose).encode())),
                letter(f"{whose} base64", base64.b64encode(base64.b64encode(order(whose).encode()))),
                letter(f"{whose} attribute", b"[]", customer_id=whose),
                letter(f"{whose} key", b"[]", whose),
                letter(f"{whose} long key", b"[" + b"1," * 2**20, whose),
            ],
            NOW,
        )
    datasets.stream([letter("of ada", b"[]"), letter(ada, b"[]")], NOW)
    datasets.stream([letter("sealed", sealed(order(ada))), letter("sealed of bob", sealed(order(bob)))], NOW)
    everything = everywhere(datasets)
    trial = sluice(datasets, "--id", f"customer_id={ada}", "--dry-run", "--json")
    assert everywhere(datasets) == everything
    done = sluice(datasets, "--id", f"customer_id={ada}", "--json")
    assert done.returncode == 0, done.stderr
    assert everywhere(datasets) == {name for name in everything if not name.startswith(ada)} - {"sealed"}
    output, tried = json.loads(done.stdout), json.loads(trial.stdout)
    assert (output["complete"], output["envelopes"]) == (True, 11)
    assert {**output, "dry_run": True} == tried


def test_uncertain_and_unreadable_events_exit_with_1_until_resolved(datasets: Datasets) -> None:
    person = ["--customer", "ada.lovelace"]
    datasets.stream(
        [
            letter("wish", json.dumps({"event_type": "wish", "text": "for ada.lovelace, of bob"}).encode()),
            letter("sealed", bytes(range(256))),
            message("order", "bob-1", customer_id="bob", referrer="ada.lovelace"),
            message("order", "bob-ada.lovelace", customer_id="bob"),
            message("order", "bob-2", customer_id="bob"),
        ],
        NOW,
    )
    listed = sluice(datasets, *person)
    assert listed.returncode == 1
    uris = list(datasets.objects())
    live = datasets.settings.dataset
    for place in (*uris, f"{live}.dead_letters"):
        assert f"Uncertain: event wish in {place}\n" in listed.stderr
        assert f"Unreadable: event sealed in {place}: 256 bytes that are not text\n" in listed.stderr
    for event_id in ("bob-1", "bob-ada.lovelace"):
        for place in (*uris, f"{live}.orders"):
            assert f"Uncertain: event {event_id} in {place}\n" in listed.stderr
    assert "bob-2" not in listed.stderr
    assert len(everywhere(datasets)) == 5
    events = ["wish", "sealed", "bob-1", "bob-ada.lovelace"]
    settled = sluice(datasets, *person, *(part for event_id in events for part in ("--event", event_id)))
    assert settled.returncode == 0, settled.stderr
    assert everywhere(datasets) == {"bob-2"}
    assert datasets.ids("live.orders") == ["bob-2"]
    assert sluice(datasets, *person).returncode == 0


def test_table_copies_with_the_person_are_kept_and_named(datasets: Datasets) -> None:
    bad = message("order", "ada-bad", customer_id="ada", status="lost")
    datasets.stream([message("order", "ada-1", customer_id="ada"), bad], NOW)
    kept = Snapshots(datasets.client, datasets.settings)
    snapshots = [kept.take(table, NOW, days=3).snapshot for table in ("orders", "dead_letters", "inventory")]
    restored = kept.restore(snapshots[0], None, NOW).table
    remaining = sluice(datasets, "--customer", "ada")
    assert remaining.returncode == 1
    live, historical = datasets.settings.dataset, datasets.settings.historical_dataset
    copies = [f"{historical}.{snapshots[0]}", f"{historical}.{snapshots[1]}", f"{live}.{restored}"]
    for name in copies:
        assert f"Not erased: {name}: has rows of the person (1)" in remaining.stderr
    assert f"Not erased: {historical}.{snapshots[2]}" not in remaining.stderr
    for name in copies:
        datasets.client.delete_table(name)
    assert sluice(datasets, "--customer", "ada").returncode == 0


def test_the_ledger_keeps_no_id_of_a_person(running_emulators: Emulators) -> None:
    with fresh_datasets(running_emulators, views=True) as datasets:
        named = message("order", "ada.lovelace-1", timedelta(days=100), customer_id="ada.lovelace")
        datasets.stream([named, message("order", "bob of ada.lovelace", timedelta(days=100), customer_id="bob")], NOW)
        replayed = command_line.sluice(["dead-letters", "replay", "--all"], datasets.environment)
        assert replayed.returncode == 0, replayed.stderr
        assert len(datasets.rows("live.replays")) == 2
        erased = sluice(datasets, "--customer", "ada.lovelace")
        assert [row["event_id"] for row in datasets.rows("live.replays")] == ["bob of ada.lovelace"]
        assert f"Uncertain: event bob of ada.lovelace in {datasets.settings.dataset}.replays" in erased.stderr
