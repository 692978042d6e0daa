"""The model of a million events on many instances agrees with the code, measurements and calculations by hand."""

import asyncio
import dataclasses
import itertools
import json
import math
import pathlib
import re
import statistics
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from typer.testing import CliRunner

from benchmarks import measured, page, sizes, virtual_time
from benchmarks.cells import Cell
from benchmarks.core import Core
from benchmarks.drain import Drained
from benchmarks.load import Open, arrivals
from benchmarks.machine import Machine
from benchmarks.plan import LARGE_ORDERS, RATES, closed, opened
from benchmarks.quotas import QUOTAS, TERRAFORM_INSTANCES, Load
from benchmarks.results import FILE, Results, read
from benchmarks.scale import app, tables
from benchmarks.spread import NotMeasured
from benchmarks.virtual_time import VirtualClock
from functions.archive.writer import Archive
from functions.ingest.flush import FlushServices
from functions.ingest.group_commit import GroupCommit
from functions.ingest.warehouse import InsertResult, Warehouse
from functions.settings import Settings
from functions.system import System
from sluice.cost import dataflow, sluice
from sluice.cost.dataflow import Beam
from sluice.cost.deployment import Deployment
from sluice.cost.fleet import CONCURRENCY, TARGET, Fleet, capacity
from sluice.cost.flow import Instance, flow, run
from sluice.cost.measured import Measured
from sluice.cost.measured import read as read_measured
from sluice.cost.sluice import WAYS, Sluice
from sluice.cost.workload import Workload
from tests.support.configuration import configuration
from tests.support.cost_inputs import MEASURED
from tests.support.samples import NOW, event, message, process

ROOT = pathlib.Path(__file__).parents[2]

INSTANCE = Instance.of(MEASURED, MEASURED.message_bytes)


class _Archive:
    def __init__(self) -> None:
        self.sizes: list[int] = []

    def name(self, _: Any) -> str:
        return "object"

    uri = name

    def write(self, _: str, outcomes: Sequence[object], __: float) -> int:
        self.sizes.append(len(outcomes))
        return 0


class _Calls:
    """Runs calls without threads; they take time that passes as the clock says."""

    async def run[Result](self, call: Callable[..., Result], *arguments: object) -> Result:
        result = call(*arguments)
        await asyncio.sleep(INSTANCE.upload if isinstance(result, int) else INSTANCE.insert)
        return result


@pytest.mark.parametrize(("rate", "batch"), [(5, 500), (40, 500), (300, 500), (1500, 500), (3000, 500), (1000, 80)])
def test_simulation_matches_the_group_commit(rate: int, batch: int) -> None:
    archive = _Archive()
    moments = [*arrivals(Open(rate, 1_500 / rate))]
    sent = message(event("order"), event_id="e-1")
    outcome = process(sent, NOW)
    settings = Settings(archive_bucket="archive", batch_rows=batch)
    warehouse = SimpleNamespace(insert=lambda *_: InsertResult({}, {}))

    async def take_all(clock: VirtualClock) -> list[float]:
        writers = cast("Archive", archive), cast("Warehouse", warehouse)
        services = FlushServices(lambda *_: outcome, *writers, _Calls(), System(monotonic=clock))
        commit = GroupCommit(services, settings)

        async def take(moment: float) -> float:
            await asyncio.sleep(moment)
            await commit(sent)
            return clock() - moment

        return await asyncio.gather(*map(take, moments))

    took = virtual_time.run(take_all)
    latencies, sizes = run(dataclasses.replace(INSTANCE, event_cpu=0.0, flush_cpu=0.0, batch=batch), moments)
    assert sizes == archive.sizes
    assert latencies == pytest.approx(took, abs=1e-6)


@pytest.mark.parametrize("rate", [1, 30, 900, 6_000])
def test_each_event_is_flushed_once_in_a_batch_within_the_limit(rate: int) -> None:
    moments = [*arrivals(Open(rate, 3_000 / rate))]
    latencies, sizes = run(INSTANCE, moments)
    assert len(latencies) == sum(sizes) == len(moments)
    assert 0 < max(sizes) <= INSTANCE.batch
    assert min(latencies) >= INSTANCE.upload + INSTANCE.insert


def test_more_events_are_larger_flushes_more_cpu_and_more_in_flight() -> None:
    flows = [flow(INSTANCE, rate) for rate in (1, 10, 100, 1_000, 3_000)]
    for less, more in itertools.pairwise(flows):
        assert less.flushes > more.flushes
        assert less.busy < more.busy
        assert less.in_flight < more.in_flight
    assert flows[0].flushes == pytest.approx(1, abs=0.15)


