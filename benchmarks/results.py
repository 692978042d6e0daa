"""Everything that a run measured, as it is kept in `results/latest.json`."""

import pathlib
from collections.abc import Callable, Iterable

import msgspec

from benchmarks.cells import Cell
from benchmarks.cold_start import Import, Start
from benchmarks.core import Backfilled, Core
from benchmarks.drain import Drained
from benchmarks.machine import Machine
from benchmarks.servers import TITLES, Name
from benchmarks.spread import Spread, ratio
from sluice.cost.measured import Sizes

FILE = pathlib.Path(__file__).parent / "results" / "latest.json"


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity of the load generator itself, against a server that does nothing.

    Attributes:
        requests_per_second: Requests per second that were answered.
        busy: Share of its core that it used.
    """

    requests_per_second: float
    busy: float


class Results(msgspec.Struct, kw_only=True):
    """Results of a run.

    Attributes:
        started: Time at which the run began, ISO 8601.
        revision: Revision of the code, if git knows it.
        seconds: Seconds that the run took.
        machine: Machine of the run.
        message_bytes: Mean bytes of a message, of the mixed events.
        large_bytes: Mean bytes of a message, of the large orders.
        sizes: Sizes of the mixed events as rows.
        cells: Measurements of all loads.
        ceiling: Capacity of the load generator.
        core: The pure core.
        backfill: The backfill.
        drain: Batch mode.
        starts: Cold starts.
        imports: Imports of the cold starts.
    """

    started: str
    revision: str
    seconds: float
    machine: Machine
    message_bytes: float = 0.0
    large_bytes: float = 0.0
    sizes: Sizes | None = None
    cells: list[Cell] = []
    ceiling: Ceiling | None = None
    core: list[Core] = []
    backfill: Backfilled | None = None
    drain: list[Drained] = []
    starts: list[Start] = []
    imports: list[Import] = []

    def of(self, scenario: str, name: Name) -> list[Cell]:
        """Return the cells of an implementation in a scenario, by repetition."""
        return [cell for cell in self.cells if (cell.scenario, cell.of) == (scenario, name)]

    def spread(self, scenario: str, name: Name, value: Callable[[Cell], float | None]) -> Spread | None:
        """Return a value of an implementation in a scenario; None where a repetition has none."""
        values = [value(cell) for cell in self.of(scenario, name)]
        numbers = [number for number in values if number is not None]
        return Spread.of(numbers) if numbers and len(numbers) == len(values) else None

    @property
    def repetitions(self) -> int:
        """Repetitions of the loads."""
        return max((cell.repetition for cell in self.cells), default=0)

    def ratio(self, scenario: str, over: Name, under: Name, value: Callable[[Cell], float | None]) -> Spread:
        """Return a value of one implementation over the same of another, repetition by repetition.

        Raises:
            NotMeasured: One of them has no value in a repetition.
        """
        ours, theirs = ({cell.repetition: value(cell) for cell in self.of(scenario, name)} for name in (over, under))
        return ratio(ours, theirs, (TITLES[over], TITLES[under]))

    def write(self, file: pathlib.Path) -> None:
        """Keep them."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def read(file: pathlib.Path) -> Results:
    """Return the results of an earlier run."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def by_start(starts: Iterable[Start], name: Name, *, compiled: bool) -> list[Start]:
    """Return the starts of an implementation, in the order in which they took place."""
    return [start for start in starts if start.of == name and start.compiled is compiled]
