"""The queries of `sql/monitoring`, compared with the same answers in plain Python."""

import collections
import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from functions.clients import bigquery_client
from functions.events import event_types
from functions.settings import Settings
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from tests.support.dataset_fixtures import made
from tests.support.shop import Record, Shop, instant, load, once

TIME_FIELDS = {event_type.table: event_type.time_field for event_type in event_types().values()}

type Rows = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def busy(shop: Shop, running_emulators: Emulators) -> Iterator[Shop]:
    """The shop's events as if they had come in over the last three hours, by two versions of the code."""
    del running_emulators
    settings = Settings(
        archive_bucket="shop", google_cloud_project=PROJECT, dataset="busy", historical_dataset="busy_historical"
    )
    client = bigquery_client(settings)
    now = datetime.now(UTC)
    random_ = random.Random(7)

    def times() -> tuple[datetime, datetime]:
        # Nothing near a full hour ago: the queries run a little later than this.
        minutes = random_.choice([random_.uniform(2, 55), random_.uniform(65, 115), random_.uniform(125, 175)])
        processed = now - timedelta(minutes=minutes)
        return processed - timedelta(seconds=random_.expovariate(1)), processed

    def version(processed: datetime) -> str:
        return "v2" if processed > now - timedelta(hours=1) else "v1"

    live: dict[str, list[Mapping[str, Any]]] = {}
    for table, rows in shop.live.items():
        live[table] = []
        for row in rows:
            published, processed = times()
            ingest = {**row["ingest"], "publish_time": published.isoformat(), "code_version": version(processed)}
            live[table].append({**row, "ingest": ingest, "processed_timestamp": processed.isoformat()})
    letters = []
    for letter in shop.dead_letters:
        published, failed = times()
        changed = {"publish_time": published.isoformat(), "failed_at": failed.isoformat()}
        letters.append({**letter, **changed, "code_version": version(failed)})
    with made(client, settings):
        for table, changed_rows in live.items():
            load(client, f"busy.{table}", changed_rows)
        load(client, "busy.dead_letters", letters)
        yield dataclasses.replace(
            shop, client=client, settings=settings, live=live, dead_letters=letters, historical={}, now=now
        )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def since(shop: Shop, rows: Rows, **age: float) -> Rows:
    """Rows that were processed within a time."""
    return [row for row in rows if moment(row["processed_timestamp"]) >= shop.now - timedelta(**age)]


def dated(rows: Rows, days: int) -> Rows:
    """Rows of events that are at most so many days old."""
    first = datetime.now(UTC).date() - timedelta(days=days)
    return [row for row in rows if date.fromisoformat(row["event_date"]) >= first]


