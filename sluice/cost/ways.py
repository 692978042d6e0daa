"""The compared ways of loading events into BigQuery, each with its bill."""

import dataclasses
from collections.abc import Callable

from sluice.cost.alternatives import Alternatives
from sluice.cost.bill import Bill
from sluice.cost.deployment import DEFAULT, Deployment
from sluice.cost.measured import Measured
from sluice.cost.sluice import Sluice
from sluice.cost.workload import Workload


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A way into BigQuery.

    Attributes:
        key: Name in JSON.
        title: Displayed name.
        bill: Returns the monthly bill of a workload.
        is_brief: Whether the README has it.
    """

    key: str
    title: str
    bill: Callable[[Measured, Workload, Deployment], Bill]
    is_brief: bool = True


CHEAP_INTERVAL = 2.0
"""Seconds between flushes where money counts more than the latency."""


def _seldom(measured: Measured, workload: Workload, deployment: Deployment) -> Sluice:
    return Sluice(measured, workload, dataclasses.replace(deployment, flush_interval=CHEAP_INTERVAL))


def _batch(minutes: float) -> Callable[[Measured, Workload, Deployment], Bill]:
    def bill(measured: Measured, workload: Workload, deployment: Deployment) -> Bill:
        return Sluice(measured, workload, dataclasses.replace(deployment, batch_minutes=minutes)).bill("batch")

    return bill


SLUICE = Way("sluice", "Sluice, as deployed", lambda *of: Sluice(*of).bill())
DATAFLOW = Way("sluice_on_dataflow", "Sluice on Dataflow", lambda *of: Sluice(*of).bill("Dataflow"))

WAYS = (
    SLUICE,
    Way(
        "sluice_by_instance",
        "Sluice, billed by instance",
        lambda *of: Sluice(*of).bill("push, billed by instance"),
        False,
    ),
    Way("sluice_2s", "Sluice, a flush each 2 s", lambda *of: _seldom(*of).bill(), False),
    Way(
        "sluice_2s_by_instance",
        "Sluice, each 2 s, billed by instance",
        lambda *of: _seldom(*of).bill("push, billed by instance"),
    ),
    Way("sluice_batch_1m", "Sluice, batches each minute", _batch(1)),
    Way("sluice_batch_5m", "Sluice, batches each 5 minutes", _batch(5)),
    DATAFLOW,
    Way("bigquery_subscription", "BigQuery subscription", lambda *of: Alternatives(*of).bare_subscription()),
    Way("subscriptions", "subscriptions, transform, archive", lambda *of: Alternatives(*of).subscriptions()),
    Way("dataflow_template", "Dataflow template, archive", lambda *of: Alternatives(*of).dataflow_template()),
    Way("plain_function", "plain function", lambda *of: Alternatives(*of).plain_function()),
)


def bills(measured: Measured, workload: Workload, deployment: Deployment = DEFAULT) -> dict[Way, Bill]:
    """Return the monthly bill of each way."""
    return {way: way.bill(measured, workload, deployment) for way in WAYS}
