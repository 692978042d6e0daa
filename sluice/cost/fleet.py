"""Fleets of instances: their number for a rate, by the rules of the autoscaler."""

import dataclasses
import functools
import math
from collections.abc import Callable

from sluice.cost.flow import Flow, Instance, flow

CONCURRENCY = 250
"""Maximum requests in flight in an instance, as Terraform deploys it."""
MAX_CONCURRENCY = 1_000
"""https://cloud.google.com/run/docs/about-concurrency."""
TARGET = 0.6
"""Share of an instance's vCPU, and of its concurrency, that the autoscaler aims at
(https://cloud.google.com/run/docs/about-instance-autoscaling)."""
MAX_RATE = 100_000.0
"""Maximum events per second that are simulated."""

INSTANCE_VCPU = 1.0
INSTANCE_GIB = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """Instances that share a rate.

    Attributes:
        instance: The speed of one instance.
        rate: Events per second, of all instances.
        concurrency: Maximum requests that Cloud Run lets into an instance at once.
    """

    instance: Instance
    rate: float
    concurrency: int = CONCURRENCY

    @property
    def instances(self) -> int:
        """Number of instances that the autoscaler keeps."""
        return math.ceil(self.rate / capacity(self.instance, self.concurrency))

    @property
    def each(self) -> Flow:
        """The flow of an instance at its share of the rate."""
        return flow(self.instance, self.rate / self.instances)

    @property
    def busy_instances(self) -> float:
        """Mean number of instances with a request in flight: at a steady rate, one has none for e^-in_flight."""
        return self.instances * (1 - math.exp(-self.each.in_flight))

    @property
    def working_instances(self) -> int:
        """Number of instances that the CPU alone needs, where the requests in flight have no limit."""
        return math.ceil(self.instances * self.each.busy / TARGET)


@functools.cache
def capacity(instance: Instance, concurrency: int = CONCURRENCY) -> float:
    """Return the events per second from which on the autoscaler adds an instance."""

    def is_full(rate: float) -> bool:
        result = flow(instance, rate)
        return result.busy > TARGET or result.in_flight > TARGET * concurrency

    return turn(is_full, 1.0, MAX_RATE) or MAX_RATE


def turn(is_so: Callable[[float], bool], low: float, high: float) -> float | None:
    """Return the minimum rate from which the condition holds, within 1 %; None if it never does."""
    if not is_so(high):
        return None
    if is_so(low):
        return low
    while high > low * 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if is_so(middle) else (middle, high)
    return high
