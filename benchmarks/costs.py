"""Cost of the benchmark's rates: the model of `sluice/cost` with the measurements of a run."""

from collections.abc import Mapping

from benchmarks import measured
from benchmarks.results import Results
from benchmarks.servers import Name
from sluice.cost import sluice
from sluice.cost.alternatives import Alternatives
from sluice.cost.bill import Bill
from sluice.cost.sluice import Sluice
from sluice.cost.workload import Workload

INGEST = {
    "Pub/Sub": (sluice.PUBLISH, sluice.DELIVER),
    "requests": (sluice.REQUESTS,),
    "CPU and memory": (sluice.CPU, sluice.MEMORY),
    "inserts": (sluice.INSERTS,),
    "objects written": (sluice.OBJECTS,),
}
"""Items that are paid for until an event is durable, by what a table calls them."""

KEPT = "afterwards"


def bills(results: Results, rate: float) -> Mapping[Name, Bill]:
    """Return what so many events in each second cost in a month.

    Raises:
        NotMeasured: A part of the benchmark was left out.
    """
    measurements = measured.of(results)
    workload = Workload.at_rate(rate, measurements.message_bytes)
    return {
        "plain": Alternatives(measurements, workload).plain_function(),
        "sluice": Sluice(measurements, workload).bill(),
    }


def parts(bill: Bill) -> Mapping[str, float]:
    """Return the USD for a million events by the parts that are shown."""
    ingest = {name: bill.part(*items) for name, items in INGEST.items()}
    return {**ingest, KEPT: bill.per_million - sum(ingest.values())}


def ingest(bill: Bill) -> float:
    """Return the USD for a million events until they are durable."""
    return sum(bill.part(*items) for items in INGEST.values())
