"""The smoke test, on a deployment where all is well, and on some where it is not."""

import dataclasses
import gzip
import itertools
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from fake_google.answers import error
from functions.archive import layout
from functions.archive.envelope import Envelope, read_envelopes
from functions.clients import bigquery_client, storage_client
from functions.core.message import SMOKE_TEST_ATTRIBUTE
from sluice.cloud_logging import EMULATOR
from sluice.local.stack import Stack
from sluice.smoke import Smoke
from sluice.verify.load import CHANGED, Load
from tests.support import command_line, logging_server
from tests.support.deployed_stack import Deploy, Warehouse
from tests.support.waiting import wait_until

TABLES = ("inventory", "orders", "user_activity")


@pytest.fixture(scope="module")
def smoked(deploy: Deploy) -> Iterator[Stack]:
    """A deployment of this module's own: it is broken in the end."""
    with deploy("smoked") as stack:
        yield stack


def smoke(stack: Stack, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    names = {
        "DATASET": stack.settings.dataset,
        "HISTORICAL_DATASET": stack.settings.historical_dataset,
        "SLUICE_TOPIC": stack.topic,
        "COLUMNS": "120",
    }
    return command_line.sluice(["smoke", *arguments], {**stack.environment, **names, **changes})


def rows(stack: Stack) -> int:
    """Rows and dead letters of all smoke tests."""
    accounts = Warehouse(stack).accounts()
    return sum(event_id.startswith("smoke-") for event_id in accounts.accepted | accounts.dead)


def envelopes(stack: Stack) -> list[Envelope]:
    """All of the archive."""
    blobs = storage_client(stack.settings).list_blobs(stack.settings.archive_bucket, prefix="raw/")
    return [envelope for blob in blobs for envelope in read_envelopes(gzip.decompress(blob.download_as_bytes()))]


def test_each_event_of_a_load_has_one_row_per_content(smoked: Stack) -> None:
    """Only Dataflow drops by the attribute event_id; in functions both contents arrive."""
    seconds = itertools.count()
    load = Load(
        bigquery_client(smoked.settings), storage_client(smoked.settings), smoked.settings, lambda: next(seconds)
    )
    load.publish(smoked.topic, rate=1_000, seconds=200)

    def rows() -> int:
        return sum(event.rows for event in load.arrived().values())

    wait_until(lambda: rows() == len(load.published) + CHANGED, "all have a row", load.arrived)
    arrived = load.arrived()
    assert arrived.keys() == load.published
    assert {event_id for event_id, event in arrived.items() if event == (2, 2)} == load.changed
    assert len(load.changed) == CHANGED
    load.delete()
    assert not load.arrived()


def test_all_probes_arrive_in_their_tables_and_are_deleted(smoked: Stack) -> None:
    done = smoke(smoked, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["passed"]
    assert {
        event_id.removeprefix(f"{result['run']}-"): event["table"] for event_id, event in result["events"].items()
    } == {
        "inventory": "inventory",
        "order": "orders",
        "user_activity": "user_activity",
        "smoke_test": "dead_letters",
    }
    for arrival in result["events"].values():
        assert (arrival["rows"], arrival["problem"]) == (1, None)
        assert arrival["archive_uri"].startswith(f"gs://{smoked.settings.archive_bucket}/raw/")
        assert 0 <= arrival["lag"] < 60
    assert "The log lines of ingest were not checked: the emulators have no Cloud Logging" in done.stderr
    assert "All 4 events are in their table and the archive" in done.stderr
    assert rows(smoked) == 0


def test_a_function_that_works_and_logs_nothing_fails(smoked: Stack) -> None:
    with logging_server.running() as logging:
        logging.lines = lambda: smoked.ingest.child.log.read_text().splitlines()
        done = smoke(smoked, **{EMULATOR: logging.url})
        assert done.returncode == 0, done.stderr
        assert re.search("Cloud Logging has the log lines of all [1-4] flushes", done.stderr)
        logging.lines = list
        blind = smoke(smoked, "--timeout", "5", "--json", **{EMULATOR: logging.url})
        assert blind.returncode == 1
        assert "Log lines of ingest are missing" in blind.stderr
        assert "All 4 events" not in blind.stderr
        result = json.loads(blind.stdout)
        assert not result["passed"]
        uris = sorted({event["archive_uri"] for event in result["events"].values()})
        assert result["log_lines"] == {"expected": uris, "missing": uris, "problem": None}
        assert smoke(smoked, "--no-logs", **{EMULATOR: logging.url}).returncode == 0
        logging.error = error(403, "Permission denied")
        unseen = smoke(smoked, **{EMULATOR: logging.url})
    assert unseen.returncode == 0, unseen.stderr
    assert "The log lines of ingest were not checked: Permission denied (logging.logEntries.list" in unseen.stderr


def test_no_reader_of_the_archive_or_of_dead_letters_brings_them_back(smoked: Stack) -> None:
    """Neither those of today, nor older ones in the archive that lack the attribute."""
    run = json.loads(smoke(smoked, "--json").stdout)["run"]
    older = [envelope for envelope in envelopes(smoked) if envelope.event_id.startswith(f"{run}-")]
    assert (len(older), rows(smoked)) == (4, 0)
    for envelope in older:
        del envelope.attributes[SMOKE_TEST_ATTRIBUTE]
    bucket = storage_client(smoked.settings).bucket(smoked.settings.archive_bucket)
    ndjson = gzip.compress(b"".join(msgspec.json.encode(envelope) + b"\n" for envelope in older))
    bucket.blob(f"{layout.first_name_at(datetime.now(UTC))}-older.ndjson.gz").upload_from_string(ndjson)

    def report(*arguments: str) -> dict[str, Any]:
        names = {"DATASET": smoked.settings.dataset, "HISTORICAL_DATASET": smoked.settings.historical_dataset}
        done = command_line.sluice([*arguments, "--json"], {**smoked.environment, **names})
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    everything = len(envelopes(smoked))
    for arguments in (["backfill", f"gs://{smoked.settings.archive_bucket}/raw/"], ["replay", "--from", "1h"]):
        read = report(*arguments)
        assert (read["lines"], read["smoke_tests"], read["unfinished"]) == (everything, everything, 0)
        assert rows(smoked) == 0, arguments
    smoke(smoked, "--keep")
    replayed = report("dead-letters", "replay", "--all")
    assert (replayed["events"], replayed["smoke_tests"], replayed["lines"]) == (1, 1, 0)
    assert Warehouse(smoked).query("SELECT * FROM `{dataset}.replays`") == []
    smoke(smoked, "--clean")
    assert rows(smoked) == 0


def test_only_rows_of_earlier_runs_are_deleted(smoked: Stack) -> None:
    done = smoke(smoked, "--keep")
    assert done.returncode == 0, done.stderr
    test = Smoke(bigquery_client(smoked.settings), storage_client(smoked.settings), smoked.settings)
    test.probes = [dataclasses.replace(probe, event_id=f"smoke-alarm-{probe.table}") for probe in test.probes]
    test.send(smoked.topic, 60, lambda: None)
    assert test.passed
    assert done.stdout.count("same bytes") == 4
    assert "smoke_test" in done.stdout
    warehouse = Warehouse(smoked)
    oldest = datetime.now(UTC).date() - timedelta(days=89)
    for table in TABLES:
        for row in warehouse.query(f"SELECT event_date FROM `{{dataset}}.{table}`"):
            assert row.event_date in {oldest, oldest + timedelta(days=1)}
    warehouse.query("INSERT INTO `{dataset}_historical.orders` SELECT * FROM `{dataset}.orders`")
    assert rows(smoked) == 8
    cleaned = smoke(smoked, "--clean")
    assert cleaned.returncode == 0, cleaned.stderr
    assert "The rows are deleted" in cleaned.stderr
    assert rows(smoked) == 4
    [kept] = warehouse.query("SELECT ingest.event_id AS event_id FROM `{dataset}_historical.orders`")
    assert kept.event_id == "smoke-alarm-orders"


@pytest.mark.check
def test_wrong_table_and_missing_archive_bytes_are_reported(smoked: Stack) -> None:
    changed = smoke(smoked, RETENTION_DAYS="92")
    assert changed.returncode == 1
    assert "in dead_letters instead of orders" in changed.stdout
    assert "time_bounds, $.order_date" in changed.stdout
    elsewhere = smoke(smoked, "--json", ARCHIVE_BUCKET="elsewhere")
    assert elsewhere.returncode == 1
    problems = {event["problem"].partition("/raw/")[0] for event in json.loads(elsewhere.stdout)["events"].values()}
    assert problems == {f"archived in gs://{smoked.settings.archive_bucket}"}


def test_bytes_deleted_from_the_archive_are_reported(smoked: Stack) -> None:
    storage = storage_client(smoked.settings)
    test = Smoke(bigquery_client(smoked.settings), storage, smoked.settings)
    test.send(smoked.topic, 60, lambda: None)
    assert {arrival.problem for arrival in test.arrivals.values()} == {None}
    for blob in storage.list_blobs(smoked.settings.archive_bucket):
        blob.delete()
    test.arrivals.clear()
    test._look(0)
    assert not test.passed
    assert {arrival.problem for arrival in test.arrivals.values()} == {
        "the object does not exist: it was deleted by its lifecycle or manually"
    }


def test_where_nothing_can_be_published_or_looked_for_it_says_why(smoked: Stack) -> None:
    unknown = smoke(smoked, SLUICE_TOPIC=f"{smoked.topic}-not")
    assert unknown.returncode == 1
    assert "Failed: " in unknown.stderr
    assert "Traceback" not in unknown.stderr
    without = smoke(smoked, ARCHIVE_BUCKET="")
    assert without.returncode == 2
    assert "ARCHIVE_BUCKET" in without.stderr


@pytest.mark.check
def test_without_the_function_nothing_arrives(smoked: Stack) -> None:
    smoked.ingest.child.signal(signal.SIGKILL)
    smoked.ingest.child.process.wait()
    done = smoke(smoked, "--timeout", "3")
    assert done.returncode == 1
    assert done.stdout.count("missing") == 4
    assert "docs/deploy.md" in done.stderr
