"""Workloads: how many events come, how large they are, and at which times of the day."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Literal, get_args

from sluice.cost.prices import HOURS_OF_MONTH
from sluice.shop.generator import VISITS_BY_HOUR

type RateProfile = Literal["flat", "day"]
"""`flat`: as many events in each second; `day`: those of a shop, few at night and most in the evening."""

RATE_PROFILES: tuple[RateProfile, ...] = get_args(RateProfile.__value__)

DAYS_OF_MONTH = HOURS_OF_MONTH / 24
SECONDS_OF_DAY = 86_400


@dataclasses.dataclass(frozen=True, slots=True)
class Workload:
    """The events that come in.

    Attributes:
        events_per_day: Events of a day.
        message_bytes: Bytes of a message's payload.
        profile: The times at which the events come.
    """

    events_per_day: float
    message_bytes: float
    profile: RateProfile = "flat"

    @classmethod
    def at_rate(cls, rate: float, message_bytes: float) -> "Workload":
        """Return the workload of so many events in each second."""
        return cls(rate * SECONDS_OF_DAY, message_bytes)

    @property
    def events_per_month(self) -> float:
        """Events of a month."""
        return self.events_per_day * DAYS_OF_MONTH

    @property
    def hours(self) -> Mapping[float, float]:
        """Hours of a day by their rate, in events per second."""
        mean = self.events_per_day / SECONDS_OF_DAY
        if self.profile == "flat":
            return {mean: 24.0}
        total = sum(VISITS_BY_HOUR)
        rates = Counter(mean * visits * 24 / total for visits in VISITS_BY_HOUR)
        return {rate: float(hours) for rate, hours in rates.items()}
