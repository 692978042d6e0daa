"""`python -m benchmarks.scale`: from what one instance was measured to do, what 100 to 100 000 events/s take.

Explained in docs/performance.md, "At scale".
"""

import dataclasses
import functools
import math
import pathlib
import statistics
from collections.abc import Callable, Iterator
from typing import Annotated, Literal, get_args

import msgspec
import typer
from rich.console import Console

from benchmarks import page, prices
from benchmarks.cost import MILLION
from benchmarks.flow import Flow, Instance, flow
from benchmarks.quotas import QUOTAS, Load
from benchmarks.results import FILE, Results, read
from benchmarks.spread import NotMeasured
from benchmarks.tables import Table

RATES = (100, 1_000, 10_000, 100_000)
HOURS = 730
"""Of a month."""

CONCURRENCY = 250
"""As Terraform deploys it."""
MAX_CONCURRENCY = 1_000
"""https://cloud.google.com/run/docs/about-concurrency."""
TARGET = 0.6
"""Of an instance's vCPU and of its concurrency (https://cloud.google.com/run/docs/about-instance-autoscaling)."""

type Way = Literal["push", "push, billed by instance", "pull", "Dataflow"]
WAYS: tuple[Way, ...] = get_args(Way.__value__)

BEAM_CPU = 12 / 54_878
"""Seconds of vCPU for a message of 500 bytes that Beam in Python only passes on from Pub/Sub to the Storage Write API,
at least once: round 3 of https://github.com/johanesalxd/dataflow-pubsub-perf-test, with 12 vCPU, all of them busy."""
WORKER_TARGET = 0.7
"""Share of a worker's CPU that is used (https://cloud.google.com/dataflow/docs/guides/kafka-bigquery-performance)."""
WORKER_VCPU, WORKER_GIB, WORKER_DISK_GIB = 2, 8, 30
WORKER_UPLOADS = 0.1
"""Archive objects per second of each worker."""


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """What is known of an event.

    Attributes:
        instance: That takes it.
        message_bytes: Of its message.
        row_bytes: That BigQuery bills for its row.
        core_cpu: Seconds of CPU without any network.
        concurrency: Requests that Cloud Run lets into an instance at once.
    """

    instance: Instance
    message_bytes: float
    row_bytes: float
    core_cpu: float
    concurrency: int = CONCURRENCY

    @classmethod
    def of(cls, results: Results) -> "Model":
        """As measured.

        Raises:
            NotMeasured: A part of the benchmark was left out, or no rate was sustained.
        """
        cores = [core.microseconds for core in results.core if core.events == "mixed"]
        if not cores:
            raise NotMeasured("the pure core was not measured")
        instance = Instance.of(results)
        rows = statistics.median(
            cell.billed_row_bytes
            for cell in results.cells
            if cell.of == "sluice" and cell.is_sustained and cell.rate and cell.billed_row_bytes is not None
        )
        return cls(instance, results.message_bytes, rows / 10_000, statistics.median(cores[0]) / 1e6)

    def fits(self, one: Flow) -> bool:
        """Whether Cloud Run's autoscaler adds no instance."""
        return one.busy <= TARGET and one.in_flight <= TARGET * self.concurrency


@functools.cache
def capacity(model: Model) -> float:
    """Return the events per second that an instance is given at most; the simulation ends at the highest of `RATES`."""
    return _turn(lambda rate: not model.fits(flow(model.instance, rate)), 1.0, float(RATES[-1])) or float(RATES[-1])


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """As many instances as a rate needs.

    Attributes:
        model: Of an event.
        rate: Events per second, of all.
    """

    model: Model
    rate: float

    @property
    def instances(self) -> int:
        """That Cloud Run's autoscaler keeps."""
        return math.ceil(self.rate / capacity(self.model))

    @property
    def each(self) -> Flow:
        """What comes of the share of an instance."""
        return flow(self.model.instance, self.rate / self.instances)

    @property
    def load(self) -> Load:
        """On the services."""
        rate, each, model = self.rate, self.each, self.model
        return Load(rate, self.instances, rate * each.mean, rate * each.flushes, model.message_bytes, model.row_bytes)

    @property
    def workers(self) -> int:
        """That Dataflow needs."""
        return math.ceil(self.rate * (BEAM_CPU + self.model.core_cpu) / WORKER_TARGET / WORKER_VCPU)

    def per_million(self, way: Way) -> float:
        """USD for a million events at list prices.

        Billed by request, an instance costs nothing while it has none: at a steady rate, e^-in_flight of the time.
        """
        each, model = self.each, self.model
        units = {prices.PUBSUB_BYTES: 2 * max(model.message_bytes, prices.PUBSUB_MIN_BYTES)}
        seconds = self.instances / self.rate
        if way == "Dataflow":
            hours = self.workers / self.rate / 3600
            units |= {
                prices.WRITTEN_BYTES: model.message_bytes,
                prices.CLASS_A: WORKER_UPLOADS * self.workers / self.rate,
                prices.WORKER_VCPU_HOURS: hours * WORKER_VCPU,
                prices.WORKER_GIB_HOURS: hours * WORKER_GIB,
                prices.WORKER_DISK_HOURS: hours * WORKER_DISK_GIB,
            }
        elif way == "push":
            seconds *= 1 - math.exp(-each.in_flight)
            units |= {
                prices.INSERTED_BYTES: model.row_bytes,
                prices.CLASS_A: each.flushes,
                prices.REQUESTS: 1.0,
                prices.VCPU_SECONDS: seconds * prices.INSTANCE_VCPU,
                prices.GIB_SECONDS: seconds * prices.INSTANCE_GIB,
            }
        else:
            if way == "pull":
                seconds = math.ceil(self.rate * each.busy / each.rate / TARGET) / self.rate
            written = {prices.WRITTEN_BYTES: model.message_bytes}
            units |= written if way == "pull" else {prices.INSERTED_BYTES: model.row_bytes}
            units |= {
                prices.CLASS_A: each.flushes,
                prices.RUNNING_VCPU_SECONDS: seconds * prices.INSTANCE_VCPU,
                prices.RUNNING_GIB_SECONDS: seconds * prices.INSTANCE_GIB,
            }
        return MILLION * sum(amount * price.usd for price, amount in units.items())

    def per_month(self, way: Way) -> float:
        """USD."""
        return self.per_million(way) * self.rate * 3600 * HOURS / MILLION


