"""Workloads: the rate and the size of events, and their distribution over the day."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from sluice.cost.prices import HOURS_OF_MONTH
from sluice.shop.generator import VISITS_BY_HOUR

type RateProfile = Literal["flat", "day"]
"""`flat`: a steady rate; `day`: the rate of a shop, low at night and highest in the evening."""

RATE_PROFILES: tuple[RateProfile, ...] = get_args(RateProfile.__value__)

DAYS_OF_MONTH = HOURS_OF_MONTH / 24
SECONDS_OF_DAY = 86_400


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """Rate and size of the events that arrive.

    Attributes:
        events_per_day: Events of a day.
        message_bytes: Bytes of a message's payload.
        profile: Distribution of the events over the day.
    """

    events_per_day: float
    message_bytes: float
    profile: RateProfile = "flat"

    @classmethod
    def at_rate(cls, rate: float, message_bytes: float) -> "Workload":
        """Return the workload of a steady rate in events per second."""
        return cls(rate * SECONDS_OF_DAY, message_bytes)

    @property
    def events_per_month(self) -> float:
        """Events of a month."""
        return self.events_per_day * DAYS_OF_MONTH

    @property
    def hours(self) -> Mapping[float, float]:
        """Hours of a day by rate, in events per second."""
        mean = self.events_per_day / SECONDS_OF_DAY
        if self.profile == "flat":
            return {mean: 24.0}
        total = sum(VISITS_BY_HOUR)
        rates = Counter(mean * visits * 24 / total for visits in VISITS_BY_HOUR)
        return {rate: float(hours) for rate, hours in rates.items()}
