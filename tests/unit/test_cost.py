"""The cost model agrees with calculations by hand, and the pages and the command show it."""

import dataclasses
import json
import logging
import os
import pathlib
import re
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from functions.archive.compaction import THREADS
from functions.compact.scheduled import LOOK_BACK
from functions.ingest.flush_report import FlushReport
from functions.log import JsonFormatter
from functions.settings import Settings
from sluice.cli import app
from sluice.cost import archive, compaction, dataflow, deployment, measured, page, prices, sluice
from sluice.cost.alternatives import Alternatives
from sluice.cost.bill import Bill, BillLine, stored
from sluice.cost.deployment import DEFAULT, Deployment
from sluice.cost.fleet import Fleet, capacity
from sluice.cost.flow import Instance, flow
from sluice.cost.sluice import WAYS, Sluice, Way
from sluice.cost.ways import bills
from sluice.cost.workload import DAYS_OF_MONTH, Workload
from sluice.queries import queries
from tests.support.configuration import configuration
from tests.support.cost_inputs import MEASURED

ROOT = pathlib.Path(__file__).parents[2]


A_MILLION = Workload(1_000_000, 350)


def usd(bill: Bill, item: str) -> float:
    """USD for a million events."""
    return bill.part(item)


def test_pubsub_and_inserts_cost_the_listed_prices() -> None:
    bill = Sluice(MEASURED, A_MILLION).bill()
    assert usd(bill, sluice.PUBLISH) == pytest.approx(1e9 * 40 / 2**40)
    assert usd(bill, sluice.DELIVER) == pytest.approx(1e9 * 40 / 2**40)
    assert usd(bill, sluice.TOPIC) == pytest.approx(431e6 / 2**30 * 7 / DAYS_OF_MONTH * 0.27)
    assert usd(bill, sluice.REQUESTS) == pytest.approx(0.40)
    assert usd(bill, sluice.INSERTS) == pytest.approx(1040e6 / (200 * 2**20) * 0.01)


def test_an_instance_is_paid_for_while_it_has_a_request() -> None:
    """One instance is enough for 11.6 events/s, and is busy 1 - e^-in_flight of the time."""
    of = Sluice(MEASURED, A_MILLION)
    by_request, by_instance = of.bill(), of.bill("push, billed by instance")
    assert 0.5 < usd(by_request, sluice.CPU) / (86_400 * 0.000024) < 1
    assert usd(by_instance, sluice.CPU) == pytest.approx(86_400 * 0.000018)
    assert usd(by_instance, sluice.MEMORY) == pytest.approx(86_400 * 0.5 * 0.000002)
    assert usd(by_instance, sluice.REQUESTS) == 0


def test_the_archive_is_paid_for_by_object_and_as_long_as_it_is_kept() -> None:
    bill = Sluice(MEASURED, A_MILLION).bill()
    objects = usd(bill, sluice.OBJECTS) / (0.005 / 1000)
    assert 700_000 < objects < 1_000_000
    months = {DEFAULT: 737 * 0.020 / DAYS_OF_MONTH}
    months[dataclasses.replace(DEFAULT, nearline_days=30, coldline_days=90)] = (
        30 * 0.020 + 60 * 0.010 + 647 * 0.004
    ) / DAYS_OF_MONTH
    for lifecycle, price in months.items():
        for is_compacted, moved, archived in ((True, 24, 1e6 * 100), (False, objects, objects * 600 + 1e6 * 100)):
            chosen = dataclasses.replace(lifecycle, is_compacted=is_compacted)
            of_month = Sluice(MEASURED, A_MILLION, chosen).bill()
            assert usd(of_month, sluice.ARCHIVE) == pytest.approx(archived / 2**30 * price)
            if lifecycle.nearline_days:
                assert usd(of_month, sluice.TRANSITIONS) == pytest.approx(moved * (0.01 + 0.02) / 1000)


