"""The tables of docs/alternatives.md, docs/cost.md and docs/scale.md, and the cost that the README quotes."""

import dataclasses
import pathlib

from sluice.cost import dataflow, measured, prices, sluice
from sluice.cost.archive import MONTHS, StoredArchive
from sluice.cost.bill import MILLION
from sluice.cost.deployment import DEFAULT
from sluice.cost.sluice import Sluice
from sluice.cost.ways import WAYS, bills
from sluice.cost.workload import Workload
from sluice.doc_tables import Table, fill_tables

FILE = pathlib.Path(__file__).parents[2] / "docs" / "alternatives.md"
COST = FILE.with_name("cost.md")
SCALE = FILE.with_name("scale.md")
ARCHIVE = FILE.with_name("archive.md")
README = FILE.parents[1] / "README.md"

EVENTS_PER_DAY = (1_000_000, 10_000_000, 100_000_000)


def update() -> str:
    """Return the page with current tables."""
    return fill_tables(FILE.read_text(encoding="utf-8"), [_ways()])


def update_cost() -> str:
    """Return the page of the items with current tables."""
    return fill_tables(COST.read_text(encoding="utf-8"), [_items(), _settings(), _batch_items(), _prices()])


def update_scale() -> str:
    """Return the page of the engines with current tables."""
    return fill_tables(SCALE.read_text(encoding="utf-8"), [_engines(), _dataflow()])


def update_archive() -> str:
    """Return the page of the archive with the current cost of reading it."""
    return fill_tables(ARCHIVE.read_text(encoding="utf-8"), [_archive()])


def update_readme() -> str:
    """Return the README with the current cost."""
    return fill_tables(README.read_text(encoding="utf-8"), [readme()])


def workload(events_per_day: float) -> Workload:
    """Return the workload of the page: events of the benchmark's mix, as many in each second."""
    return Workload(events_per_day, measured.read().message_bytes)


def readme() -> Table:
    """Return the table of the cost of a million events, for the README."""
    by_rate = [bills(measured.read(), workload(events)) for events in EVENTS_PER_DAY]
    rows = [(way.title, *(f"{of_ways[way].per_million:.2f}" for of_ways in by_rate)) for way in WAYS if way.is_brief]
    heads = (f">{_short(events)} events a day" for events in EVENTS_PER_DAY)
    return Table("cost-per-million", "USD for a million events", ("", *heads), rows)


def _ways() -> Table:
    by_rate = [bills(measured.read(), workload(events)) for events in EVENTS_PER_DAY]
    rows = [
        (way.title, *(f"{of_ways[way].per_million:.2f}; {whole(of_ways[way].usd)}" for of_ways in by_rate))
        for way in WAYS
    ]
    heads = (f">{_short(events)} a day" for events in EVENTS_PER_DAY)
    return Table("ways", "USD for a million events; for a month", ("", *heads), rows)


def _items() -> Table:
    measurement = measured.read()
    of_rate = [Sluice(measurement, workload(events)).bill() for events in EVENTS_PER_DAY]
    rows = [(item, *(_usd(bill.part(item)) for bill in of_rate)) for item in of_rate[0].items]
    rows.append(("**all**", *(f"**{bill.per_million:.2f}**" for bill in of_rate)))
    rows.append(("USD a month", *(whole(bill.usd) for bill in of_rate)))
    rows.append(("USD in the first month", *(whole(bill.first_usd) for bill in of_rate)))
    heads = (f">{_short(events)} a day" for events in EVENTS_PER_DAY)
    return Table("items", "USD for a million events", ("", *heads), rows)


def _batch_items() -> Table:
    """Return the table of the items of batch mode at both intervals; what costs nothing is left out."""
    chosen = [way for way in WAYS if way.key.startswith("sluice_batch")]
    columns = [(events, way) for events in (EVENTS_PER_DAY[0], EVENTS_PER_DAY[-1]) for way in chosen]
    of_column = [way.bill(measured.read(), workload(events), DEFAULT) for events, way in columns]
    rows = [
        (item, *(_usd(bill.part(item)) for bill in of_column)) for item in of_column[0].items if of_column[0].part(item)
    ]
    rows.append(("**all**", *(f"**{bill.per_million:.2f}**" for bill in of_column)))
    heads = (f">{_short(events)} a day, {way.title.partition('batches ')[2]}" for events, way in columns)
    return Table("batch-items", "USD for a million events in batch mode", ("", *heads), rows)


