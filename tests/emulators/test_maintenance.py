"""The files of `sql/maintenance`, and `sluice snapshot` and `sluice restore`."""

import contextlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPIError
from google.cloud import bigquery
from typer.testing import CliRunner, Result

from functions.clients import bigquery_client
from functions.schema.definitions import definitions
from functions.settings import Settings
from sluice.cli import app
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from sluice.queries import WrongParameter
from sluice.snapshots import Snapshots
from tests.support.shop import Shop, age, load, once, open_shop
from tests.support.waiting import wait_until

type Rows = Sequence[Mapping[str, Any]]

BUCKET = "maintenance"


def settings_of(dataset: str) -> Settings:
    return Settings(
        archive_bucket=BUCKET,
        google_cloud_project=PROJECT,
        dataset=dataset,
        historical_dataset=f"{dataset}_historical",
    )


@contextlib.contextmanager
def opened(dataset: str) -> Iterator[Shop]:
    settings = settings_of(dataset)
    with open_shop(bigquery_client(settings), settings) as shop:
        yield shop


@pytest.fixture
def fresh(running_emulators: Emulators, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A shop of a test's own."""
    del running_emulators
    with opened(f"fresh_{abs(hash(request.node.name))}") as shop:
        yield shop


@pytest.fixture(scope="module")
def shared(running_emulators: Emulators) -> Iterator[Shop]:
    """A shop for all tests that compare a table with what it was before."""
    del running_emulators
    with opened("maintenance") as shop:
        yield shop


@pytest.fixture
def store(shared: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The datasets that `sluice` works on."""
    for variable in ("archive_bucket", "dataset", "historical_dataset"):
        monkeypatch.setenv(variable.upper(), getattr(shared.settings, variable))
    return shared


def sluice(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def event_ids(rows: Rows) -> list[str]:
    return sorted(row["ingest"]["event_id"] for row in rows)


def in_table(store: Shop, table: str) -> list[str]:
    return sorted(row["id"] for row in store.query(f"SELECT ingest.event_id AS id FROM {table}"))


def of_day(rows: Rows, day: date) -> Rows:
    return [row for row in rows if row["event_date"] == day.isoformat()]


def fullest_day(rows: Rows) -> date:
    """A day with duplicates."""
    days = {row["event_date"] for row in rows}
    duplicates = {day: len(event_ids(of_day(rows, date.fromisoformat(day)))) for day in days}
    with_duplicates = {
        day: count
        for day, count in duplicates.items()
        if count > len(set(event_ids(of_day(rows, date.fromisoformat(day)))))
    }
    return date.fromisoformat(max(with_duplicates, key=lambda day: with_duplicates[day]))


def names(store: Shop) -> set[str]:
    """Tables of both datasets."""
    datasets = store.settings.dataset, store.settings.historical_dataset
    return {
        f"{table.dataset_id}.{table.table_id}" for dataset in datasets for table in store.client.list_tables(dataset)
    }


def shape(table: bigquery.Table) -> tuple[Any, ...]:
    return table.schema, table.time_partitioning, table.clustering_fields, table.num_rows


def test_a_table_is_read_as_it_was(fresh: Shop) -> None:
    day = fullest_day(fresh.live["orders"])
    before = datetime.now(UTC)
    pass_by(before)
    fresh.query(f"DELETE FROM orders WHERE event_date = '{day}'")
    as_of = fresh.ask("table_as_of", at=before.isoformat(), day=day.isoformat())
    assert event_ids(as_of) == event_ids(of_day(fresh.live["orders"], day))
    assert fresh.ask("table_as_of", at=datetime.now(UTC).isoformat(), day=day.isoformat()) == []


def test_deduplication_changes_one_partition_and_matches_the_view(fresh: Shop) -> None:
    rows = fresh.live["inventory"]
    day = fullest_day(rows)
    view = f"SELECT * EXCEPT (extras) FROM inventory_deduplicated WHERE event_date = '{day}' ORDER BY ingest.event_id"
    shown = fresh.query(view)
    fresh.ask("deduplicate_partition", table="inventory", day=day.isoformat())
    assert fresh.query(view.replace("_deduplicated", "")) == shown
    kept = sorted(set(event_ids(of_day(rows, day))))
    others = [row for row in rows if row["event_date"] != day.isoformat()]
    assert in_table(fresh, "inventory") == sorted([*kept, *event_ids(others)])
    fresh.ask("deduplicate_partition", table="inventory", day=day.isoformat())
    assert in_table(fresh, "inventory") == sorted([*kept, *event_ids(others)])


def test_deduplication_breaks_ties_by_time_message_id_and_archive_uri(
    fresh: Shop,
) -> None:
    first = fresh.live["inventory"][0]
    processed = datetime.fromisoformat(first["processed_timestamp"])

    def row(event_id: str, seconds: int, message_id: str, archive_uri: str) -> Mapping[str, Any]:
        ingest = {**first["ingest"], "event_id": event_id, "message_id": message_id, "archive_uri": archive_uri}
        return {**first, "processed_timestamp": (processed + timedelta(seconds=seconds)).isoformat(), "ingest": ingest}

    stay = [("time", 1, "a", "a"), ("message", 0, "b", "a"), ("address", 0, "a", "b")]
    go = [("time", 0, "b", "b"), ("message", 0, "a", "b"), ("address", 0, "a", "a")]
    rows = [row(*values) for values in (go[0], stay[0], stay[1], go[1], go[2], stay[2])]
    load(fresh.client, f"{fresh.settings.dataset}.inventory", rows)

    def shown(view: str) -> list[tuple[str, ...]]:
        rows = fresh.query(f"SELECT ingest FROM {view} WHERE ingest.event_id IN ('time', 'message', 'address')")
        return sorted(tuple(row["ingest"][key] for key in ("event_id", "message_id", "archive_uri")) for row in rows)

    expected = sorted((event_id, *names) for event_id, _, *names in stay)
    assert shown("inventory_deduplicated") == shown("inventory_all") == expected
    fresh.ask("deduplicate_partition", table="inventory", day=first["event_date"])
    assert shown("inventory") == expected


def test_expiring_rows_are_kept_once_after_repeated_runs(fresh: Shop) -> None:
    last = datetime.now(UTC).date() - timedelta(days=10)
    within = str(fresh.settings.retention_days - 10)
    for table, rows in fresh.live.items():
        smoke = {**rows[0]["ingest"], "event_id": f"smoke-{uuid.uuid4().hex}-{table}"}
        load(fresh.client, f"{fresh.settings.dataset}.{table}", [{**rows[0], "event_date": f"{last}", "ingest": smoke}])
    for _ in range(2):
        fresh.ask("keep_history", days=within)
        for table, rows in fresh.live.items():
            before = fresh.historical[table]
            present = {(row["ingest"]["event_id"], age(row)) for row in before}
            counting = [row for row in once(rows) if date.fromisoformat(row["event_date"]) <= last]
            expected = [row for row in counting if (row["ingest"]["event_id"], age(row)) not in present]
            assert expected
            kept = in_table(fresh, f"{fresh.settings.historical_dataset}.{table}")
            assert kept == event_ids([*before, *expected])
    expiring = fresh.ask("expiring_partitions", days=within)
    assert {row["not_in_history"] for row in expiring} == {0}


def test_a_day_that_should_be_gone_is_kept_when_it_is_asked_for(fresh: Shop) -> None:
    """A table may keep its days longer than RETENTION_DAYS: the bootstrap does not shorten that."""
    table, [row, *_] = next(iter(fresh.live.items()))
    day = datetime.now(UTC).date() - timedelta(days=fresh.settings.retention_days + 20)
    lineage = {**row["ingest"], "event_id": "long gone"}
    load(fresh.client, f"{fresh.settings.dataset}.{table}", [{**row, "event_date": f"{day}", "ingest": lineage}])
    asked = (
        f"SELECT COUNT(*) AS rows_of_it FROM `{PROJECT}.{fresh.settings.historical_dataset}.{table}`"
        " WHERE ingest.event_id = 'long gone'"
    )
    for overdue, expected in (("7", 0), ("30", 1), ("30", 1)):
        fresh.ask("keep_history", overdue=overdue)
        assert fresh.query(asked) == [{"rows_of_it": expected}]
        shown = fresh.ask("expiring_partitions", overdue="30")
        assert [day_shown["not_in_history"] for day_shown in shown if day_shown["event_date"] == day] == [1 - expected]


def test_columns_are_kept_by_name_where_their_order_differs(fresh: Shop) -> None:
    historical = f"`{PROJECT}.{fresh.settings.historical_dataset}.orders`"
    for color_first in ("orders", historical):
        fresh.query(f"ALTER TABLE {color_first} ADD COLUMN {'color' if color_first == 'orders' else 'size'} STRING")
    for size_second in ("orders", historical):
        fresh.query(f"ALTER TABLE {size_second} ADD COLUMN {'size' if size_second == 'orders' else 'color'} STRING")
    fresh.query("UPDATE orders SET color = 'red', size = 'XL' WHERE TRUE")
    fresh.ask("keep_history", days=str(fresh.settings.retention_days))
    variants = fresh.query(f"SELECT DISTINCT color, size FROM {historical} WHERE color IS NOT NULL")
    assert variants == [{"color": "red", "size": "XL"}]


def test_a_partition_is_exported_as_parquet_and_can_be_loaded_again(fresh: Shop) -> None:
    day = fullest_day(fresh.live["orders"])
    [first, *_] = of_day(fresh.live["orders"], day)
    smoke = {**first["ingest"], "event_id": f"smoke-{uuid.uuid4().hex}-order"}
    load(fresh.client, f"{fresh.settings.dataset}.orders", [{**first, "ingest": smoke}])
    for _ in range(2):
        fresh.ask("export_partition", table="orders", partition=f"{day:%Y%m%d}")
    config = bigquery.LoadJobConfig(source_format=bigquery.SourceFormat.PARQUET)
    uri = f"gs://{BUCKET}/exports/orders/{day:%Y%m%d}/*.parquet"
    fresh.client.load_table_from_uri(uri, f"{fresh.settings.dataset}.loaded", job_config=config).result()
    assert in_table(fresh, "loaded") == event_ids(of_day(fresh.live["orders"], day))
    extras = "SELECT ingest.event_id AS id, {} AS extras FROM {} WHERE event_date = '{}' ORDER BY id, extras"
    loaded = fresh.query(extras.format("extras", "loaded", day))
    fresh.query("DELETE FROM orders WHERE STARTS_WITH(ingest.event_id, 'smoke-')")
    assert loaded == fresh.query(extras.format("TO_JSON_STRING(extras)", "orders", day))


def test_a_snapshot_of_every_table_is_taken_listed_and_expires(store: Shop) -> None:
    taken = sluice("snapshot", "--days", "3", "--json")
    assert taken.exit_code == 0, taken.output
    snapshots = json.loads(taken.stdout)
    assert [snapshot["table"] for snapshot in snapshots] == [
        "inventory",
        "orders",
        "user_activity",
        "dead_letters",
        "replays",
    ]
    for snapshot in snapshots:
        table = store.client.get_table(f"{store.settings.historical_dataset}.{snapshot['snapshot']}")
        live = store.client.get_table(f"{store.settings.dataset}.{snapshot['table']}")
        assert table.table_type == "SNAPSHOT"
        assert table.expires is not None
        assert abs(table.expires - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=1)
        assert shape(table) == shape(live)
    listed = sluice("snapshot", "--list")
    assert listed.exit_code == 0
    assert all(snapshot["table"] in listed.stdout for snapshot in snapshots)
    listed_names = {snapshot["snapshot"] for snapshot in json.loads(sluice("snapshot", "--list", "--json").stdout)}
    assert listed_names >= {snapshot["snapshot"] for snapshot in snapshots}


def test_failed_snapshot_does_not_prevent_the_others(store: Shop) -> None:
    pass_by(datetime.now(UTC) + SECOND)  # since the test before has taken one of this name, maybe
    taken = sluice("snapshot", "invoices", "orders", "--json")
    assert taken.exit_code == 1
    assert "No snapshot of invoices" in taken.stderr
    assert [snapshot["table"] for snapshot in json.loads(taken.stdout)] == ["orders"], taken.stderr


SECOND = timedelta(seconds=1)


def pass_by(moment: datetime) -> None:
    """Wait until the clock has passed a moment."""
    wait_until(lambda: datetime.now(UTC) > moment, f"{moment} is over")


def taken(table: str) -> str:
    """Name of a new snapshot, and a second later than that of the one before: names have seconds."""
    pass_by(datetime.now(UTC) + SECOND)
    result = sluice("snapshot", table, "--json")
    assert result.exit_code == 0, result.output
    [snapshot] = json.loads(result.stdout)
    pass_by(datetime.now(UTC) + SECOND)
    return str(snapshot["snapshot"])


def test_snapshot_is_restored_into_a_new_table(store: Shop) -> None:
    there = in_table(store, "orders")
    snapshot = taken("orders")
    before = store.client.get_table(f"{store.settings.dataset}.orders")
    store.query("DELETE FROM orders WHERE status = 'pending'")
    remaining = in_table(store, "orders")
    restored = sluice("restore", snapshot)
    assert restored.exit_code == 0, restored.output
    assert f"{snapshot}_restored has {len(there)} rows" in restored.stdout
    assert in_table(store, f"{snapshot}_restored") == there
    assert in_table(store, "orders") == remaining
    assert shape(store.client.get_table(f"{store.settings.dataset}.{snapshot}_restored")) == shape(before)
    again = sluice("restore", snapshot)
    assert (again.exit_code, "already exists" in again.stderr) == (1, True)
    assert sluice("restore", snapshot, "--to", "other").exit_code == 0
    assert in_table(store, "other") == there


def test_replace_restores_the_live_table_and_keeps_its_old_rows(store: Shop) -> None:
    there = in_table(store, "inventory")
    snapshot = taken("inventory")
    levels = "SELECT * FROM stock_levels ORDER BY product_id, warehouse_id"
    stock = store.query(levels)
    before = store.client.get_table(f"{store.settings.dataset}.inventory")
    store.query("DELETE FROM inventory WHERE reason = 'sale'")
    remaining = in_table(store, "inventory")
    assert sluice("restore", snapshot).exit_code == 0, "what one looks at first is not in the way"
    replaced = sluice("restore", snapshot, "--replace", "--json")
    assert replaced.exit_code == 0, replaced.output
    answer = json.loads(replaced.stdout)
    assert (answer["table"], answer["rows"]) == ("inventory", len(there))
    assert in_table(store, "inventory") == there
    *columns, _ = shape(store.client.get_table(f"{store.settings.dataset}.inventory"))
    assert columns == list(shape(before)[:-1]), "but for the count, which the emulator gets wrong after a MERGE"
    assert store.query(levels) == stock
    assert in_table(store, f"{store.settings.historical_dataset}.{answer['before']}") == remaining
    assert not [name for name in names(store) if "_restoring_" in name]


def test_replaced_table_keeps_its_policy_tags_and_labels(store: Shop) -> None:
    """It is the same table: one that is made anew has no policy tags and no row access policies, but its readers."""
    snapshot = taken("orders")
    name = f"{store.settings.dataset}.orders"
    tag = bigquery.PolicyTagList(["projects/p/locations/us-central1/taxonomies/1/policyTags/2"])
    table = store.client.get_table(name)
    table.schema = [
        bigquery.SchemaField("extras", "JSON", policy_tags=tag) if field.name == "extras" else field
        for field in table.schema
    ]
    before = store.client.update_table(table, ["schema"])
    assert sluice("restore", snapshot, "--replace").exit_code == 0
    after = store.client.get_table(name)
    assert (after.created, after.schema, after.labels) == (before.created, before.schema, before.labels)
    assert [field.policy_tags for field in after.schema if field.name == "extras"] == [tag]


def test_a_table_with_readers_is_not_made_by_a_restore(store: Shop) -> None:
    """Its readers have access to the name, and it would have no policy tags."""
    snapshot = taken("orders")
    for name in ("orders", "user_activity", "orders_all"):
        rejected = sluice("restore", snapshot, "--to", name)
        assert rejected.exit_code == 1
        assert f"{name} is created by the bootstrap: run it, then restore with --replace" in rejected.stderr


def test_snapshot_does_not_replace_a_table_with_other_columns(store: Shop) -> None:
    snapshot = taken("orders")
    store.query("ALTER TABLE orders ADD COLUMN color STRING")
    there = names(store)
    rejected = sluice("restore", snapshot, "--replace")
    assert rejected.exit_code == 1
    assert "the columns of the restored table and of orders differ" in rejected.stderr
    assert names(store) == there
    assert sluice("restore", snapshot).exit_code == 0


def test_a_table_is_restored_as_of_a_time(store: Shop) -> None:
    there = in_table(store, "user_activity")
    at = (datetime.now(UTC) + SECOND).replace(microsecond=0)
    pass_by(at)
    store.query("DELETE FROM user_activity WHERE TRUE")
    restored = sluice("restore", "user_activity", "--at", f"{at:%Y-%m-%dT%H:%M:%S}", "--to", "again")
    assert restored.exit_code == 0, restored.output
    assert in_table(store, "again") == there
    assert in_table(store, "user_activity") == []
    replaced = sluice("restore", "user_activity", "--at", f"{at:%Y-%m-%dT%H:%M:%S%z}", "--replace")
    assert replaced.exit_code == 0, replaced.output
    assert in_table(store, "user_activity") == there
    assert sluice("restore", "user_activity", "--at", f"{at:%Y-%m-%dT%H:%M:%S}").exit_code == 0, "it was replaced since"


@pytest.mark.parametrize(
    ("at", "why"),
    [
        ("2999-01-01", "--at 2999-01-01T00:00:00.000+00:00: the time is in the future; choose a time from"),
        ("2020-01-01T12:00:00", "--at 2020-01-01T12:00:00.000+00:00: the time travel of maintenance goes back 168 h"),
        ("6d", "orders did not exist yet; choose a time from"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--replace"], ["--to", "as_it_was"]])
def test_time_out_of_range_restores_nothing_and_names_the_range(
    store: Shop, at: str, why: str, more: list[str]
) -> None:
    there, rows = names(store), in_table(store, "orders")
    rejected = sluice("restore", "orders", "--at", at, *more)
    assert (rejected.exit_code, rejected.stdout) == (2, "")
    assert why in rejected.stderr
    assert (names(store), in_table(store, "orders")) == (there, rows)


def test_range_follows_the_dataset_and_includes_its_first_time(fresh: Shop) -> None:
    dataset = fresh.client.get_dataset(fresh.settings.dataset)
    dataset.max_time_travel_hours = 48
    fresh.client.update_dataset(dataset, ["max_time_travel_hours"])
    snapshots = Snapshots(fresh.client, fresh.settings)
    now = datetime.now(UTC)
    with pytest.raises(WrongParameter, match="goes back 48 hours"):
        snapshots.restore_as_of("orders", now - timedelta(hours=49), None, now)
    with pytest.raises(WrongParameter, match="did not exist yet") as rejected:
        snapshots.restore_as_of("orders", now - timedelta(hours=47), None, now)
    [first] = re.findall(r"from (\S+) to", str(rejected.value))
    assert snapshots.restore_as_of("orders", datetime.fromisoformat(first), "first", now).rows == 0


def test_failed_clone_leaves_no_table(fresh: Shop) -> None:
    before = datetime.now(UTC)
    pass_by(before)
    fresh.query("ALTER TABLE orders DROP COLUMN total_amount")
    there = names(fresh)
    with pytest.raises(GoogleAPIError):
        Snapshots(fresh.client, fresh.settings).restore_as_of("orders", before, "as_it_was", datetime.now(UTC))
    assert names(fresh) == there


def test_table_cannot_be_read_before_its_creation(store: Shop) -> None:
    rejected = sluice("sql", "table_as_of", "--param", "at=6d")
    assert (rejected.exit_code, rejected.stdout) == (1, "")
    assert "Cannot read before" in rejected.stderr
    for at in ("8d", "2999-01-01"):
        rejected = sluice("sql", "table_as_of", "--param", f"at={at}")
        assert (rejected.exit_code, rejected.stdout) == (2, "")
        assert f"at: {at} is out of range; allowed is 7d to now" in rejected.stderr


def test_dropped_table_is_restored_from_its_snapshot(store: Shop) -> None:
    snapshot = taken("dead_letters")
    store.client.delete_table(f"{store.settings.dataset}.dead_letters")
    rejected = sluice("restore", snapshot, "--replace")
    assert (rejected.exit_code, "does not exist" in rejected.stderr) == (1, True)
    [made] = [
        definition for definition in definitions(PROJECT, store.settings) if definition.name.endswith(".dead_letters")
    ]
    store.query(made.ddl)
    assert sluice("restore", snapshot, "--replace").exit_code == 0
    assert store.query("SELECT COUNT(*) AS found FROM dead_letters") == [{"found": len(store.dead_letters)}]


def test_a_dry_run_prints_the_statements_and_changes_nothing(store: Shop) -> None:
    snapshot = taken("inventory")
    there = names(store)
    for command in (["snapshot"], ["restore", snapshot], ["restore", snapshot, "--replace"]):
        printed = sluice(*command, "--dry-run")
        assert printed.exit_code == 0, printed.output
        assert "CLONE" in printed.stdout
    assert "MERGE" in printed.stdout
    assert names(store) == there


def test_statement_of_a_dry_run_has_the_same_effect_by_hand(store: Shop) -> None:
    there = in_table(store, "orders")
    at = datetime.now(UTC).replace(microsecond=0)
    pass_by(at + SECOND)
    for command in (
        ["snapshot", "orders", "--days", "3"],
        ["restore", "orders", "--at", f"{at:%Y-%m-%dT%H:%M:%S}", "--to", "by_hand"],
    ):
        printed = sluice(*command, "--dry-run").stdout
        assert "-- {{ table }} NAME: " in printed
        before = names(store)
        store.client.query_and_wait(printed)
        [new] = names(store) - before
        assert in_table(store, new) == there


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["restore", "orders_20200101T000000"], "does not exist"),
        (["restore", "invoices", "--at", "2026-11-23T12:00:00"], "does not exist"),
        (["restore", "a", "--to", "b", "--replace"], "exclude each other"),
        (["restore", "a.b.c.d"], "is not of type NAME"),
        (["restore", "orders_all", "--at", "2026-11-23T12:00:00"], "not a table: its type is VIEW"),
        (["snapshot", "orders`; DROP"], "is not of type NAME"),
        (["snapshot", "invoices"], "does not exist"),
        (["snapshot", "orders_all"], "No snapshot of orders_all: orders_all is not a table: its type is VIEW"),
        (["snapshot", "--days", "0"], "days: 0 is out of range; allowed is 1 to 3650"),
        (["snapshot", "--days", "-3"], "days: -3 is out of range; allowed is 1 to 3650"),
        (["snapshot", "--days", "99999999"], "days: 99999999 is out of range; allowed is 1 to 3650"),
        (["snapshot", "--days", "99999999", "--dry-run"], "days: 99999999 is out of range; allowed is 1 to 3650"),
    ],
)
def test_impossible_command_is_rejected_with_the_reason(store: Shop, arguments: list[str], why: str) -> None:
    there = names(store)
    rejected = sluice(*arguments)
    assert rejected.exit_code in {1, 2}
    assert why in rejected.stderr
    assert names(store) == there


def test_a_table_that_is_named_twice_has_one_snapshot(store: Shop) -> None:
    pass_by(datetime.now(UTC) + SECOND)
    del store
    result = sluice("snapshot", "orders", "orders", "--json")
    assert result.exit_code == 0, result.output
    assert [snapshot["table"] for snapshot in json.loads(result.stdout)] == ["orders"]