def test_compaction_costs_requests_time_and_what_it_deletes() -> None:
    bill = Sluice(MEASURED, A_MILLION).bill()
    objects = usd(bill, sluice.OBJECTS) / (0.005 / 1000)
    read = objects + 24 * 2 + 24 * 24  # Each compacted object is read back, and each run reads a day of checkpoints.
    written = 24 * 2 + 24 * 2
    listed = objects / 1000 * 2 + 24 * 24
    assert usd(bill, compaction.OBJECTS) == pytest.approx((read * 0.0004 + (written + listed) * 0.005) / 1000, rel=0.01)
    seconds = objects * (2 * 0.06 / 24 + 2 * 0.3 / 1000) + 24 * 5
    assert usd(bill, compaction.CPU) == pytest.approx(seconds * (0.000024 + 0.0000025))
    assert usd(bill, compaction.DELETED) == pytest.approx((objects * 600 + 1e8) / 2**30 * 7 / DAYS_OF_MONTH * 0.020)
    as_written = Sluice(MEASURED, A_MILLION, dataclasses.replace(DEFAULT, is_compacted=False)).bill()
    assert not {compaction.OBJECTS, compaction.CPU, compaction.DELETED} & as_written.items.keys()


def test_rows_are_paid_for_while_they_live_and_in_history() -> None:
    bill = Sluice(MEASURED, A_MILLION).bill()
    gib, active, long_term = 500e6 / 2**30, 0.000031507 * 24, 0.000021918 * 24
    assert usd(bill, sluice.LIVE) == pytest.approx(gib * 90 * active)
    assert usd(bill, sluice.HISTORY) == pytest.approx(gib * (90 * active + (730 - 173) * long_term))
    assert usd(bill, sluice.SNAPSHOTS) == pytest.approx(gib * 30 * long_term)


def test_logs_and_metrics_are_paid_for_by_the_flush_and_by_the_minute() -> None:
    bill = Sluice(MEASURED, A_MILLION).bill()
    flushes = usd(bill, sluice.OBJECTS) / (0.005 / 1000)
    assert usd(bill, sluice.FLUSH_LINES) == pytest.approx(flushes * 1_300 / 2**30 * 0.50)
    assert usd(bill, sluice.METRICS) == pytest.approx(10 * 1_440 * 80 / 2**20 * 0.2580)
    assert usd(bill, sluice.REQUEST_LINES) == 0
    logged = Sluice(MEASURED, A_MILLION, dataclasses.replace(DEFAULT, request_logs=True)).bill()
    assert usd(logged, sluice.REQUEST_LINES) == pytest.approx(1_000e6 / 2**30 * 0.50)
    assert logged.per_million - bill.per_million == pytest.approx(usd(logged, sluice.REQUEST_LINES))


def test_cost_of_reconciliation_and_history_follows_the_bytes_read() -> None:
    bill = Sluice(MEASURED, A_MILLION).bill()
    assert usd(bill, sluice.RECONCILE_QUERIES) == pytest.approx(24 * DEFAULT.reconciled_days * 200e6 * 6.25 / 2**40)
    objects = usd(bill, sluice.OBJECTS) / (0.005 / 1000)
    operations_of_runs = 24 * (2 * 2 + 1)
    reads = (objects / 400 * 0.0004 + (objects / 1000 + operations_of_runs) * 0.005) / 1000
    assert usd(bill, sluice.RECONCILE_OBJECTS) == pytest.approx(reads)
    assert usd(bill, sluice.KEEP_HISTORY) == pytest.approx((7 * 500e6 + 15 * 180e6) * 6.25 / 2**40)
    few = Sluice(MEASURED, Workload(1_000, 350)).bill()
    least = 10 * 2**20 * 6.25 / 2**40
    assert few.items[sluice.KEEP_HISTORY] == pytest.approx(DAYS_OF_MONTH * 6 * least)
    assert few.items[sluice.RECONCILE_QUERIES] == pytest.approx(24 * DAYS_OF_MONTH * 4 * least)