def _cell(rate: int, uploads: float, cpu: float, p50: float, p99: float) -> Cell:
    return Cell(
        scenario=opened(rate), of="sluice", repetition=1, rate=rate, events_per_second=rate, share=1.0,
        p50=p50, p99=p99, p999=p99, acknowledged=1, cpu=cpu, calls=0, uploads=uploads,
        upload_bytes=1e6 + 600 * uploads, insert_bytes=0,
        billed_row_bytes=10_400_000, peak_memory=0, rejected={}, resent=0, generator_busy=0.5,
    )  # fmt: skip


def _results(*cells: Cell) -> Results:
    machine = Machine(cpu="", cores=2, memory_gib=1, system="", python="", pinned=True)
    core = Core(events="mixed", microseconds=[20.0])
    drained = Drained(events="mixed", message_bytes=350, microseconds=[50.0])
    others = [
        msgspec.structs.replace(_cell(300, 10_000, cpu, 0.15, 0.15), scenario=scenario, of=of)
        for scenario, of, cpu in (
            (opened(300), "plain", 16.0), (LARGE_ORDERS, "sluice", 8.0), (closed(80), "sluice", 2.0),
        )
    ]  # fmt: skip
    return Results(
        started="", revision="", seconds=0, machine=machine, message_bytes=350, large_bytes=20_350,
        sizes=MEASURED.sizes, cells=[*cells, *(others if cells else [])], core=[core],
        drain=[drained],
    )  # fmt: skip


def test_the_simulation_agrees_with_the_run_that_is_kept() -> None:
    """Objects agree within a fifth, latency and CPU within a quarter or 15 ms, at each rate that was measured."""
    results = read(FILE)
    instance = Instance.of(measured.of(results), results.message_bytes)
    for rate in RATES:
        cells = [cell for cell in results.of(opened(rate), "sluice") if cell.is_sustained]
        assert cells
        simulation = flow(instance, rate)
        uploads = statistics.median(cell.uploads for cell in cells if cell.uploads)
        assert simulation.flushes * 10_000 == pytest.approx(uploads, rel=0.2)
        cpu = statistics.median(cell.cpu for cell in cells if cell.cpu)
        assert simulation.busy / rate * 10_000 == pytest.approx(cpu, rel=0.25)
        for simulated, in_cells in (
            (simulation.p50, [cell.p50 for cell in cells if cell.p50]),
            (simulation.p99, [cell.p99 for cell in cells if cell.p99]),
        ):
            assert simulated == pytest.approx(statistics.median(in_cells), rel=0.25, abs=0.015), (rate, simulation)


def test_the_inputs_of_the_model_are_those_of_the_run_that_is_kept() -> None:
    assert measured.of(read(FILE)) == read_measured(), "run .venv/bin/python -m benchmarks --docs --show FILE"


def test_the_bytes_in_the_archive_are_those_that_were_measured() -> None:
    results, measurements = read(FILE), read_measured()
    for scenario in (closed(1), *map(opened, RATES)):
        [cell, *_] = results.of(scenario, "sluice")
        assert cell.uploads
        assert cell.upload_bytes
        modelled = cell.uploads * measurements.object_bytes + 10_000 * measurements.archived_bytes
        assert modelled == pytest.approx(cell.upload_bytes, rel=0.25), scenario


@pytest.mark.check
def test_rows_have_the_sizes_that_are_kept() -> None:
    kept, now = (msgspec.structs.asdict(measured_sizes) for measured_sizes in (read_measured().sizes, sizes.measure()))
    assert now == pytest.approx(kept, rel=0.05)


def test_rates_separate_the_cpu_of_events_from_that_of_flushes() -> None:
    a, b = 1.2, 3e-3 * 10_000
    uploads = [1_400, 470, 95]
    cells = [_cell(rate, n, a + b * n / 10_000, 0.18, 0.22) for rate, n in zip(RATES, uploads, strict=True)]
    measurements = measured.of(_results(*cells))
    assert (measurements.event_cpu, measurements.flush_cpu) == pytest.approx((120e-6, 3e-3))
    assert measurements.byte_cpu == pytest.approx(6e-4 / 20_000)
    assert measurements.plain_cpu == pytest.approx(1.6e-3)
    assert Instance.of(measurements, 350).batch == 500
    assert Instance.of(measurements, 20_350).event_cpu == pytest.approx(120e-6 + 6e-4)
    with pytest.raises(NotMeasured, match="less than two rates"):
        measured.of(_results(*cells[:1]))


