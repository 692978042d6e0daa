"""The backfill on the emulators: the real client, real load jobs, and the real command."""

import collections
import gzip
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from functions.core.message import Message
from functions.files.sources import Line
from sluice.backfill.events import EventReader
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import MAX_REJECTED_LINES, Backfill
from sluice.local.stack import Emulators
from sluice.shop.generator import Scenario
from sluice.shop.timeline import history_until
from tests.support import command_line, samples
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.waiting import PATIENCE, wait_until

SLUICE = pathlib.Path(sys.executable).with_name("sluice")
NOW = datetime.now(UTC)


@pytest.fixture
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators) as fresh:
        yield fresh


def order(order_id: str, days_ago: float = 0, **changes: Any) -> bytes:
    date = (NOW - timedelta(days=days_ago)).isoformat()
    return json.dumps(samples.event("order", order_id=order_id, order_date=date, **changes)).encode()


def write(path: pathlib.Path, lines: Iterable[bytes]) -> pathlib.Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def order_ids(datasets: Datasets, table: str) -> list[str]:
    return sorted(row["order_id"] for row in datasets.rows(table))


def sluice(datasets: Datasets, *arguments: object) -> subprocess.CompletedProcess[str]:
    return command_line.sluice(["backfill", *arguments], datasets.environment)