def test_three_jobs_of_the_scheduler_cost_thirty_cents_a_month() -> None:
    lines = [line for line in Sluice(MEASURED, A_MILLION).bill().lines if line.price is prices.SCHEDULER_JOBS]
    assert sum(line.usd for line in lines) == pytest.approx(0.30)
    assert configuration().local_values["called"].count(" schedule = ") == deployment.SCHEDULER_JOBS + 1


def test_subscriptions_cost_the_listed_prices() -> None:
    """The bytes of messages of 1 000 bytes in all, in TiB: 40 + 50, and 40 + 50 + 40 + 50 USD."""
    of = Alternatives(MEASURED, Workload(1_000_000, 1_000 - deployment.MESSAGE_OVERHEAD_BYTES))
    bare, both = of.bare_subscription(), of.subscriptions()
    pubsub = [line for line in bare.lines if line.price.what.startswith("Pub/Sub")]
    assert sum(line.usd for line in pubsub) == pytest.approx(bare.events * 1_000 / 2**40 * 90)
    pubsub = [line for line in both.lines if line.price.what.startswith("Pub/Sub")]
    assert sum(line.usd for line in pubsub) == pytest.approx(both.events * 1_000 / 2**40 * 180)


def test_template_pays_a_worker_and_a_plain_function_each_object() -> None:
    of = Alternatives(MEASURED, A_MILLION)
    worker = 730 * (2 * 0.069 + 8 * 0.003557 + 30 * 0.000054)
    assert of.dataflow_template().items[dataflow.WORKERS] == pytest.approx(worker)
    assert usd(of.plain_function(), sluice.OBJECTS) == pytest.approx(5.0)


@pytest.mark.parametrize("way", WAYS)
def test_every_item_is_a_part_of_the_sum(way: sluice.Way) -> None:
    bill = Sluice(MEASURED, A_MILLION).bill(way)
    assert sum(bill.items.values()) == pytest.approx(bill.usd)
    assert sum(map(bill.part, bill.items)) == pytest.approx(bill.per_million)
    assert all(usd > 0 for item, usd in bill.items.items() if item not in {sluice.REQUESTS, sluice.REQUEST_LINES})


def test_a_shops_day_has_as_many_events_and_other_rates() -> None:
    day = Workload(1_000_000, 350, "day")
    assert sum(day.hours.values()) == 24
    assert sum(rate * 3600 * hours for rate, hours in day.hours.items()) == pytest.approx(1_000_000)
    assert max(day.hours) > 6 * min(day.hours)
    flat, busy = (Sluice(MEASURED, volume).bill() for volume in (A_MILLION, day))
    assert usd(busy, sluice.REQUESTS) == pytest.approx(usd(flat, sluice.REQUESTS))
    assert usd(busy, sluice.OBJECTS) < usd(flat, sluice.OBJECTS)


def test_larger_events_cost_more_of_everything_but_requests() -> None:
    small, large = (Sluice(MEASURED, Workload(10_000_000, size)).bill() for size in (350, 20_000))
    fixed = {sluice.REQUESTS, sluice.REQUEST_LINES, sluice.METRICS, sluice.SCHEDULE}
    for item in small.items.keys() - fixed - {sluice.OBJECTS, sluice.RECONCILE_OBJECTS, sluice.FLUSH_LINES}:
        assert large.items[item] >= small.items[item], item
    assert large.usd > 5 * small.usd


def test_storage_is_half_full_in_the_first_month() -> None:
    month = prices.GIB * DAYS_OF_MONTH
    line = stored("", prices.STANDARD, month, 0, 730)
    assert (line.units, line.first) == (730, DAYS_OF_MONTH / 2)
    week = stored("", prices.STANDARD, month, 0, 7)
    assert week.first == pytest.approx(7 * (1 - 3.5 / DAYS_OF_MONTH))
    assert stored("", prices.STANDARD, month, 90, 120).first == 0