def _turn(is_so: Callable[[float], bool], low: float, high: float) -> float | None:
    """The least rate from which on it is so, within 1 %; None if it is not so at the highest."""
    if not is_so(high):
        return None
    if is_so(low):
        return low
    while high > low * 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_so(middle) else (middle, high)
    return high


def cheaper(model: Model, one: Way, other: Way) -> float | None:
    """Events per second from which on one way costs less than the other; None if up to 100 000 it never does."""

    def is_so(rate: float) -> bool:
        fleet = Fleet(model, rate)
        return fleet.per_million(one) < fleet.per_million(other)

    return _turn(is_so, 1.0, RATES[-1])


def tables(model: Model) -> Iterator[Table]:
    """What docs/performance.md shows."""
    fleets = [Fleet(model, rate) for rate in RATES]
    last = fleets[-1]
    wider = Fleet(dataclasses.replace(model, concurrency=MAX_CONCURRENCY), last.rate)
    columns = ("", ">instances", ">events/s of each", ">vCPU used", ">objects of 10 000 events", ">p50 ms", ">p99 ms")
    yield Table(
        "scale",
        "At scale",
        (*columns, "nearest of the limits, or those that are passed"),
        [*(_of_fleet(fleet) for fleet in fleets), _of_fleet(wider, f", `ingest.concurrency = {MAX_CONCURRENCY}`")],
    )
    yield Table(
        "scale-quotas",
        "Limits",
        ("", ">limit", "of", ">reached at events/s", "what happens then, and what helps", "source", "known"),
        [
            (quota.what, _whole(quota.most), quota.unit, _about(quota.reached(last.load)), *quota[-3:])
            for quota in QUOTAS
        ],
    )
    yield Table(
        "scale-ways",
        "USD for a million events; for a month",
        ("", *(f">{way}" for way in WAYS), ">workers of Dataflow"),
        [
            (
                f"{_whole(fleet.rate)}/s",
                *(f"{fleet.per_million(way):.2f}; {_whole(fleet.per_month(way))}" for way in WAYS),
                str(fleet.workers),
            )
            for fleet in fleets
        ],
    )
    pairs = [(one, other) for other in WAYS for one in WAYS if one != other]
    found = [(one, other, cheaper(model, one, other)) for one, other in pairs]
    yield Table(
        "scale-turns",
        "Which costs less, from where on",
        ("", "costs less than", ">from"),
        [(one, other, "1/s" if rate <= 1 else f"{_about(rate)}/s") for one, other, rate in found if rate],
    )
    shown = [(price, *((2**30, "GiB") if price.unit == "byte" else (1, price.unit))) for price in prices.OF_OTHER_WAYS]
    yield Table(
        "scale-prices",
        f"List prices as of {prices.READ_ON:%d %B %Y}",
        ("", "price", "source"),
        [
            (price.what, f"{f'{price.usd * many:f}'.rstrip('0')} USD for 1 {unit}", price.source)
            for price, many, unit in shown
        ],
    )


def _of_fleet(fleet: Fleet, note: str = "") -> tuple[str, ...]:
    each = fleet.each
    return (
        f"{_whole(fleet.rate)}/s{note}",
        _whole(fleet.instances),
        _whole(each.rate),
        f"{each.busy:.0%}",
        _whole(each.flushes * 10_000),
        _whole(each.p50 * 1000),
        _whole(each.p99 * 1000),
        _limits(fleet.load),
    )


def _limits(load: Load) -> str:
    shares = {quota.what: quota.share(load) for quota in QUOTAS}
    passed = {what: share for what, share in shares.items() if share >= 1}
    nearest = max(shares, key=lambda what: shares[what])
    return "; ".join(f"{what} {share:.0%}" for what, share in (passed or {nearest: shares[nearest]}).items())


def _whole(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _about(value: float) -> str:
    """With two digits."""
    return _whole(round(value, 1 - math.floor(math.log10(value))))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    results: Annotated[pathlib.Path, typer.Option(exists=True, help="What `make bench` measured.")] = FILE,
    json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables of docs/performance.md.")] = False,
) -> None:
    """Instances, latency, cost and limits at 100 to 100 000 events/s, from what one instance was measured to do."""
    try:
        found = list(tables(Model.of(read(results))))
    except NotMeasured as error:
        raise typer.BadParameter(str(error), param_hint="--results") from None
    if docs:
        page.FILE.write_text(page.filled(page.FILE.read_text(), found))
    if json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        for table in found:
            Console().print(table.rich())


if __name__ == "__main__":
    app()
