"""The work without the network: the pure core, event by event, and the backfill, file by file."""

import functools
import gc
import gzip
import itertools
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, NoReturn

import msgspec

from benchmarks.events import MIX, Bodies, Kind
from functions.archive import layout
from functions.archive.envelope import Envelope
from functions.core.message import parse_request
from functions.core.pipeline import EventPipeline
from functions.drain.load_format import LoadFormat
from functions.files import sources
from functions.schema.ddl import declared_table
from functions.schema.definitions import Kind as DefinitionKind
from functions.schema.definitions import definitions
from functions.settings import Settings
from functions.system import utc_now
from sluice.backfill.chunks import Seen, chunks, loads
from sluice.backfill.events import EventReader

SETTINGS = Settings(archive_bucket="archive", google_cloud_project="project")

_URI = layout.address("archive", layout.object_name(datetime(2026, 11, 25, 12, tzinfo=UTC), "0123456789ab", 1))
_HEADERS = {"content-type": "application/json", "content-length": "900", "user-agent": "CloudPubSub-Google"}


class Core(msgspec.Struct, frozen=True, kw_only=True):
    """Time that the pure core takes for an event.

    Attributes:
        events: Kind of the events: a type, `mixed` of all types that become rows, or `with bad ones` among them.
        microseconds: CPU for each event, by round.
    """

    events: str
    microseconds: list[float]


class Backfilled(msgspec.Struct, frozen=True, kw_only=True):
    """Time that the backfill takes for the events of a file.

    Attributes:
        events: Number of events.
        seconds: Seconds by round.
        cpu: Seconds of CPU, by round.
        bytes: Size of the load files in bytes.
    """

    events: int
    seconds: list[float]
    cpu: list[float]
    bytes: int


class _Timed(NamedTuple):
    seconds: float
    cpu: float


def core(rounds: int, events: int) -> list[Core]:
    """Measure the way from the body of a push to the encoded row, with nothing around it.

    Args:
        rounds: Number of rounds of each kind.
        events: Number of events in a round.
    """
    process = EventPipeline.from_settings(SETTINGS)

    def to_row(body: bytes) -> bytes:
        return bytes(process(parse_request(_HEADERS, body, utc_now), utc_now()).encoded(_URI))

    kinds: list[tuple[str, Kind, bool]] = [("mixed", "mixed", False), ("with bad ones", "mixed", True)]
    kinds += [(name, name, False) for name in MIX]  # type: ignore[misc]
    bodies = {name: pushes(kind, events, with_bad=with_bad) for name, kind, with_bad in kinds}
    microseconds: dict[str, list[float]] = {name: [] for name in bodies}
    for _ in range(rounds + 1):
        for name, ones in bodies.items():
            timed = _timed(functools.partial(_each, to_row, ones))
            microseconds[name].append(timed.cpu / len(ones) * 1e6)
    return [Core(events=name, microseconds=values[1:]) for name, values in microseconds.items()]


def _each(work: Callable[[bytes], object], bodies: Sequence[bytes]) -> None:
    for body in bodies:
        work(body)


def pushes(kind: Kind, count: int, *, with_bad: bool) -> list[bytes]:
    """Return so many pushes of a kind, with the bad ones among them or without."""
    return list(itertools.islice((body for body, is_bad in _endless(kind) if with_bad or not is_bad), count))


def _endless(kind: Kind) -> Iterator[tuple[bytes, bool]]:
    bodies = Bodies(kind)
    while True:
        yield next(bodies)


def backfill(rounds: int, events: int, folder: pathlib.Path) -> Backfilled:
    """Measure the way from a file of the archive to load files: all that the backfill does by itself.

    Args:
        rounds: Number of rounds.
        events: Number of events in the file.
        folder: Folder of the file.

    Raises:
        AssertionError: The load files have other than these events.
    """
    file = folder / "events.ndjson.gz"
    messages = [parse_request(_HEADERS, body, utc_now) for body in pushes("mixed", events, with_bad=True)]
    lines = msgspec.json.Encoder().encode_lines([Envelope.from_message(message, None) for message in messages])
    file.write_bytes(gzip.compress(lines, 1))
    files = {
        definition.name: LoadFormat(declared_table(definition.ddl).schema)
        for definition in definitions("project", SETTINGS)
        if definition.kind is DefinitionKind.TABLE
    }
    written: list[bytes] = []

    def to_load_files() -> None:
        read = EventReader.from_settings(SETTINGS, utc_now())
        seen = Seen()
        for chunk in chunks(line for source in sources.find([str(file)], _no_storage) for line in source.lines()):
            for load in loads([event for event in map(seen.new, map(read, chunk)) if event]):
                records = [event.outcome.record(_URI) for event in load.events]
                written.append(files[load.table](records))

    timed = []
    for _ in range(rounds):
        written.clear()
        timed.append(_timed(to_load_files))
        count = sum(data.count(b"\n") for data in written)
        if count != events:
            raise AssertionError(f"{count} of {events} events are in the load files")
    return Backfilled(
        events=events,
        seconds=[timing.seconds for timing in timed],
        cpu=[timing.cpu for timing in timed],
        bytes=sum(map(len, written)),
    )


def _no_storage() -> NoReturn:
    raise AssertionError("the file is here")


def _timed(work: Callable[[], None]) -> _Timed:
    gc.collect()
    started, cpu = time.perf_counter(), time.process_time()
    work()
    return _Timed(time.perf_counter() - started, time.process_time() - cpu)