def test_the_free_tier_is_used_up_once() -> None:
    lines = [BillLine("a", prices.SCHEDULER_JOBS, 2), BillLine("b", prices.SCHEDULER_JOBS, 4)]
    free = Bill(lines, 1).less_free_tier()
    assert [line.units for line in free.lines] == [0, 3]


def test_every_price_has_a_source_and_a_date() -> None:
    assert len(prices.ALL) > 25
    assert len({price.what for price in prices.ALL}) == len(prices.ALL)
    for price in prices.ALL:
        assert price.source.startswith("https://cloud.google.com/"), price
        assert price.date.year == 2026, price
        assert price.usd > 0


def test_the_reconciliation_takes_the_cpu_that_the_page_says() -> None:
    [table] = re.findall(
        r"<!-- reconciliation -->(.*?)<!-- end -->", (ROOT / "docs" / "reliability.md").read_text(), re.DOTALL
    )
    events, cpu = (int(re.findall(rf"\| {label} \| (\d+) \|", table)[0]) for label in ("events", "CPU seconds"))
    assert pytest.approx(cpu / (events / 25), rel=0.1) == deployment.OBJECT_CPU_SECONDS


def test_the_queries_that_price_queries_have_the_same_price() -> None:
    for name in ("cost_by_query", "cost_by_user"):
        assert queries()[name].parameters["usd_per_tib"].default == f"{prices.QUERIED_BYTES.usd}"


def test_the_deployment_is_that_of_terraform() -> None:
    backup = configuration().defaults("backup")
    archive = configuration().defaults("archive")
    assert archive["compact"] == str(DEFAULT.is_compacted).lower()
    assert (THREADS, LOOK_BACK / timedelta(hours=1)) == (compaction.THREADS, compaction.LOOK_BACK_HOURS)
    for name, value in {
        "nearline_days": DEFAULT.nearline_days,
        "coldline_days": DEFAULT.coldline_days,
        "keep_history_days": DEFAULT.keep_history_days,
        "snapshot_days": DEFAULT.snapshot_days,
    }.items():
        assert (archive | backup)[name] == str(value), name
    assert int(archive["delete_days"]) + int(archive["soft_delete_days"]) == DEFAULT.archive_days
    batch = configuration().defaults("batch")
    assert (batch["cpu"], batch["memory"]) == (str(deployment.DRAIN_VCPU), f"{deployment.DRAIN_GIB * 1024:.0f}Mi")
    assert float(batch["interval_minutes"]) == DEFAULT.batch_minutes
    assert archive["soft_delete_days"] == str(deployment.SOFT_DELETE_DAYS)
    kept = configuration().resources["google_pubsub_topic.events"]["message_retention_duration"]
    assert kept == f"${{{DEFAULT.topic_days} * 86400}}s"
    assert DEFAULT.retention_days == Settings(archive_bucket="archive").retention_days


def test_a_line_of_a_flush_is_about_as_long_as_the_model_says() -> None:
    uri = "gs://archive-of-a-project/raw/dt=2026-11-28/hr=12/20261128T120000.000000Z-0123456789ab-00000001.ndjson.gz"
    report = FlushReport(archive_uri=uri, events=20, message_bytes=6_800, wait_ms=60)
    report.rows.update(orders=6, inventory=4, user_activity=10)
    record = logging.makeLogRecord({"name": "functions.ingest.group_commit", "msg": "flush", "levelname": "INFO"})
    record.fields = {name: getattr(report, name) for name in report.__struct_fields__}
    labels = {"environment": "prod", "code_version": "sluice-prod-ingest-00042-abc"}
    line = JsonFormatter(labels, lambda: None).format(record)
    assert 400 < len(line) < 800
    # Cloud Logging's own fields: resource, instance id, log name, insert id, receive time.
    assert len(line) + 600 == pytest.approx(deployment.FLUSH_LINE_BYTES, rel=0.2)


