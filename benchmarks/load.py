"""Loads: the arrival of requests, and their results.

Closed loop: so many requests in flight, each answer begins the next. Open loop: requests arrive when they do, by
Poisson, whatever became of those before; the latency counts from there, so that who waits for a connection waits too.
"""

import dataclasses
import itertools
from array import array
from collections.abc import Iterator

from sluice.cost import flow


@dataclasses.dataclass(frozen=True, slots=True)
class Closed:
    """So many in flight, always; what is answered in the first `ramp` seconds does not count."""

    in_flight: int
    seconds: float
    ramp: float = 0.3


@dataclasses.dataclass(frozen=True, slots=True)
class Open:
    """Poisson arrivals at a rate."""

    rate: float
    seconds: float
    seed: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Driven:
    """Result of a load.

    Attributes:
        seconds: Seconds in which answers counted.
        answered: Answers 2xx in that time.
        arrived: Open loop: requests that arrived; closed: those that were sent.
        sent: Requests that went over the wire, each once.
        acknowledged: Answers 2xx in all.
        bad_acknowledged: Answers 2xx to bad events.
        rejected: Other answers by status, and 0 for none: the connection broke.
        resent: Requests that were sent again, since the server had closed the connection before.
        connections: Number of connections that were opened.
        latencies: Seconds of each 2xx answer that counts.
        busy: Share of its core that the load generator used.
    """

    seconds: float
    answered: int
    arrived: int
    sent: int
    acknowledged: int
    bad_acknowledged: int
    rejected: dict[int, int]
    resent: int
    connections: int
    latencies: array[float] = dataclasses.field(repr=False)
    busy: float

    @property
    def share(self) -> float:
        """Share of what arrived that was answered 2xx within the run."""
        return self.answered / self.arrived if self.arrived else 0.0


def arrivals(load: Open) -> Iterator[float]:
    """Yield the seconds from the start at which requests arrive."""
    return itertools.takewhile(lambda at: at < load.seconds, flow.arrivals(load.rate, load.seed))