def ids(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    return {row["ingest"]["event_id"] if "ingest" in row else row["event_id"] for row in rows}


def test_table_sizes_are_those_of_the_tables(shop: Shop) -> None:
    sizes = {(row["dataset"], row["table_name"]): row for row in shop.ask("table_sizes")}
    expected = {
        **{("shop", table): rows for table, rows in shop.live.items()},
        **{("shop_historical", table): rows for table, rows in shop.historical.items()},
    }
    for name, rows in expected.items():
        assert sizes[name]["total_rows"] == len(rows)
        assert sizes[name]["total_partitions"] == len({row["event_date"] for row in rows})
        assert sizes[name]["total_logical_bytes"] > 0
    assert sizes["shop", "dead_letters"]["total_rows"] == len(shop.dead_letters)


@pytest.mark.parametrize("hours", [1, 2, 3])
def test_freshness_is_of_the_rows_of_the_last_hours(busy: Shop, hours: int) -> None:
    answer = {row["table_name"]: row for row in busy.ask("ingestion_freshness", hours=str(hours), days="7")}
    assert answer.keys() == busy.live.keys()
    for table, rows in busy.live.items():
        recent = since(busy, dated(rows, 7), hours=hours)
        row_of_table = answer[table]
        assert row_of_table["row_count"] == len(recent)
        assert row_of_table["newest_event_at"] == max(moment(row[TIME_FIELDS[table]]) for row in recent)
        assert row_of_table["newest_row_at"] == max(moment(row["processed_timestamp"]) for row in recent)
        age = (datetime.now(UTC) - row_of_table["newest_row_at"]).total_seconds()
        assert age - 60 <= row_of_table["seconds_since_newest_row"] <= age
        lags = sorted(
            (moment(row["processed_timestamp"]) - moment(row["ingest"]["publish_time"])).total_seconds()
            for row in recent
        )
        assert row_of_table["max_lag_seconds"] == pytest.approx(lags[-1], abs=0.002)
        for share, name in ((0.5, "p50_lag_seconds"), (0.95, "p95_lag_seconds")):
            position = round(share * len(lags))
            margin = round(0.03 * len(lags))
            assert (
                lags[position - margin] - 0.002
                <= row_of_table[name]
                <= lags[min(position + margin, len(lags) - 1)] + 0.002
            )


def test_a_table_that_receives_nothing_is_in_the_answer(busy: Shop) -> None:
    answer = busy.ask("ingestion_freshness", hours="0")
    assert [(row["table_name"], row["row_count"], row["max_lag_seconds"]) for row in answer] == [
        (table, 0, None) for table in sorted(busy.live)
    ]


def test_rows_per_minute_counts_each_minute_and_the_gaps(busy: Shop) -> None:
    answer = busy.ask("rows_per_minute", minutes="170", days="30")
    counted = collections.Counter(
        (moment(row["processed_timestamp"]).replace(second=0, microsecond=0), table)
        for table, rows in busy.live.items()
        for row in dated(rows, 30)
    )
    minutes = {row["minute"] for row in answer}
    assert len(minutes) == 170
    assert max(minutes) - min(minutes) == timedelta(minutes=169)
    assert len(answer) == 170 * len(busy.live)
    assert {(row["minute"], row["table_name"]): row["row_count"] for row in answer} == {
        (minute, table): counted[minute, table] for minute in minutes for table in busy.live
    }
    assert any(row["row_count"] == 0 for row in answer)


def test_the_dead_letter_rate_is_that_of_the_events(busy: Shop) -> None:
    outcomes: dict[date, tuple[set[str], set[str]]] = {}
    for rows in busy.live.values():
        for row in dated(rows, 14):
            day = moment(row["processed_timestamp"]).date()
            outcomes.setdefault(day, (set(), set()))[0].add(row["ingest"]["event_id"])
    for letter in busy.dead_letters:
        both = outcomes.setdefault(moment(letter["failed_at"]).date(), (set(), set()))
        for event_ids in both:
            event_ids.add(letter["event_id"])
    assert busy.ask("dead_letter_rate", days="7") == [
        {"day": day, "events": len(all_), "dead_letters": len(dead), "dead_letter_rate": len(dead) / len(all_)}
        for day, (all_, dead) in sorted(outcomes.items(), reverse=True)
    ]


def test_causes_of_the_last_hour_are_compared_with_the_previous(busy: Shop) -> None:
    def between(letters: Rows, oldest: int, newest: int) -> Rows:
        first, last = busy.now - timedelta(hours=oldest), busy.now - timedelta(hours=newest)
        return [letter for letter in letters if first <= moment(letter["failed_at"]) < last]

    causes: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for letter in busy.dead_letters:
        causes.setdefault((letter["stage"], letter["fingerprint"]), []).append(letter)
    expected = [
        {
            "stage": stage,
            "rule": min(letter["errors"][0]["rule"] for letter in letters),
            "place": min(letter["place"] for letter in letters),
            "events": len(ids(recent)),
            "before": len(ids(between(letters, 2, 1))),
            "open_events": len(ids(letters)),
            "first_seen_at": min(moment(letter["failed_at"]) for letter in letters),
            "last_seen_at": max(moment(letter["failed_at"]) for letter in letters),
            "example_event_id": min(ids(recent)),
            "cause": fingerprint,
        }
        for (stage, fingerprint), letters in causes.items()
        if (recent := between(letters, 1, 0))
    ]
    assert busy.ask("dead_letter_causes", hours="1") == sorted(
        expected, key=lambda cause: (-cause["events"], cause["cause"])
    )


def test_the_duplicate_rate_is_that_of_each_table_and_day(shop: Shop) -> None:
    counts = {}
    for table, rows in shop.live.items():
        for day in {row["event_date"] for row in dated(rows, 6)}:
            of_day = [row for row in rows if row["event_date"] == day]
            counts[table, date.fromisoformat(day)] = len(of_day), len(of_day) - len(ids(of_day))
    answer = shop.ask("duplicate_rate", days="7")
    assert {(row["table_name"], row["event_date"]): (row["row_count"], row["duplicates"]) for row in answer} == counts
    assert all(row["duplicate_rate"] == row["duplicates"] / row["row_count"] for row in answer)
    assert any(row["duplicates"] for row in answer)


def test_redeliveries_are_not_listed_as_several_contents(shop: Shop) -> None:
    rows = [row for table in shop.live.values() for row in dated(table, 2)]
    contents = collections.defaultdict(set)
    for row in rows:
        contents[row["ingest"]["event_id"]].add(row["ingest"]["content_digest"])
    several = {event_id: len(digests) for event_id, digests in contents.items() if len(digests) > 1}
    assert len(rows) > len(contents)
    assert {row["event_id"]: row["contents"] for row in shop.ask("conflicting_event_ids", days="3")} == several


def latest(rows: Iterable[Record]) -> dict[str, datetime]:
    """Return when each event was processed last."""
    return {row["ingest"]["event_id"]: instant(row["processed_timestamp"]) for row in once(rows)}


def test_expiring_days_are_listed_with_rows_not_in_history(shop: Shop) -> None:
    within = shop.settings.retention_days - 15
    last = datetime.now(UTC).date() - timedelta(days=15)
    expected = {}
    for table, rows in shop.live.items():
        for day in {row["event_date"] for row in rows if date.fromisoformat(row["event_date"]) <= last}:
            of_day = [row for row in rows if row["event_date"] == day]
            kept = latest(row for row in shop.historical[table] if row["event_date"] == day)
            missing = [event for event, time in latest(of_day).items() if event not in kept or kept[event] < time]
            expected[table, date.fromisoformat(day)] = len(of_day), len(ids(of_day)), len(missing)
    answer = shop.ask("expiring_partitions", days=str(within))
    assert any(0 < missing < events for _, events, missing in expected.values())
    assert {
        (row["table_name"], row["event_date"]): (row["row_count"], row["events"], row["not_in_history"])
        for row in answer
    } == expected
    assert all(row["expires_on"] - row["event_date"] == timedelta(days=90) for row in answer)


def test_code_versions_are_listed_with_their_dead_letters(busy: Shop) -> None:
    expected = []
    for version in ("v2", "v1"):
        rows = [row for table in busy.live.values() for row in dated(table, 7)]
        accepted = [row for row in rows if row["ingest"]["code_version"] == version]
        dead = [letter for letter in busy.dead_letters if letter["code_version"] == version]
        times = [moment(row["processed_timestamp"]) for row in accepted]
        times += [moment(letter["failed_at"]) for letter in dead]
        expected.append(
            {
                "code_version": version,
                "first_at": min(times),
                "last_at": max(times),
                "events": len(ids(accepted) | ids(dead)),
                "dead_letters": len(ids(dead)),
                "dead_letter_rate": len(ids(dead)) / len(ids(accepted) | ids(dead)),
            }
        )
    answer = busy.ask("code_versions", hours="24")
    # One event in two is processed within 0.7 s, nineteen in twenty within 3 s: times() draws them.
    lags = [(row.pop("p50_lag_seconds"), row.pop("p95_lag_seconds")) for row in answer]
    assert all(0.4 < p50 < 1 and 2 < p95 < 4.5 for p50, p95 in lags)
    assert answer == expected


def test_contract_versions_are_listed_with_their_rejections(busy: Shop) -> None:
    outcomes: dict[tuple[str | None, str | None, str], tuple[set[str], set[str], list[datetime]]] = {}

    def of(event_type: str | None, schema_version: object, code: str) -> tuple[set[str], set[str], list[datetime]]:
        version = None if schema_version is None else str(schema_version)
        return outcomes.setdefault((event_type, version, code), (set(), set(), []))

    for name, event_type in event_types().items():
        for row in dated(busy.live[event_type.table], 7):
            ingest = row["ingest"]
            of(name, ingest["schema_version"], ingest["code_version"])[0].add(ingest["event_id"])
    for letter in busy.dead_letters:
        if letter["stage"] == "contract":
            accepted, rejected, times = of(letter["event_type"], letter["schema_version"], letter["code_version"])
            accepted.add(letter["event_id"])
            rejected.add(letter["event_id"])
            times.append(moment(letter["failed_at"]))
    answer = busy.ask("contract_versions", hours="24")
    assert {
        (row["event_type"], row["schema_version"], row["code_version"]): (
            row["events"],
            row["rejected"],
            row["rejected_rate"],
            row["first_rejected_at"],
        )
        for row in answer
    } == {
        key: (len(events), len(rejected), len(rejected) / len(events), min(times, default=None))
        for key, (events, rejected, times) in outcomes.items()
    }
    assert any(0 < row["rejected_rate"] < 1 for row in answer)


def test_differing_columns_are_listed(running_emulators: Emulators) -> None:
    del running_emulators
    settings = Settings(
        archive_bucket="shop", google_cloud_project=PROJECT, dataset="drift", historical_dataset="drift_historical"
    )
    client = bigquery_client(settings)
    with made(client, settings):
        empty = Shop(client, settings, {}, {}, [], datetime.now(UTC))
        assert empty.ask("schema_drift") == []
        client.query_and_wait(f"ALTER TABLE `{PROJECT}.drift.orders` ADD COLUMN color STRING")
        client.query_and_wait(f"ALTER TABLE `{PROJECT}.drift_historical.inventory` ADD COLUMN weight INT64")
        view, table = f"`{PROJECT}.drift.user_activity_deduplicated`", f"`{PROJECT}.drift.user_activity`"
        client.query_and_wait(f"CREATE OR REPLACE VIEW {view} AS SELECT * EXCEPT (browser) FROM {table}")
        columns = "compared", "column_name", "live_type", "other_type"
        assert [tuple(row[column] for column in columns) for row in empty.ask("schema_drift")] == [
            (
                "drift.inventory_all",
                "weight",
                None,
                "INT64",
            ),  # the emulator's views follow their tables, BigQuery's do not
            ("drift.user_activity_deduplicated", "browser", "STRING", None),
            ("drift_historical.inventory", "weight", None, "INT64"),
            ("drift_historical.orders", "color", "STRING", None),
        ]