def test_the_decision_on_the_storage_write_api_has_the_models_numbers() -> None:
    of = Sluice(measured.read(), page.workload(1_000_000))
    inserted = of.billed_row_bytes * prices.INSERTED_BYTES.usd_per_unit * 1e6
    written = of.row_bytes * prices.WRITTEN_BYTES.usd_per_unit * 1e6
    text = (ROOT / "docs" / "decisions.md").read_text()
    assert f"| {inserted:.3f}: 1 KiB a row at least | {written:.3f}: {of.row_bytes:.0f} bytes a row |" in text
    shares = [
        (inserted - written) / Sluice(measured.read(), page.workload(events)).bill().per_million
        for events in page.EVENTS_PER_DAY
    ]
    said = " / ".join(f"{share * 100:.1f} %" for share in shares)
    assert f"at 1M / 10M / 100M events a day | | {said} |" in text


def test_the_page_says_between_which_rates_another_way_is_cheaper() -> None:
    def is_cheaper(way: str, events_per_day: float) -> bool:
        usd = {of.key: bill.usd for of, bill in bills(measured.read(), page.workload(events_per_day)).items()}
        return usd[way] < usd["sluice"]

    text = " ".join(page.FILE.read_text(encoding="utf-8").split())
    assert "The plain function** of the tutorials costs less than Sluice below some 900 000 events a day" in text
    assert is_cheaper("plain_function", 800_000)
    assert not is_cheaper("plain_function", 1_000_000)
    assert "the template is dearer than Sluice below some 400 000 events a day, and cheaper above" in text
    assert not is_cheaper("dataflow_template", 380_000)
    assert is_cheaper("dataflow_template", 450_000)


def test_page_of_the_engines_names_the_break_even_of_dataflow() -> None:
    of = Sluice(measured.read(), page.workload(1_000_000))
    text = " ".join((page.SCALE.read_text() + page.FILE.read_text()).split())
    assert of.cheaper_from("Dataflow", "push") == pytest.approx(10, rel=0.1)
    assert of.cheaper_from("Dataflow", "push, billed by instance") == pytest.approx(11, rel=0.1)
    assert "costs less than the function from some 10 events a second on" in text
    assert "less than one that is billed by instance from some 11" in text
    assert "less than as deployed from some 820 000 events a day on" in text
    worker = sum(line.usd for line in dataflow.worker_lines(prices.HOURS_OF_MONTH))
    assert f"The first worker costs {worker:.0f} USD a month" in text
    assert f"[{page.whole(dataflow.PUBLISHED_EVENTS_OF_VCPU)} events/s a vCPU]" in text


def test_the_pages_and_the_readme_are_those_of_the_model() -> None:
    pages = (
        (page.FILE, page.update()),
        (page.COST, page.update_cost()),
        (page.SCALE, page.update_scale()),
        (page.ARCHIVE, page.update_archive()),
        (page.README, page.update_readme()),
    )
    for file, expected in pages:
        if "UPDATE_DOCS" in os.environ:
            file.write_text(expected)
        assert file.read_text() == expected, "run UPDATE_DOCS=1 make test"


@pytest.mark.parametrize(("way", "rate"), [("push", 3_400), ("Dataflow", 17_000), ("batch", 17_000)])
def test_an_instance_compacts_as_many_events_as_the_page_says(way: Way, rate: float) -> None:
    def share(events: float) -> float:
        return Sluice(MEASURED, Workload.at_rate(events, MEASURED.message_bytes)).compaction(way).share

    assert "some 3 400 events a second as they are pushed, or 17 000 from Dataflow" in " ".join(
        page.ARCHIVE.read_text().split()
    )
    assert share(rate) == 1 > share(1.5 * rate)


def test_compacted_archive_is_searched_in_a_day_or_two() -> None:
    workload = Workload.at_rate(page.ARCHIVE_RATE, measured.read().message_bytes)
    month = Sluice(measured.read(), workload).compaction()
    written, compacted = archive.StoredArchive.written(month), archive.StoredArchive.compacted(month)
    assert written.erase().hours > 24 * 70
    assert compacted.erase().hours < 48
    assert compacted.replay().hours < 8
    assert sum(line.usd for line in month.lines()) < written.colder_classes_usd()


