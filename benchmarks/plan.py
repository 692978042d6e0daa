"""Plan of a run: what it measures, and for how long."""

import dataclasses
from collections.abc import Sequence
from enum import StrEnum

from benchmarks.cells import Scenario
from benchmarks.load import Closed, Open
from benchmarks.servers import NAMES


class Part(StrEnum):
    """A part of a run."""

    LOAD = "load"
    COLD_START = "cold-start"
    CORE = "core"


INSERT_MS, UPLOAD_MS = 80.0, 60.0
"""Milliseconds that the stand-ins for BigQuery and Cloud Storage take to answer, where they do not answer at once."""

IN_FLIGHT = (1, 8, 80, 250)
RATES = (100, 300, 1_500)

LARGE_ORDERS = "large orders"


def closed(in_flight: int, *, at_once: bool = False) -> str:
    """Name of a closed loop's scenario."""
    return f"{in_flight} in flight{', answered at once' if at_once else ''}"


def opened(rate: float) -> str:
    """Name of an open loop's scenario."""
    return f"{rate:.0f}/s"


def sustained(name: str) -> str:
    """Name of the scenario of the highest rate that an implementation sustains."""
    return f"highest rate of {name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """Amount of each measurement.

    Attributes:
        repetitions: Number of repetitions of each cell, in turn with the other implementations.
        pace: Factor on all times of a load.
        in_flight: Requests in flight of the closed loops.
        rates: Events per second of the open loops.
        probes: Number of rates that are tried to find the highest.
        starts: Number of cold starts of each kind.
        core_rounds: Number of rounds of the pure core.
        core_events: Number of events in each round.
        bytecode: Kinds of cold starts: with bytecode, without.
        own: Whether each implementation has an environment of its own.
    """

    repetitions: int = 3
    pace: float = 1.0
    in_flight: Sequence[int] = IN_FLIGHT
    rates: Sequence[int] = RATES
    probes: int = 6
    starts: int = 7
    core_rounds: int = 7
    core_events: int = 5_000
    bytecode: Sequence[bool] = (True, False)
    own: bool = True

    def scenarios(self, repetition: int) -> list[Scenario]:
        """Return all scenarios but the highest rates, which are searched for; the times of requests differ in each."""
        scenarios = []
        for at_once, seconds in ((False, {1: 3.0, 250: 3.0}), (True, {1: 1.0, 250: 2.5})):
            delays = (0.0, 0.0) if at_once else (INSERT_MS, UPLOAD_MS)
            for count in self.in_flight:
                load = Closed(count, seconds.get(count, 1.0 if at_once else 2.0) * self.pace)
                of = NAMES if at_once else NAMES[:2]
                scenarios.append(Scenario(closed(count, at_once=at_once), load, *delays, of=of))
        for rate in self.rates:
            arrivals = Open(float(rate), (5.0 if rate == 300 else 4.0) * self.pace, seed=repetition)
            scenarios.append(Scenario(opened(rate), arrivals, INSERT_MS, UPLOAD_MS))
        scenarios.append(Scenario(LARGE_ORDERS, Closed(80, 2.0 * self.pace), INSERT_MS, UPLOAD_MS, kind="large_orders"))
        return scenarios


FULL = Plan()
QUICK = Plan(
    repetitions=1,
    pace=0.1,
    in_flight=(1, 250),
    rates=(300,),
    probes=0,
    starts=1,
    core_rounds=1,
    core_events=200,
    bytecode=(True,),
    own=False,
)
"""Plan for a test of the benchmark itself: its numbers mean nothing."""
