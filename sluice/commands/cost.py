"""`sluice cost`: what Sluice costs a month, by item, and what the ways beside it cost."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Column, Table

from sluice.cost import measured
from sluice.cost.bill import MILLION, Bill
from sluice.cost.deployment import Deployment, Writer
from sluice.cost.sluice import Sluice
from sluice.cost.ways import SLUICE, WAYS, Way, bills
from sluice.cost.workload import SECONDS_OF_DAY, RateProfile, Workload


def cost(
    events_per_day: Annotated[int, typer.Option(min=1, max=10**12, help="Events of a day.", show_default=False)],
    bytes_: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            min=1,
            max=10_000_000,
            help="Mean bytes of an event's JSON; default: 340, as the events of `sluice generate` have.",
            show_default=False,
        ),
    ] = None,
    rate_profile: Annotated[
        RateProfile,
        typer.Option(help="When they come: `flat`, or over the `day` of a shop: few at night, most in the evening."),
    ] = "flat",
    free_tier: Annotated[
        bool, typer.Option("--free-tier", help="Leave out what is free each month, as if nothing else used it.")
    ] = False,
    writer: Annotated[
        Writer | None,
        typer.Option(
            help="API by which Sluice writes rows; default: that of each engine (docs/scale.md).", show_default=False
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute what Sluice costs, by item, and what the ways beside it cost.

    List prices of us-central1; docs/cost.md says where they come from, and what is in each item. A month is one
    in which as much expires as comes in: after two years, the archive's age. Nothing is asked of Google Cloud.
    The last table says from which steady rate on Dataflow costs less than the function (docs/scale.md).

    Example: sluice cost --events-per-day 1000000 --rate-profile day

    Exit code 0: done; 2: an option is wrong.
    """
    measurement = measured.read()
    size = measurement.message_bytes if bytes_ is None else bytes_
    workload = Workload(events_per_day, size, rate_profile)
    deployment = Deployment(writer=writer)
    bills_by_way = bills(measurement, workload, deployment)
    if free_tier:
        bills_by_way = {way: bill.less_free_tier() for way, bill in bills_by_way.items()}
    sluice = Sluice(measurement, workload, deployment)
    rates = {
        "sluice": sluice.cheaper_from("Dataflow", "push"),
        "sluice_by_instance": sluice.cheaper_from("Dataflow", "push, billed by instance"),
    }
    if json:
        answer = _as_json(workload, bills_by_way) | {"dataflow_costs_less_from_events_per_second": rates}
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())  # noqa: T201
        return
    console = Console()
    console.print(_items(bills_by_way[SLUICE]))
    console.print(_ways(bills_by_way))
    first = bills_by_way[SLUICE].first_usd
    console.print(f"In the first month, Sluice costs {_usd(first)} USD: the storage is still empty.", soft_wrap=True)
    console.print(_from_rates(rates))


def _items(bill: Bill) -> Table:
    table = Table(Column("Sluice, as deployed"), *(Column(head, justify="right") for head in _HEADS))
    for item, usd in bill.items.items():
        table.add_row(item, _usd(usd * MILLION / bill.events), _usd(usd))
    table.add_section()
    table.add_row("all", _usd(bill.per_million), _usd(bill.usd))
    return table


def _ways(bills_by_way: dict[Way, Bill]) -> Table:
    table = Table(Column("way"), *(Column(head, justify="right") for head in _HEADS))
    for way, bill in bills_by_way.items():
        table.add_row(way.title, _usd(bill.per_million), _usd(bill.usd))
    return table


_HEADS = ("USD per million events", "USD per month")


def _usd(usd: float) -> str:
    return f"{usd:,.2f}".replace(",", " ") if usd >= 0.005 or not usd else "< 0.01"


def _from_rates(rates: Mapping[str, float | None]) -> Table:
    """Return from which steady rate on Dataflow costs less than the function."""
    table = Table(
        Column("Dataflow costs less than"),
        Column("from events/s", justify="right"),
        Column("events a day", justify="right"),
    )
    for key, rate in rates.items():
        [title] = [way.title for way in WAYS if way.key == key]
        if rate is None:
            table.add_row(title, "never", "")
        else:
            table.add_row(
                title, f"{_two_digits(rate):g}", f"{_two_digits(rate * SECONDS_OF_DAY):,.0f}".replace(",", " ")
            )
    return table


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _as_json(workload: Workload, bills_by_way: dict[Way, Bill]) -> dict[str, Any]:
    return {
        "events_per_day": workload.events_per_day,
        "message_bytes": workload.message_bytes,
        "rate_profile": workload.profile,
        "ways": {
            way.key: {
                "title": way.title,
                "usd_per_million": bill.per_million,
                "usd_per_month": bill.usd,
                "usd_in_first_month": bill.first_usd,
                "lines": [
                    {
                        "item": line.item,
                        "price": line.price.what,
                        "unit": line.price.unit,
                        "units_per_month": line.units,
                        "usd_per_month": line.usd,
                        "usd_per_million": line.usd * MILLION / bill.events,
                    }
                    for line in bill.lines
                ],
            }
            for way, bill in bills_by_way.items()
        },
    }
