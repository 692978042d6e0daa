"""Scenarios: disturbances of the services, and the load that is offered meanwhile."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Self

from benchmarks.events import MIX
from benchmarks.overload.subscription import Backoff
from fake_google.metered import Service
from fake_google.service_queue import Capacity, Disturbance

MAX_IN_FLIGHT = 250
"""Maximum deliveries in flight: the concurrency of an instance as Terraform deploys it."""

OFFERED_SHARE = 0.8
"""Share of the services' capacity that is offered."""

LIMITED_INSERTS = Capacity(request_seconds=0.010, row_seconds=0.001, servers=1)
LIMITED_UPLOADS = Capacity(request_seconds=0.030, row_seconds=0.001, servers=1)
"""Capacity that takes as long for a flush as `LIMITED_INSERTS`, which gets three requests for it."""

FAST_INSERTS = Capacity(request_seconds=0.010, row_seconds=0.00002, servers=1)
FAST_UPLOADS = Capacity(request_seconds=0.020, row_seconds=0.00002, servers=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """A part of a scenario.

    Attributes:
        name: Name of the phase.
        seconds: Length in seconds.
        disturbance: Disturbance meanwhile.
    """

    name: str
    seconds: float
    disturbance: Disturbance = dataclasses.field(default_factory=Disturbance)


RECOVERY = (
    Phase("steady", 15),
    Phase("stall", 30, Disturbance(is_stalled=True)),
    Phase("after the stall", 40),
    Phase("slowdown", 60, Disturbance(slowdown=4)),
    Phase("after the slowdown", 40),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """Disturbances of the services, and the load meanwhile.

    Attributes:
        name: Name of the scenario.
        inserts: Capacity of BigQuery.
        uploads: Capacity of Cloud Storage.
        disturbed: Services that the phases disturb.
        rate: Events per second that are offered.
        phases: Phases in order.
        backoff: Pauses before a message is redelivered.
        settings: Environment variables of the function.
    """

    name: str
    inserts: Capacity
    uploads: Capacity
    disturbed: Sequence[Service]
    rate: float
    phases: Sequence[Phase] = RECOVERY
    backoff: Backoff = dataclasses.field(default_factory=Backoff)
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length of all phases."""
        return sum(phase.seconds for phase in self.phases)

    def scaled(self, pace: float) -> Self:
        """Return the scenario with all times multiplied, but for those of the services' requests."""
        timeout = float(self.settings.get("FLUSH_TIMEOUT", DEFAULT_FLUSH_TIMEOUT))
        return dataclasses.replace(
            self,
            phases=[dataclasses.replace(phase, seconds=phase.seconds * pace) for phase in self.phases],
            backoff=self.backoff.scaled(pace),
            settings={**self.settings, "FLUSH_TIMEOUT": f"{timeout * pace:g}"},
        )


DEFAULT_FLUSH_TIMEOUT = 25.0
"""Default of the function's setting, in seconds."""


def capacity(inserts: Capacity, uploads: Capacity, batch: float) -> float:
    """Return the events per second that both services serve in batches of a size: the lower of the two rates.

    A service with `servers` servers takes `requests * request_seconds + batch * row_seconds` for the requests of a
    batch, so it serves `servers * batch` events in that time. A batch is one request to Cloud Storage and one request
    for each table to BigQuery.
    """

    def rate(service: Capacity, requests: int) -> float:
        if service.servers is None:
            return math.inf
        return service.servers * batch / (requests * service.request_seconds + batch * service.row_seconds)

    return min(rate(inserts, len(MIX)), rate(uploads, 1))


def _recovery(disturbed: Service | None) -> Scenario:
    """Return the scenario that disturbs one service, or both."""
    services: Sequence[Service] = (disturbed,) if disturbed else ("BigQuery", "Cloud Storage")
    inserts = LIMITED_INSERTS if "BigQuery" in services else FAST_INSERTS
    uploads = LIMITED_UPLOADS if "Cloud Storage" in services else FAST_UPLOADS
    # The events in flight are spread over the services that are limited.
    rate = OFFERED_SHARE * capacity(inserts, uploads, MAX_IN_FLIGHT / len(services))
    return Scenario(" and ".join(services), inserts, uploads, services, rate)


METASTABLE = Scenario(
    "BigQuery, 80 ms a request",
    inserts=Capacity(request_seconds=0.080, row_seconds=0.00005, servers=1),
    uploads=Capacity(request_seconds=0.060),
    disturbed=("BigQuery",),
    rate=100,
    phases=(Phase("steady", 15), Phase("stall", 10, Disturbance(is_stalled=True)), Phase("after the stall", 65)),
    settings={"FLUSH_TIMEOUT": "3"},
)

SCENARIOS = (_recovery("BigQuery"), _recovery("Cloud Storage"), _recovery(None), METASTABLE)