def test_writer_changes_the_cost_of_inserts() -> None:
    usd = {
        writer: next(
            line["usd_per_million"]
            for line in json.loads(run("--events-per-day", "1000000", "--writer", writer, "--json")[1])["ways"][
                "sluice_on_dataflow"
            ]["lines"]
            if line["item"] == sluice.INSERTS
        )
        for writer in deployment.WRITERS
    }
    assert usd["storage_write"] < usd["insert_all"] / 4


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["cost", *arguments], env={"COLUMNS": "80"})
    return result.exit_code, result.stdout


def test_the_command_prints_items_and_ways_in_80_columns() -> None:
    code, shown = run("--events-per-day", "1000000")
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 80
    bill = bills(measured.read(), page.workload(1_000_000))
    for item in Sluice(measured.read(), page.workload(1_000_000)).bill().items:
        assert item in shown
    assert re.search(r"Sluice, as deployed +9.5 +820 000$", shown, re.MULTILINE)
    for way, of_way in bill.items():
        assert re.search(rf"{re.escape(way.title)} +{of_way.per_million:.2f} ", shown), way.title


def test_the_commands_json_has_each_line_with_its_units() -> None:
    code, printed = run("--events-per-day", "1000000", "--bytes", "2000", "--rate-profile", "day", "--json")
    assert code == 0
    answer = json.loads(printed)
    assert (answer["message_bytes"], answer["rate_profile"]) == (2000, "day")
    ours = answer["ways"]["sluice"]
    assert sum(line["usd_per_month"] for line in ours["lines"]) == pytest.approx(ours["usd_per_month"])
    assert ours["usd_per_month"] == pytest.approx(ours["usd_per_million"] * DAYS_OF_MONTH)
    free = json.loads(run("--events-per-day", "1000000", "--free-tier", "--json")[1])
    assert free["ways"]["sluice"]["usd_per_month"] < ours["usd_per_month"]


@pytest.mark.parametrize(
    "wrong",
    [["--events-per-day", "0"], ["--events-per-day", "many"], ["--events-per-day", "1", "--rate-profile", "night"], []],
)
def test_wrong_options_are_exit_code_2(wrong: list[str]) -> None:
    assert run(*wrong)[0] == 2


@pytest.mark.parametrize("rate", [11.6, 100.0])
def test_an_interval_means_an_object_each_and_adds_no_more_latency(rate: float) -> None:
    of = measured.read()
    at_once, *slower = (flow(Instance.of(of, of.message_bytes, seconds), rate) for seconds in (0.0, 1.0, 2.0))
    for seconds, each in zip((1.0, 2.0), slower, strict=True):
        assert each.flushes * rate * seconds == pytest.approx(1, rel=0.03)
        assert each.p99 <= at_once.p99 + seconds
        assert each.mean <= at_once.mean + seconds / 2


def test_the_page_says_what_fewer_flushes_save_and_take() -> None:
    text = " ".join(page.FILE.with_name("cost.md").read_text(encoding="utf-8").split())
    at_once, second, two = (
        Sluice(measured.read(), page.workload(1_000_000), Deployment(flush_interval=seconds)) for seconds in (0, 1, 2)
    )
    assert "a million events in a day have some 800 000" in text
    assert Fleet(at_once.instance, 1e6 / 86_400).each.flushes == pytest.approx(0.8, rel=0.05)
    assert "1 s saves half of the bill" in text
    assert second.bill().usd == pytest.approx(at_once.bill().usd / 2, rel=0.05)
    assert "some 130 events/s with 2 s" in text
    assert capacity(two.instance) == pytest.approx(130, rel=0.05)
    assert two.cheaper_from("Dataflow", "push, billed by instance") == pytest.approx(390, rel=0.05)
    assert "Dataflow costs less from some 390 events a second on" in " ".join(page.SCALE.read_text().split())
