"""The command `sluice cost`."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer

from sluice.commands.options import Csv, Json
from sluice.cost import measured
from sluice.cost.bill import MILLION, Bill
from sluice.cost.deployment import Deployment, Writer
from sluice.cost.sluice import Sluice
from sluice.cost.ways import SLUICE, WAYS, Way, bills
from sluice.cost.workload import SECONDS_OF_DAY, RateProfile, Workload
from sluice.formatting import print_rows


def cost(
    events_per_day: Annotated[int, typer.Option(min=1, max=10**12, help="Events per day.", show_default=False)],
    bytes_: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            min=1,
            max=10_000_000,
            help="Mean size of an event in bytes of JSON; default: 340, as for events of `sluice generate`.",
            show_default=False,
        ),
    ] = None,
    rate_profile: Annotated[
        RateProfile,
        typer.Option(help="Rate over the day: `flat`, or `day` with few events at night and most in the evening."),
    ] = "flat",
    free_tier: Annotated[
        bool, typer.Option("--free-tier", help="Subtract the monthly free tier, as if nothing else used it.")
    ] = False,
    writer: Annotated[
        Writer | None,
        typer.Option(
            help="API that writes the rows; default: depends on the engine (docs/scale.md).", show_default=False
        ),
    ] = None,
    flush_interval: Annotated[
        float, typer.Option(min=0, max=10, help="Setting FLUSH_INTERVAL: minimum seconds between two flushes.")
    ] = 0,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Estimate the monthly cost of Sluice and of its alternatives.

    The estimate uses list prices of us-central1 and needs no access to Google Cloud; docs/cost.md documents the
    prices and items. It is for a month in which as much data expires as arrives, which is after two years, the maximum
    age of the archive. The last table shows the steady rate above which Dataflow costs less than the function.

    Examples:
        sluice cost --events-per-day 1000000 --rate-profile day
        sluice cost --events-per-day 5000000 --bytes 900 --free-tier

    Exit code 0: printed; 2: an option is wrong.
    """
    measurement = measured.read()
    size = measurement.message_bytes if bytes_ is None else bytes_
    workload = Workload(events_per_day, size, rate_profile)
    deployment = Deployment(writer=writer, flush_interval=flush_interval)
    bills_by_way = bills(measurement, workload, deployment)
    if free_tier:
        bills_by_way = {way: bill.less_free_tier() for way, bill in bills_by_way.items()}
    sluice = Sluice(measurement, workload, deployment)
    rates = {
        "sluice": sluice.cheaper_from("Dataflow", "push"),
        "sluice_by_instance": sluice.cheaper_from("Dataflow", "push, billed by instance"),
    }
    if as_json:
        answer = _as_json(workload, bills_by_way) | {"dataflow_costs_less_from_events_per_second": rates}
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())  # noqa: T201
        return
    if as_csv:
        items = [
            (way.key, item, usd * MILLION / bill.events, usd)
            for way, bill in bills_by_way.items()
            for item, usd in bill.items.items()
        ]
        print_rows(("way", "item", "usd_per_million", "usd_per_month"), items, as_csv=True)
        return
    own = bills_by_way[SLUICE]
    rows = [(item, _usd(usd * MILLION / own.events), _usd(usd)) for item, usd in own.items.items()]
    print_rows(("Sluice, as deployed", *_HEADS), [*rows, ("all", _usd(own.per_million), _usd(own.usd))])
    rows = [(way.title, _usd(bill.per_million), _usd(bill.usd)) for way, bill in bills_by_way.items()]
    print()  # noqa: T201
    print_rows(("way", *_HEADS), rows)
    print(f"\nIn the first month, Sluice costs {_usd(own.first_usd)} USD, as there is no stored data yet.\n")  # noqa: T201
    _show_rates(rates)


_HEADS = ("USD per million events", "USD per month")


def _usd(usd: float) -> str:
    return f"{usd:,.2f}".replace(",", " ") if usd >= 0.005 or not usd else "< 0.01"


def _show_rates(rates: Mapping[str, float | None]) -> None:
    """Print the steady rates above which Dataflow costs less than the function."""
    rows = []
    for key, rate in rates.items():
        [title] = [way.title for way in WAYS if way.key == key]
        per_day = "" if rate is None else f"{_two_digits(rate * SECONDS_OF_DAY):,.0f}".replace(",", " ")
        rows.append((title, "never" if rate is None else f"{_two_digits(rate):g}", per_day))
    print_rows(("Dataflow costs less than", "from events/s", "events per day"), rows)


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
