"""`python -m benchmarks.scale`: from what one instance was measured to do, what 100 to 100 000 events/s take.

Explained in docs/performance-limits.md.
"""

import math
import pathlib
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from benchmarks import measured, page
from benchmarks.quotas import QUOTAS, Load
from benchmarks.results import FILE, read
from benchmarks.spread import NotMeasured
from sluice.cost.fleet import MAX_CONCURRENCY, Fleet
from sluice.cost.measured import Measured
from sluice.cost.sluice import WAYS, Sluice
from sluice.cost.workload import Workload
from sluice.doc_tables import Table

RATES = (100, 1_000, 10_000, 100_000)


def _load(fleet: Fleet, sluice: Sluice) -> Load:
    """Return what a fleet does to the services."""
    rate, each = fleet.rate, fleet.each
    return Load(
        rate,
        fleet.instances,
        rate * each.mean,
        rate * each.flushes,
        sluice.workload.message_bytes,
        sluice.billed_row_bytes,
    )


def tables(measurements: Measured) -> Iterator[Table]:
    """Yield what docs/performance-limits.md shows."""
    ours = [Sluice(measurements, Workload.at_rate(rate, measurements.message_bytes)) for rate in RATES]
    fleets = [Fleet(sluice.instance, rate) for sluice, rate in zip(ours, RATES, strict=True)]
    wider = Fleet(ours[-1].instance, RATES[-1], MAX_CONCURRENCY)
    last = _load(fleets[-1], ours[-1])
    columns = ("", ">instances", ">events/s of each", ">vCPU used", ">objects of 10 000 events", ">p50 ms", ">p99 ms")
    yield Table(
        "scale",
        "At scale",
        (*columns, "nearest of the limits, or those that are passed"),
        [
            *(_of_fleet(fleet, sluice) for fleet, sluice in zip(fleets, ours, strict=True)),
            _of_fleet(wider, ours[-1], f", `ingest.concurrency = {MAX_CONCURRENCY}`"),
        ],
    )
    yield Table(
        "scale-quotas",
        "Limits",
        ("", ">limit", "of", ">reached at events/s", "what happens then, and what helps", "source", "known"),
        [(quota.what, _whole(quota.most), quota.unit, _about(quota.reached(last)), *quota[-3:]) for quota in QUOTAS],
    )
    yield Table(
        "scale-ways",
        "USD for a million events; for a month",
        ("", *(f">{way}" for way in WAYS), ">workers of Dataflow"),
        [
            (
                f"{_whole(rate)}/s",
                *(f"{bill.per_million:.2f}; {_whole(bill.usd)}" for bill in map(sluice.bill, WAYS)),
                str(sluice.job(rate).workers),
            )
            for sluice, rate in zip(ours, RATES, strict=True)
        ],
    )
    pairs = [(way, other) for other in WAYS for way in WAYS if way != other]
    crossovers = [(way, other, ours[0].cheaper_from(way, other)) for way, other in pairs]
    yield Table(
        "scale-turns",
        "Which costs less, from where on",
        ("", "costs less than", ">from"),
        [(way, other, "1/s" if rate <= 1 else f"{_about(rate)}/s") for way, other, rate in crossovers if rate],
    )


def _of_fleet(fleet: Fleet, sluice: Sluice, note: str = "") -> tuple[str, ...]:
    each = fleet.each
    return (
        f"{_whole(fleet.rate)}/s{note}",
        _whole(fleet.instances),
        _whole(each.rate),
        f"{each.busy:.0%}",
        _whole(each.flushes * 10_000),
        _whole(each.p50 * 1000),
        _whole(each.p99 * 1000),
        _limits(_load(fleet, sluice)),
    )


def _limits(load: Load) -> str:
    shares = {quota.what: quota.share(load) for quota in QUOTAS}
    passed = {what: share for what, share in shares.items() if share >= 1}
    nearest = max(shares, key=lambda what: shares[what])
    return "; ".join(f"{what} {share:.0%}" for what, share in (passed or {nearest: shares[nearest]}).items())


def _whole(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")


def _about(value: float) -> str:
    """Return a number with two digits."""
    return _whole(round(value, 1 - math.floor(math.log10(value))))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    results: Annotated[pathlib.Path, typer.Option(exists=True, help="What `make bench` measured.")] = FILE,
    json: Annotated[bool, typer.Option("--json", help="Print the tables as JSON.")] = False,
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables of docs/performance-limits.md.")] = False,
) -> None:
    """Instances, latency, cost and limits at 100 to 100 000 events/s, from what one instance was measured to do."""
    try:
        result_tables = list(tables(measured.of(read(results))))
    except NotMeasured as error:
        raise typer.BadParameter(str(error), param_hint="--results") from None
    if docs:
        page.LIMITS.write_text(page.fill_tables(page.LIMITS.read_text(), result_tables))
    if json:
        typer.echo(msgspec.json.encode(result_tables).decode())
    else:
        for table in result_tables:
            table.show()


if __name__ == "__main__":
    app()