def test_inseparable_cpu_is_reported_as_not_measured() -> None:
    """More objects with less CPU: the line would say that a flush takes less than no CPU."""
    cells = [_cell(100, 1_400, 1.0, 0.18, 0.22), _cell(1_500, 95, 1.5, 0.18, 0.22)]
    with pytest.raises(NotMeasured, match="cannot be separated"):
        measured.of(_results(*cells))


def test_an_instance_is_never_given_more_than_was_simulated() -> None:
    """Flushes that take no time and no CPU: nothing ever asks for a second instance."""
    free = Instance(event_cpu=0.0, flush_cpu=0.0, upload=0.0, insert=0.0)
    assert capacity(free) == 100_000
    assert Fleet(free, 100).instances == 1


def test_the_model_takes_the_rows_of_rates_that_were_sustained() -> None:
    cells = [_cell(100, 1_400, 5.4, 0.18, 0.22), _cell(300, 470, 2.6, 0.18, 0.22)]
    behind = msgspec.structs.replace(_cell(1_500, 95, 1.5, 0.18, 0.22), share=0.5, billed_row_bytes=1e12)
    measurements, more = (measured.of(_results(*selected)) for selected in (cells, [*cells, behind, behind, behind]))
    assert measurements.billed_row_bytes == more.billed_row_bytes


def test_there_are_as_many_instances_as_the_autoscaler_wants() -> None:
    most = capacity(INSTANCE)
    simulation = flow(INSTANCE, most)
    assert max(simulation.busy, simulation.in_flight / CONCURRENCY) == pytest.approx(TARGET, rel=0.05)
    for rate in (most * 0.9, most * 1.5, most * 20):
        assert Fleet(INSTANCE, rate).instances == math.ceil(rate / most)
    assert flow(INSTANCE, capacity(INSTANCE, 1_000_000)).busy == pytest.approx(TARGET, rel=0.05)


def at_rate(rate: float, measurements: Measured = MEASURED) -> Sluice:
    return Sluice(measurements, Workload.at_rate(rate, measurements.message_bytes))


def test_dataflow_cost_includes_workers_and_writes() -> None:
    """A worker is 2 vCPU that are used to 70 %; 10 000/s fill batches of 500 on ten shards within half a second."""
    slow, of = (dataclasses.replace(at_rate(10_000), beam=Beam(source="", event_cpu=cpu)) for cpu in (5e-4, 5e-5))
    assert slow.job(10_000).workers == math.ceil(10_000 * (5e-4 + 3e-3 / 500) / 0.7 / 2) == 4
    assert of.job(10_000).workers == math.ceil(10_000 * 12 / 54_878 / 0.7 / 2) == 2
    assert (of.job(10_000).own_workers, of.job(1).workers) == (1, 1)
    bill = of.bill("Dataflow")
    worker = 2 * 0.069 + 8 * 0.003557 + 30 * 0.000054
    assert bill.part(dataflow.WORKERS) == pytest.approx(2 * worker / 3.6e7 * 1e6)
    units = 58 / (2**30 / 1_000) * 10_000
    assert bill.part(dataflow.STREAMING_ENGINE) == pytest.approx(units * 0.089 / 3.6e7 * 1e6)
    assert bill.items[dataflow.IMAGE] == pytest.approx(0.10)
    assert bill.part(sluice.INSERTS) == pytest.approx(1040e6 / (200 * 2**20) * 0.01)
    assert bill.part(sluice.OBJECTS) == pytest.approx(5 / 500)
    written = dataclasses.replace(of, deployment=Deployment(writer="storage_write")).bill("Dataflow")
    assert written.part(sluice.INSERTS) == pytest.approx(500e6 * 0.025 / 2**30)


def test_dataflow_batch_closes_when_full_or_after_a_second() -> None:
    """One more of 8 events/s on eight shards comes within a second of the first."""
    assert at_rate(8).job(8).batches == pytest.approx(1 / 2)
    assert at_rate(800).job(800).batches == pytest.approx(1 / 101)
    assert at_rate(8_000).job(8_000).batches == 1 / 500
    large = Sluice(MEASURED, Workload.at_rate(8_000, 2**20))
    assert large.job(8_000).batches == 1 / 2
    assert large.job(8_000).workers > 8 * at_rate(8_000).job(8_000).workers