def test_event_date_selects_the_live_or_the_historical_table(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    ages = {"today": 0, "last live day": 89, "first historical day": 90, "long ago": 7_000}
    file = write(tmp_path / "orders.ndjson", (order(name, days) for name, days in ages.items()))
    report = datasets.backfill(file, now=NOW)
    assert order_ids(datasets, "live.orders") == ["last live day", "today"]
    assert order_ids(datasets, "historical.orders") == ["first historical day", "long ago"]
    live, historical = datasets.settings.dataset, datasets.settings.historical_dataset
    assert report.rows == {f"{live}.orders": 2, f"{historical}.orders": 2}
    assert report.failures == []


def test_invalid_line_becomes_an_archived_dead_letter_with_its_bytes(
    datasets: Datasets, tmp_path: pathlib.Path
) -> None:
    too_old = order("too old", 10_001)
    bad = [b'{"event_type": "order",', order("bad", status="lost"), b'{"event_type": "\xff"}', too_old]
    report = datasets.backfill(write(tmp_path / "bad.ndjson", bad), now=NOW)
    letters = {row["payload"]: row for row in datasets.rows("live.dead_letters")}
    assert [letters[line]["stage"] for line in bad] == ["decode", "contract", "decode", "time_bounds"]
    assert report.dead_letters == {"decode": 2, "contract": 1, "time_bounds": 1}
    archived = datasets.objects()
    for line in bad:
        [envelope] = [
            envelope
            for envelope in archived[letters[line]["archive_uri"]]
            if envelope.event_id == letters[line]["event_id"]
        ]
        assert envelope.message().data == line


def upload(datasets: Datasets, name: str, data: bytes) -> str:
    bucket = datasets.settings.archive_bucket
    datasets.storage.bucket(bucket).blob(name).upload_from_string(data)
    return f"gs://{bucket}/{name}"


def test_events_are_found_wherever_they_are(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    (tmp_path / "folder" / "in").mkdir(parents=True)
    write(tmp_path / "folder" / "in" / "it", [order("of a folder"), b"\r", b"", order("of a folder", 100)])
    write(tmp_path / "folder" / ".hidden", [order("hidden")])
    (tmp_path / "gzip.ndjson").write_bytes(gzip.compress(order("compressed")) + gzip.compress(b"\n" + order("member")))
    write(tmp_path / "events-1.json", [order("of a glob")])
    of_a_prefix = upload(datasets, "imports/2019/events.gz", gzip.compress(order("of a prefix")))
    of_a_glob = upload(datasets, "other/2019/events", order("of a glob of objects"))
    report = datasets.backfill(
        tmp_path / "folder",
        tmp_path / "gzip.ndjson",
        tmp_path / "events-*.json",
        of_a_prefix.removesuffix("2019/events.gz"),
        of_a_glob.replace("2019", "*"),
        now=NOW,
    )
    live = ["compressed", "member", "of a folder", "of a glob", "of a glob of objects", "of a prefix"]
    assert order_ids(datasets, "live.orders") == live
    assert order_ids(datasets, "historical.orders") == ["of a folder"]
    assert report.lines == 7


def test_a_second_run_adds_nothing_under_whatever_name(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    bad = b'{"event_type":'
    lines = [order("a"), order("b", 100), bad, order("a"), bad]
    first = datasets.backfill(write(tmp_path / "first", lines), now=NOW)
    assert (first.lines, first.repeated, first.unfinished) == (5, 0, 0)
    for again in (tmp_path / "first", write(tmp_path / "renamed", reversed(lines)), tmp_path):
        report = datasets.backfill(again, now=NOW)
        assert (report.rows, report.dead_letters, report.unfinished) == ({}, {}, 0)
        assert (report.rows_present.total(), report.dead_letters_present) == (3, {"decode": 2})
    assert order_ids(datasets, "live.orders") == ["a", "a"]
    assert order_ids(datasets, "historical.orders") == ["b"]
    assert len(datasets.rows("live.dead_letters")) == 2
    assert sum(len(envelopes) for envelopes in datasets.objects().values()) == 5


def test_rotated_copy_of_a_log_adds_only_new_events(
    datasets: Datasets, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log has a line three times; other chunks, another serializer, and a longer copy of it add only what is new."""
    event = json.loads(order("a", item_count=1.50))
    spelled = json.dumps(dict(reversed(event.items())), separators=(",", ":")).replace("1.5", "15e-1").encode()
    log = write(tmp_path / "1.log", [order("a", item_count=1.50), order("b"), spelled, order("a", item_count=1.50)])
    assert datasets.backfill(log, now=NOW).rows.total() == 4
    monkeypatch.setattr("sluice.backfill.run.MAX_LINES", 1)
    copy = write(tmp_path / "2.log", [spelled] * 4)
    report = datasets.backfill(log, copy, now=NOW)
    assert (report.rows.total(), report.rows_present.total(), report.repeated) == (1, 4, 3)
    assert order_ids(datasets, "live.orders") == ["a", "a", "a", "a", "b"]


def test_log_of_a_producer_adds_only_missing_events(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    """Events of two lost hours: some of the log were streamed, under the ids that are in their fields."""
    datasets.stream([Message(order("a"), {"event_id": "a"}, "m-1", NOW)], NOW)
    without = {**json.loads(order("c")), "order_id": None}
    log = write(tmp_path / "log", [order("a"), order("b"), json.dumps(without).encode(), order("b")])
    for loaded, present in ((1, 1), (0, 2)):
        ran = sluice(datasets, log, "--id-field", "$.order_id", "--json")
        assert ran.returncode == 1
        assert f"Not loaded: {log} line 3: $.order_id is missing" in ran.stderr
        report = json.loads(ran.stdout)
        counts = [sum(report[name].values()) for name in ("rows", "rows_present")]
        assert (counts, report["repeated"], report["unfinished"]) == ([loaded, present], 1, 0)
    assert datasets.ids("live.orders") == ["a", "b"]


def test_an_id_with_several_contents_loses_none_of_them(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    """The id of an order is not that of its states: all are loaded and the command says so; a second run adds none."""
    states = [order("a", status=status) for status in ("pending", "processing", "shipped")]
    log = write(tmp_path / "log", [*states, states[0], order("b")])
    for name, count in (("rows", 4), ("rows_present", 4)):
        ran = sluice(datasets, log, "--id-field", "$.order_id", "--json")
        assert ran.returncode == 0
        assert "Events with the id of an earlier line but different content: 2." in ran.stderr
        report = json.loads(ran.stdout)
        assert (sum(report[name].values()), report["repeated"], report["same_id"]) == (count, 1, 2)
    assert datasets.ids("live.orders") == ["a", "a", "a", "b"]
    assert {row["status"] for row in datasets.rows("live.orders")} == {"pending", "processing", "shipped"}
    ran = sluice(datasets, log, "--id-field", "$.order_id", "--id-field", "$.status", "--json")
    assert json.loads(ran.stdout)["same_id"] == 0


def test_a_content_that_no_row_of_its_id_has_is_loaded(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    datasets.stream([Message(order("a"), {"event_id": "a"}, "m-1", NOW)], NOW)
    log = write(tmp_path / "log", [order("a", status="shipped"), order("a")])
    for name in ("rows", "rows_present"):
        ran = sluice(datasets, log, "--id-field", "$.order_id", "--json")
        report = json.loads(ran.stdout)
        assert (sum(report["rows"].values()), sum(report["rows_present"].values())) == (
            (1, 1) if name == "rows" else (0, 2)
        )
    assert sorted(row["status"] for row in datasets.rows("live.orders")) == ["pending", "shipped"]


def test_dead_letters_with_one_id_and_cause_are_kept_in_any_order(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    bad = [order("a", total_amount=str(number)) for number in range(3)]
    datasets.stream([Message(bad[0], {"event_id": "a"}, "m-1", NOW)], NOW)
    for lines, there in (([bad[1]], 2), ([bad[2], bad[0], bad[1]], 3), ([bad[0], bad[1], bad[2]], 3)):
        assert sluice(datasets, write(tmp_path / "log", lines), "--id-field", "$.order_id", "--json").returncode == 0
        assert sorted(row["payload"] for row in datasets.rows("live.dead_letters")) == sorted(
            [bad[0], bad[1], bad[2]][:there]
        )
    assert len(datasets.objects()) == 3


def test_the_later_line_of_one_id_counts(running_emulators: Emulators, tmp_path: pathlib.Path) -> None:
    with fresh_datasets(running_emulators, views=True) as datasets:
        lines = [order(f"o-{number}", status=status) for number in range(8) for status in ("pending", "shipped")]
        assert sluice(datasets, write(tmp_path / "log", lines), "--id-field", "$.order_id").returncode == 0
        query = f"SELECT DISTINCT status FROM `{datasets.settings.dataset}.orders_deduplicated`"
        assert [row.status for row in datasets.client.query_and_wait(query)] == ["shipped"]


def test_restored_archive_shows_the_content_that_was_published_last(
    running_emulators: Emulators,
) -> None:
    with fresh_datasets(running_emulators, views=True) as datasets:
        for number, status in enumerate(("shipped", "pending", "processing")):
            sent = Message(
                order("a", status=status), {"event_id": "a"}, f"m-{9 - number}", NOW + timedelta(seconds=number)
            )
            datasets.stream([sent], NOW + timedelta(seconds=number))
        query = f"SELECT status FROM `{datasets.settings.dataset}.orders_deduplicated`"
        assert [row.status for row in datasets.client.query_and_wait(query)] == ["processing"]
        datasets.client.query_and_wait(f"DELETE FROM `{datasets.settings.dataset}.orders` WHERE TRUE")
        report = datasets.backfill(f"gs://{datasets.settings.archive_bucket}/raw/", now=NOW + timedelta(minutes=1))
        assert report.rows.total() == 3
        assert [row.status for row in datasets.client.query_and_wait(query)] == ["processing"]


def test_envelope_from_another_source_keeps_its_event_id(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    datasets.stream([Message(order("a"), {"event_id": "own"}, "m-1", NOW)], NOW)
    envelope = {"event_id": "own", "message_id": "x", "publish_time": NOW.isoformat(), "attributes": {}}
    line = json.dumps({**envelope, "payload": order("a").decode()}).encode()
    report = datasets.backfill(write(tmp_path / "export", [line]), now=NOW)
    assert report.rows_present.total() == 1
    assert datasets.ids("live.orders") == ["own"]


def test_event_past_retention_goes_into_the_historical_dataset(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "orders", [order("a", 89), order("b", 88)])
    datasets.backfill(file, now=NOW)
    tomorrow = datasets.backfill(file, now=NOW + timedelta(days=1))
    assert tomorrow.rows == {f"{datasets.settings.historical_dataset}.orders": 1}
    assert tomorrow.rows_present == {f"{datasets.settings.dataset}.orders": 1}
    assert order_ids(datasets, "historical.orders") == ["a"]
    assert datasets.backfill(file, now=NOW + timedelta(days=1)).rows == {}


def test_streamed_events_are_not_loaded_again_from_the_archive(datasets: Datasets) -> None:
    messages = [
        Message(order("streamed"), {"event_id": "streamed", "producer": "shop"}, "m-1", NOW),
        Message(order("was too old", 100), {"event_id": "was too old"}, "m-2", NOW),
        Message(b"bad", {}, "m-3", NOW),
    ]
    datasets.stream(messages, NOW)
    before = datasets.objects()
    archive = f"gs://{datasets.settings.archive_bucket}/raw/"
    report = datasets.backfill(archive, now=NOW)
    assert report.rows == {f"{datasets.settings.historical_dataset}.orders": 1}
    assert (report.rows_present.total(), report.dead_letters_present) == (1, {"decode": 1})
    assert datasets.ids("live.orders") == ["streamed"]
    [row] = datasets.rows("historical.orders")
    assert (row["ingest"]["event_id"], row["ingest"]["message_id"]) == ("was too old", "m-2")
    assert row["ingest"]["archive_uri"] in before
    assert datasets.objects() == before


def test_envelopes_from_elsewhere_are_archived_here(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    datasets.stream([Message(order("a", 100), {"event_id": "a", "producer": "shop"}, "m-1", NOW)], NOW)
    [uri] = datasets.objects()
    copy = tmp_path / "copy.gz"
    copy.write_bytes(
        datasets.storage.bucket(datasets.settings.archive_bucket).blob(uri.split("/", 3)[3]).download_as_bytes()
    )
    datasets.backfill(copy, now=NOW)
    [row] = datasets.rows("historical.orders")
    assert row["ingest"]["archive_uri"] != uri
    [envelope] = datasets.objects()[row["ingest"]["archive_uri"]]
    assert (envelope.message_id, envelope.attributes) == ("m-1", {"event_id": "a", "producer": "shop"})


def test_loaded_free_form_json_equals_the_streamed_one(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    unknown: dict[str, Any] = {
        "gift": True,
        "note": 'a "quoted" ü',
        "deep": {"a": [1, 2.5, None, {"b": "x"}]},
        "big": 2**70,
    }
    payload, bad = order("a", 0, **unknown), order("b", 0, status="lost", **unknown)
    datasets.stream([Message(data, {"schema_version": "1"}, f"m-{data[-9:]!r}", NOW) for data in (payload, bad)], NOW)
    datasets.backfill(write(tmp_path / "orders", [payload, bad]), now=NOW, version=1)
    streamed, loaded = sorted(datasets.rows("live.orders"), key=lambda row: row["ingest"]["message_id"], reverse=True)
    assert streamed["extras"]["deep"] == unknown["deep"]
    assert {**loaded, "ingest": None} == {**streamed, "ingest": None}
    letters = sorted(datasets.rows("live.dead_letters"), key=lambda row: str(row["message_id"]), reverse=True)
    differing = dict.fromkeys(("event_id", "message_id", "publish_time", "content_digest", "archive_uri"))
    assert letters[1] | differing == letters[0] | differing
    assert letters[0]["attributes"] == {"schema_version": "1"}


def test_failed_job_is_reported_and_repeated_by_the_next_run(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "mixed", [order("a"), order("b", 100), b"bad"])
    table = f"{datasets.settings.dataset}.orders"
    datasets.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN extras")
    report = datasets.backfill(file, now=NOW)
    [failure] = report.failures
    assert str(failure).startswith(f"{table}, from {file} line 1 to {file} line 1: ")
    assert "No such field: extras" in str(failure)
    assert (report.unfinished, report.rows.total(), report.dead_letters.total()) == (1, 1, 1)
    datasets.client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN extras JSON")
    again = datasets.backfill(file, now=NOW)
    assert (again.rows, again.unfinished, again.failures) == ({table: 1}, 0, [])
    assert order_ids(datasets, "live.orders") == ["a"]
    ids = [job.job_id for job in datasets.client.list_jobs() if job.job_id.startswith("sluice_backfill_orders")]
    assert any(f"{job_id}_2" in ids for job_id in ids)
    assert datasets.backfill(file, now=NOW).rows_present.total() == 2


def narrow(datasets: Datasets) -> str:
    """Make the live table reject orders whose customers are no numbers; return its name."""
    table = f"{datasets.settings.dataset}.orders"
    retype(datasets, "INT64")
    return table


def retype(datasets: Datasets, customer_id: str) -> None:
    table = f"{datasets.settings.dataset}.orders"
    datasets.client.query_and_wait(f"ALTER TABLE `{table}` DROP COLUMN customer_id")
    datasets.client.query_and_wait(f"ALTER TABLE `{table}` ADD COLUMN customer_id {customer_id}")


def test_rejected_row_of_a_load_job_becomes_a_dead_letter(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    lines = [order(f"{number:02}", customer_id=f"c{number}" if number in {7, 30} else "1") for number in range(40)]
    file = write(tmp_path / "orders", [*lines, b"bad"])
    table = narrow(datasets)
    report = datasets.backfill(file, now=NOW)
    assert (report.failures, report.unfinished) == ([], 0)
    assert (report.rows, report.dead_letters) == ({table: 38}, {"warehouse": 2, "decode": 1})
    assert order_ids(datasets, "live.orders") == [f"{number:02}" for number in range(40) if number not in {7, 30}]
    letters = [row for row in datasets.rows("live.dead_letters") if row["stage"] == "warehouse"]
    assert sorted(row["payload"] for row in letters) == [lines[7], lines[30]]
    for letter in letters:
        assert [(error["path"], error["rule"]) for error in letter["errors"]] == [("$", "invalid")]
        assert "Error while reading data" in letter["errors"][0]["message"]
        assert (letter["event_type"], letter["schema_version"]) == ("order", "1")
        assert letter["event_id"] in [envelope.event_id for envelope in datasets.objects()[letter["archive_uri"]]]


def test_second_run_adds_nothing_until_rejected_rows_are_accepted(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "orders", [order("a", customer_id="1"), order("b", customer_id="c2")])
    table = narrow(datasets)
    datasets.backfill(file, now=NOW)
    again = datasets.backfill(file, now=NOW + timedelta(minutes=1))
    assert (again.rows_present, again.dead_letters_present) == ({table: 1}, {"warehouse": 1})
    assert (again.rows, again.dead_letters, again.failures) == ({}, {}, [])
    assert (len(datasets.rows("live.orders")), len(datasets.rows("live.dead_letters"))) == (1, 1)
    retype(datasets, "STRING")
    assert datasets.backfill(file, now=NOW).rows == {table: 1}
    assert order_ids(datasets, "live.orders") == ["a", "b"]


def test_a_streamed_row_that_bigquery_rejected_has_one_dead_letter(datasets: Datasets) -> None:
    """A load job says otherwise why it rejects a row, so its dead letter would have another fingerprint."""
    narrow(datasets)
    messages = [Message(order(name, customer_id=name), {"event_id": name}, f"m-{name}", NOW) for name in ("1", "c2")]
    datasets.stream(messages, NOW)
    [archived] = datasets.objects()
    assert datasets.backfill(archived, now=NOW).dead_letters_present == {"warehouse": 1}
    [letter] = datasets.rows("live.dead_letters")
    assert (letter["stage"], letter["errors"][0]["path"]) == ("warehouse", "$.customer_id")


def test_too_many_rejected_rows_of_a_load_become_no_dead_letters(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    lines = [order(f"{number:03}", customer_id=f"c{number}") for number in range(MAX_REJECTED_LINES + 1)]
    file = write(tmp_path / "orders", [order("good", customer_id="1"), *lines])
    table = narrow(datasets)
    report = datasets.backfill(file, now=NOW)
    assert (report.rows, report.unfinished) == ({table: 1}, MAX_REJECTED_LINES + 1)
    [failure] = report.failures
    assert f"BigQuery rejects 101 rows, first {file} line 2, event backfill-" in str(failure)
    assert datasets.rows("live.dead_letters") == []


def test_concurrent_runs_with_a_rejected_row_create_no_duplicates(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    lines = [order(f"{number:02}", customer_id="c" if number == 20 else "1") for number in range(40)]
    file = write(tmp_path / "orders", lines)
    narrow(datasets)
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda _: datasets.backfill(file, now=NOW), range(3)))
    assert [report.failures for report in reports] == [[], [], []]
    assert (len(datasets.rows("live.orders")), len(datasets.rows("live.dead_letters"))) == (39, 1)


def test_runs_at_the_same_time_load_each_event_once(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "orders", (order(f"{number:03}", number) for number in range(180)))
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda _: datasets.backfill(file, now=NOW), range(3)))
    assert [report.failures for report in reports] == [[], [], []]
    assert len(order_ids(datasets, "live.orders")) == 90
    assert len(order_ids(datasets, "historical.orders")) == 90


def test_deleted_rows_are_loaded_again_from_the_same_files(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "orders", [order("a", 100), order("b", 100), order("c", 100)])
    table = f"{datasets.settings.historical_dataset}.orders"
    for gone in ("'a'", "'a', 'b'"):
        datasets.backfill(file, now=NOW)
        datasets.client.query_and_wait(f"DELETE FROM `{table}` WHERE order_id IN ({gone})")
        assert datasets.backfill(file, now=NOW, dry_run=True).rows == {table: gone.count("'") // 2}
    report = datasets.backfill(file, now=NOW)
    assert (report.rows, report.rows_present) == ({table: 2}, {table: 1})
    assert order_ids(datasets, "historical.orders") == ["a", "b", "c"]


def test_a_file_that_is_no_text_is_named_and_makes_no_dead_letters(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "1-utf-16"
    other.write_bytes((order("a") + b"\n").decode().encode("utf-16"))
    report = datasets.backfill(other, write(tmp_path / "2-good", [order("b")]), now=NOW)
    [failure] = report.failures
    assert str(failure).startswith(f"{other}: is not in UTF-8")
    assert datasets.rows("live.dead_letters") == []
    assert order_ids(datasets, "live.orders") == ["b"]


def test_a_table_that_was_made_anew_is_filled_anew(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    file = write(tmp_path / "orders", [order("a", 100)])
    datasets.backfill(file, now=NOW)
    table = f"{datasets.settings.historical_dataset}.orders"
    datasets.client.query_and_wait(f"CREATE OR REPLACE TABLE `{table}` AS SELECT * FROM `{table}` WHERE FALSE")
    datasets.backfill(file, now=NOW)
    assert order_ids(datasets, "historical.orders") == ["a"]


def history(events: int, days: int) -> list[bytes]:
    """A mix of everything, of so many days up to now."""
    scenario = history_until(Scenario(5, 0.05, 0.03, events // days), events, NOW)
    return [message.data for message in scenario if b"\n" not in message.data]


def test_reported_counts_match_the_lines_and_the_tables(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    lines = history(2_000, 200)
    file = write(tmp_path / "history", lines)
    dry = sluice(datasets, file, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert datasets.rows("live.orders") == datasets.rows("live.dead_letters") == []
    assert datasets.objects() == {}
    ran = sluice(datasets, file, "--json")
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    present = sum(report["rows_present"].values()) + sum(report["dead_letters_present"].values())
    loaded = sum(report["rows"].values()) + sum(report["dead_letters"].values())
    assert report["lines"] == sum(1 for line in lines if line.strip()) == loaded + report["repeated"]
    assert (present, report["unfinished"], report["failures"]) == (0, 0, [])
    assert len(report["rows"]) == 6
    for name, count in report["rows"].items():
        dataset, _, table = name.partition(".")
        place = "live" if dataset == datasets.settings.dataset else "historical"
        assert len(set(datasets.ids(f"{place}.{table}"))) == len(datasets.ids(f"{place}.{table}")) == count
    stages = collections.Counter(row["stage"] for row in datasets.rows("live.dead_letters"))
    assert stages == report["dead_letters"]
    archived = [envelope.event_id for envelopes in datasets.objects().values() for envelope in envelopes]
    assert len(archived) == len(set(archived)) == loaded
    same = ("lines", "repeated", "rows", "dead_letters")
    planned = json.loads(dry.stdout)
    assert {name: planned[name] for name in same} == {name: report[name] for name in same}
    shown = sluice(datasets, file, "--dry-run")
    assert "would be loaded" not in shown.stdout
    assert f"{report['lines']}" in shown.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.check)])
def test_interrupted_run_resumes_without_loss_or_duplicates(
    datasets: Datasets, tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    lines = [order(f"{index // 2:05}", index // 2 % 180) for index in range(6_000)]  # each of them twice
    file = write(tmp_path / "orders", lines)
    process = subprocess.Popen(
        [SLUICE, "backfill", file, "--json"],
        env={**os.environ, **datasets.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: datasets.objects() or process.poll() is not None, "something is archived")
    assert process.poll() is None
    process.send_signal(number)
    output, errors = process.communicate(timeout=PATIENCE)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        report = json.loads(output)
        loaded = len(datasets.rows("live.orders")) + len(datasets.rows("historical.orders"))
        counted, running = sum(report["rows"].values()), sum(job["lines"] for job in report["running"])
        assert counted <= loaded <= counted + running
        assert report["unfinished"] == report["lines"] - counted - running
        assert process.returncode == (0 if counted == len(lines) else 130), errors
        assert "Traceback" not in errors
    again = sluice(datasets, file, "--json")
    assert again.returncode == 0, again.stderr
    live, historical = datasets.ids("live.orders"), datasets.ids("historical.orders")
    assert len(live) + len(historical) == len({*live, *historical}) == 6_000


class Stopping:
    """Lines of a source that request the run's stop in their middle."""

    def __init__(self, lines: Iterable[bytes], number: int) -> None:
        self._lines = lines
        self._number = number

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        del advance
        for number, line in enumerate(self._lines, start=1):
            if number == self._number:
                raise KeyboardInterrupt
            yield Line("orders", number, line)


def test_the_counts_of_an_interrupted_run_are_those_of_the_tables(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice.backfill.run.MAX_LINES", 1)
    lines = [order(name) for name in "abcdef"]
    seen = 0
    for number in range(1, len(lines) + 1):
        read = EventReader.from_settings(datasets.settings, NOW)
        run = Backfill(read, LoadJobs.open(datasets.client, datasets.settings), datasets.archive())
        report = run([Stopping(lines, number)])
        there = order_ids(datasets, "live.orders")
        assert report.interrupted
        assert report.rows.total() + report.rows_present.total() <= len(there)
        assert len(there) == seen + report.rows.total()
        last = int((report.complete_to or "line 0").rpartition(" ")[2])
        assert [*"abcdef"[:last]] == [name for name in there if name in "abcdef"[:last]]
        seen = len(there)


def test_without_its_source_or_its_tables_nothing_is_written(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    good = write(tmp_path / "good", [order("a")])
    missing = sluice(datasets, good, tmp_path / "missing")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"{tmp_path}/missing: no file, folder or object has this name" in missing.stderr
    elsewhere = sluice(datasets, "gs://no-such-bucket/raw/", good)
    assert elsewhere.returncode == 1
    assert "gs://no-such-bucket/raw/" in elsewhere.stderr
    datasets.client.delete_table(f"{datasets.settings.historical_dataset}.orders")
    untabled = sluice(datasets, good)
    assert untabled.returncode == 1
    assert f"{datasets.settings.historical_dataset}.orders" in untabled.stderr
    assert sluice(datasets).returncode == 2
    assert datasets.rows("live.orders") == []
    assert datasets.objects() == {}


def test_readable_events_around_a_damaged_part_are_loaded(datasets: Datasets, tmp_path: pathlib.Path) -> None:
    damaged = tmp_path / "1-damaged"
    damaged.write_bytes(gzip.compress(order("a") + b"\n") + gzip.compress(order("b"))[:-9])
    report = datasets.backfill(damaged, write(tmp_path / "2-good", [order("c")]), now=NOW)
    [failure] = report.failures
    assert str(failure).startswith(f"{damaged}: ")
    assert order_ids(datasets, "live.orders") == ["a", "c"]
