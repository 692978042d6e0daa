"""Forecast of the archive's part of an erasure: what it reads, how long that takes, and what it costs."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

from rich.filesize import decimal

from functions.archive.reader import Archived, CompactedObject
from sluice.cost import deployment, prices
from sluice.cost.archive import ERASED_EVENT_CPU, SMALL_OBJECT_CPU, THREADS
from sluice.cost.compaction import PART_BYTES, REQUEST_SECONDS
from sluice.cost.prices import GIB, Price
from sluice.erase.ownership import Persons

EVENT_BYTES = 109
"""Stored bytes of an event, where an object does not say how many it has; measured in compacted objects."""

MANY_CPU = 2.0
"""Factor on the seconds of CPU for more persons than are searched one after the other; measured."""

ASSUMPTIONS = (
    f"assumed: {REQUEST_SECONDS * 1e3:.0f} ms a request, {THREADS} at once, one core, list prices of us-central1;"
    " without the writes, and the minimum storage time of colder classes"
)

_OPERATIONS = {
    "STANDARD": prices.CLASS_B,
    "NEARLINE": prices.NEARLINE_CLASS_B,
    "COLDLINE": prices.COLDLINE_CLASS_B,
}
_RETRIEVAL: dict[str, Price] = {"NEARLINE": prices.NEARLINE_RETRIEVAL, "COLDLINE": prices.COLDLINE_RETRIEVAL}


@dataclasses.dataclass(slots=True)
class StorageClass:
    """Objects of a storage class.

    Attributes:
        objects: Number of the objects.
        bytes: Their size in bytes.
        requests: Number of requests that return them.
    """

    objects: int = 0
    bytes: int = 0
    requests: int = 0

    def usd(self, name: str) -> float | None:
        """Return the USD for the requests and the retrieval; None for a class without a known price."""
        if name not in _OPERATIONS:
            return None
        retrieval = _RETRIEVAL[name].usd_per_unit * self.bytes / GIB if name in _RETRIEVAL else 0.0
        return self.requests * _OPERATIONS[name].usd_per_unit + retrieval


@dataclasses.dataclass(slots=True)
class Forecast:
    """Objects that are to be read.

    Attributes:
        cpu_factor: Factor on the seconds of CPU.
        classes: Objects by storage class.
        listed: Number of objects that were listed, including those that are not read.
        seconds: Seconds that the reading takes.
    """

    cpu_factor: float = 1.0
    classes: collections.defaultdict[str, StorageClass] = dataclasses.field(
        default_factory=lambda: collections.defaultdict(StorageClass)
    )
    listed: int = 0
    seconds: float = 0.0

    def add(self, archived: Archived) -> None:
        """Add an object that is to be read."""
        of_class = self.classes[archived.storage_class]
        of_class.objects += 1
        of_class.bytes += archived.size
        of_class.requests += _requests(archived)
        self.seconds += self.seconds_of(archived)

    def seconds_of(self, archived: Archived) -> float:
        """Return the seconds that the reading of an object takes: those of its requests, or those of the CPU."""
        events = archived.summary.events if archived.summary else archived.size / EVENT_BYTES
        cpu = events * ERASED_EVENT_CPU * self.cpu_factor
        if not isinstance(archived, CompactedObject):
            cpu = max(cpu, SMALL_OBJECT_CPU)
        return max(_requests(archived) * REQUEST_SECONDS / THREADS, cpu)

    @property
    def objects(self) -> int:
        """Number of the objects."""
        return sum(of_class.objects for of_class in self.classes.values())

    @property
    def bytes(self) -> int:
        """Size of the objects in bytes."""
        return sum(of_class.bytes for of_class in self.classes.values())

    @property
    def usd(self) -> float:
        """USD for requests and retrieval, and for the two listings; without classes that have no known price."""
        listings = 2 * math.ceil(self.listed / deployment.LISTED_OBJECTS) * prices.CLASS_A.usd_per_unit
        return listings + sum(of_class.usd(name) or 0.0 for name, of_class in self.classes.items())

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        classes = {name: dataclasses.asdict(of_class) for name, of_class in sorted(self.classes.items())}
        return {
            "objects": self.objects,
            "bytes": self.bytes,
            "requests": sum(of_class.requests for of_class in self.classes.values()),
            "seconds": round(self.seconds, 3),
            "usd": round(self.usd, 6),
            "classes": classes,
        }

    def sentences(self) -> str:
        """Return it for people."""
        text = f"To read: {_amount(self)}, in about {_duration(self.seconds)}, for {self.usd:.2f} USD"
        if len(self.classes) > 1:
            text += f" ({'; '.join(f'{name}: {_amount(part)}' for name, part in sorted(self.classes.items()))})"
        if unpriced := sorted(self.classes.keys() - _OPERATIONS.keys()):
            text += f", without the price of {', '.join(unpriced)}"
        return f"{text}; {ASSUMPTIONS}."


def forecast(
    objects: Iterable[Archived], persons: Persons, is_read: Callable[[Archived], bool] = lambda _: False
) -> Forecast:
    """Return the forecast for the objects of an archive.

    Args:
        objects: The objects.
        persons: Persons to erase.
        is_read: Returns whether an object is not read again.
    """
    expected = Forecast(MANY_CPU if persons.are_many else 1.0)
    for archived in objects:
        expected.listed += 1
        if not is_read(archived):
            expected.add(archived)
    return expected


def _requests(archived: Archived) -> int:
    return math.ceil(archived.size / PART_BYTES) if isinstance(archived, CompactedObject) else 1


def _amount(part: Forecast | StorageClass) -> str:
    return f"{part.objects} {'object' if part.objects == 1 else 'objects'}, {decimal(part.bytes)}"


def _duration(seconds: float) -> str:
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(1, round(seconds))} s"