def test_break_even_rate_separates_more_and_less_expensive_rates() -> None:
    rate = at_rate(1).cheaper_from("Dataflow", "push")
    assert rate is not None
    below, above = (at_rate(rate * factor) for factor in (0.9, 1.1))
    assert below.bill("Dataflow").usd > below.bill("push").usd
    assert above.bill("Dataflow").usd < above.bill("push").usd
    assert at_rate(1).cheaper_from("push", "Dataflow") is None


def test_a_quota_is_reached_where_a_load_takes_all_of_it() -> None:
    load = Load(rate=50_000, instances=60, in_flight=9_000, uploads=850, message_bytes=350, row_bytes=1040)
    reached = {quota.what: quota.reached(load) for quota in QUOTAS}
    assert reached["BigQuery, rows with an insertId"] == pytest.approx(100_000)
    assert reached["BigQuery, insertAll"] == pytest.approx(300e6 / 1040)
    assert reached["Cloud Storage, writes at first"] == pytest.approx(50_000 / 0.85)
    assert reached["Pub/Sub, pushed"] == pytest.approx(440_000)
    assert dataclasses.replace(load, message_bytes=3_000).pushed_bytes == pytest.approx(50_000 * 4_350)
    assert all(quota.source.startswith(("https://", "terraform/")) for quota in QUOTAS)


def test_the_instances_are_those_of_terraform() -> None:
    ingest = configuration().defaults("ingest")
    assert ingest["max_instances"] == str(TERRAFORM_INSTANCES)
    assert ingest["concurrency"] == str(CONCURRENCY)


def test_readme_and_scale_page_have_the_numbers_of_the_limits_page() -> None:
    limits = dict(re.findall(r"^\| ([^|]+) \| [\d ]+ \| [^|]+ \| ([\d ]+) \|", page.LIMITS.read_text(), re.MULTILINE))
    scale = page.LIMITS.with_name("scale.md").read_text()
    for ours, theirs in (
        ("instances of `ingest`", "this project's own instances"),
        ("Pub/Sub's push window", "Pub/Sub's push window"),
        ("bytes that Pub/Sub pushes in a region", "Pub/Sub, pushed"),
    ):
        assert f"| {ours} | {limits[theirs]} |" in scale
    assert f"{limits['BigQuery, rows with an insertId']} rows a second with an insertId" in scale
    [worker] = re.findall(r"^\| Dataflow: workers \| (\d+) \|", scale, re.MULTILINE)
    [turn] = re.findall(r"^\| Dataflow \| push \| (\d+)/s \|", page.LIMITS.read_text(), re.MULTILINE)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"above some {limits["this project's own instances"]} events a second" in readme
    assert f"first worker costs {worker} USD a month" in readme
    assert f"from some {turn} events a second on" in readme


@pytest.mark.check
def test_page_matches_the_model_of_the_stored_results() -> None:
    text = page.LIMITS.read_text()
    assert page.fill_tables(text, tables(measured.of(read(FILE)))) == text, "run python -m benchmarks.scale --docs"


@pytest.mark.check
def test_page_and_command_show_each_table(tmp_path: pathlib.Path) -> None:
    cells = [_cell(100, 1_400, 5.4, 0.18, 0.22), _cell(1_500, 95, 1.5, 0.18, 0.22)]
    results = _results(*cells)
    results.write(tmp_path / "results.json")
    written = page.fill_tables(page.LIMITS.read_text(), tables(measured.of(results)))
    ran = CliRunner().invoke(app, ["--results", str(tmp_path / "results.json"), "--json"])
    assert ran.exit_code == 0, ran.output
    printed = json.loads(ran.stdout)
    assert [table["name"] for table in printed] == ["scale", "scale-quotas", "scale-ways", "scale-turns"]
    assert [row[0] for row in printed[2]["rows"]] == ["100/s", "1 000/s", "10 000/s", "100 000/s"]
    assert len(printed[2]["columns"]) == len(WAYS) + 2
    assert all(" | ".join(row) in written for table in printed for row in table["rows"])


def test_results_without_two_rates_are_rejected(tmp_path: pathlib.Path) -> None:
    _results().write(tmp_path / "results.json")
    ran = CliRunner().invoke(app, ["--results", str(tmp_path / "results.json")])
    assert ran.exit_code == 2
    assert "less than two rates" in ran.output
