"""What a million events cost at list prices."""

import dataclasses
import math

from benchmarks import prices
from benchmarks.prices import Price

MILLION = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What one event takes, and how many come.

    Attributes:
        rate: Events per second.
        highest: Events per second that an instance sustains.
        message_bytes: Of its message.
        row_bytes: That BigQuery bills for its row.
        uploads: Class A operations.
    """

    rate: float
    highest: float
    message_bytes: float
    row_bytes: float
    uploads: float

    @property
    def instances(self) -> int:
        """Instances that are needed."""
        return math.ceil(self.rate / self.highest)

    def per_million(self) -> dict[Price, float]:
        """USD for a million events, by price.

        An instance is paid for as long as it has a request, so at a steady rate always: each event pays for
        `instances / rate` seconds.
        """
        seconds = self.instances / self.rate
        units = {
            prices.PUBSUB_BYTES: 2 * max(self.message_bytes, prices.PUBSUB_MIN_BYTES),
            prices.INSERTED_BYTES: self.row_bytes,
            prices.CLASS_A: self.uploads,
            prices.REQUESTS: 1.0,
            prices.VCPU_SECONDS: seconds * prices.INSTANCE_VCPU,
            prices.GIB_SECONDS: seconds * prices.INSTANCE_GIB,
        }
        return {price: MILLION * amount * price.usd for price, amount in units.items()}