def _settings() -> Table:
    """Return the table of the effect of single settings, in USD for a million events."""
    measurement = measured.read()
    choices = {
        "requests that succeeded are logged": dataclasses.replace(DEFAULT, request_logs=True),
        "objects move to NEARLINE after 30 and COLDLINE after 90 days": dataclasses.replace(
            DEFAULT, nearline_days=30, coldline_days=90
        ),
        "the archive stays as it is written (`archive.compact = false`)": dataclasses.replace(
            DEFAULT, is_compacted=False
        ),
        "no daily snapshots": dataclasses.replace(DEFAULT, snapshot_days=0),
        "the archive is deleted after 90 days": dataclasses.replace(DEFAULT, archive_days=97),
        "rows are written by the Storage Write API (`--writer storage_write`)": _BY_STORAGE_WRITE,
    }
    rows = []
    for choice, deployment in choices.items():
        cells = []
        for events in EVENTS_PER_DAY:
            usual, other = (Sluice(measurement, workload(events), chosen).bill() for chosen in (DEFAULT, deployment))
            cells.append(f"{other.per_million - usual.per_million:+.2f}")
        rows.append((choice, *cells))
    day = [
        Sluice(measurement, dataclasses.replace(workload(events), profile="day")).bill() for events in EVENTS_PER_DAY
    ]
    flat = [Sluice(measurement, workload(events)).bill() for events in EVENTS_PER_DAY]
    rows.append(
        (
            "events come over the day of a shop (`--rate-profile day`)",
            *(
                f"{day_bill.per_million - flat_bill.per_million:+.2f}"
                for day_bill, flat_bill in zip(day, flat, strict=True)
            ),
        )
    )
    free = [bill.less_free_tier().per_million - bill.per_million for bill in flat]
    rows.append(("the free tier is all yours (`--free-tier`)", *(f"{less:+.2f}" for less in free)))
    heads = (f">{_short(events)} a day" for events in EVENTS_PER_DAY)
    return Table("settings", "USD for a million events", ("", *heads), rows)


RATES = (10, 100, 1_000, 5_000, 20_000, 100_000)
"""Events per second of docs/scale.md."""

_BY_STORAGE_WRITE = dataclasses.replace(DEFAULT, writer="storage_write")


def _engines() -> Table:
    measurement = measured.read()
    rows = []
    for rate in RATES:
        workload = Workload.at_rate(rate, measurement.message_bytes)
        usual, written = (Sluice(measurement, workload, chosen) for chosen in (DEFAULT, _BY_STORAGE_WRITE))
        push, by_instance = usual.bill("push"), usual.bill("push, billed by instance")
        by_engine = (push, by_instance, usual.bill("Dataflow"), written.bill("Dataflow"))
        job = usual.job(rate)
        cells = (f"{bill.per_million:.2f}; {whole(bill.usd)}" for bill in by_engine)
        rows.append((f"{whole(rate)}/s", *cells, str(job.workers), str(job.own_workers), str(job.shards)))
    heads = (
        "push",
        "billed by instance",
        "Dataflow",
        "with `storage_write`",
        "workers",
        "own work alone",
        "shards",
    )
    title = "USD for a million events; for a month"
    return Table("engines", title, ("", *(f">{head}" for head in heads)), rows)


def _dataflow() -> Table:
    """Return the table of the cost of Dataflow in USD a month, for the items that push does not have."""
    measurement = measured.read()
    of_rate = [
        Sluice(measurement, Workload.at_rate(rate, measurement.message_bytes)).bill("Dataflow") for rate in RATES
    ]
    own = (dataflow.WORKERS, dataflow.STREAMING_ENGINE, dataflow.IMAGE)
    items = (*own, sluice.DELIVER, sluice.INSERTS, sluice.OBJECTS, sluice.FLUSH_LINES)
    rows = [(item, *(whole(bill.items[item]) for bill in of_rate)) for item in items]
    rest = (bill.usd - sum(bill.items[item] for item in items) for bill in of_rate)
    rows.append(("the same for all engines", *map(whole, rest)))
    return Table("dataflow-items", "USD for a month", ("", *(f">{whole(rate)}/s" for rate in RATES)), rows)


ARCHIVE_RATE = 300
"""Events per second of the archive of docs/archive.md."""


def _archive() -> Table:
    """Return the table of what it takes to read the archive, as it is written and compacted."""
    sluice = Sluice(measured.read(), Workload.at_rate(ARCHIVE_RATE, measured.read().message_bytes))
    compaction = sluice.compaction()
    both = StoredArchive.written(compaction), StoredArchive.compacted(compaction)
    replays, erasures = [stored.replay() for stored in both], [stored.erase() for stored in both]
    rows = [
        ("objects", *(whole(stored.objects * MONTHS) for stored in both)),
        ("GB", *(whole(stored.bytes * MONTHS / 1e9) for stored in both)),
        ("compaction, USD a month", "0", whole(sum(line.usd for line in compaction.lines()))),
        ("moves to NEARLINE and COLDLINE, USD a month", *(f"{stored.colder_classes_usd():.2f}" for stored in both)),
        ("read a month, requests", *(whole(reading.requests) for reading in replays)),
        ("read a month, hours", *(whole(reading.hours) for reading in replays)),
        ("read a month, USD", *(f"{reading.usd:.2f}" for reading in replays)),
        ("search all for a person, requests", *(whole(reading.requests) for reading in erasures)),
        ("search all for a person, hours", *(whole(reading.hours) for reading in erasures)),
        ("search all for a person, USD", *(f"{reading.usd:.2f}" for reading in erasures)),
        ("the same from colder classes, USD", *(whole(stored.erase_usd_from_colder_classes()) for stored in both)),
    ]
    return Table("archive-reading", "Reading the archive", ("", ">as written", ">compacted"), rows)


def _prices() -> Table:
    rows = [(price.what, price.text, f"{price.date:%Y-%m-%d}", price.read_by, price.source) for price in prices.ALL]
    return Table("prices", "List prices", ("", "price", "as of", "known", "source"), rows)


def whole(value: float) -> str:
    """Return a number without decimals, thousands apart."""
    return f"{value:,.0f}".replace(",", " ")


def _usd(usd: float) -> str:
    return f"{usd:.3f}" if usd else "0"


def _short(events: int) -> str:
    return f"{events // MILLION}M"
