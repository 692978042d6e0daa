"""Everything that a run measured, as it is kept in `results/latest.json`."""

import pathlib
from collections.abc import Callable, Iterable

import msgspec

from benchmarks.cells import Cell
from benchmarks.cold_start import Import, Start
from benchmarks.core import Backfilled, Core
from benchmarks.machine import Machine
from benchmarks.servers import TITLES, Name
from benchmarks.spread import Spread, ratio
from sluice.cost.measured import Sizes

FILE = pathlib.Path(__file__).parent / "results" / "latest.json"


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """What the load generator itself can do, against a server that does nothing.

    Attributes:
        requests_per_second: Answered.
        busy: Share of its core that it used.
    """

    requests_per_second: float
    busy: float


class Results(msgspec.Struct, kw_only=True):
    """Of a run.

    Attributes:
        started: When, ISO 8601.
        revision: Of the code, if git knows.
        seconds: How long it took.
        machine: On what.
        message_bytes: Mean bytes of a message, of the mixed events.
        large_bytes: Mean bytes of a message, of the large orders.
        sizes: Sizes of the mixed events as rows.
        cells: All loads.
        ceiling: Of the load generator.
        core: The pure core.
        backfill: The backfill.
        starts: Cold starts.
        imports: What they import.
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
    starts: list[Start] = []
    imports: list[Import] = []

    def of(self, scenario: str, name: Name) -> list[Cell]:
        """The cells of an implementation in a scenario, by repetition."""
        return [cell for cell in self.cells if (cell.scenario, cell.of) == (scenario, name)]

    def spread(self, scenario: str, name: Name, value: Callable[[Cell], float | None]) -> Spread | None:
        """A value of an implementation in a scenario; None where a repetition has none."""
        values = [value(cell) for cell in self.of(scenario, name)]
        known = [one for one in values if one is not None]
        return Spread.of(known) if known and len(known) == len(values) else None

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
    """The results of an earlier run."""
    return msgspec.json.decode(file.read_bytes(), type=Results)


def by_start(starts: Iterable[Start], name: Name, *, compiled: bool) -> list[Start]:
    """The starts of an implementation, in the order in which they took place."""
    return [start for start in starts if start.of == name and start.compiled is compiled]
