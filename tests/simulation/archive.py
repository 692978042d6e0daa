"""Scenarios of the archive: compactions at once, killed anywhere, while others read an hour and erase a person."""

import collections
import concurrent.futures
import contextlib
import functools
import gzip
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from unittest import mock

import urllib3
from google.api_core.exceptions import GoogleAPIError

from functions.archive import compacted_file, compaction, layout
from functions.archive.compacted_file import CompactedMetadata
from functions.archive.compaction import HourChanged, HourCompaction
from functions.archive.envelope import read_envelopes
from functions.archive.reader import ArchiveReader, ObjectNotFound
from functions.archive.summary import Summary
from functions.archive.writer import Archive
from functions.core.pipeline import EventPipeline
from functions.ingest.http_client import ApiError
from sluice.erase import archive as erase_archive
from sluice.erase.archive import ArchiveErasure
from sluice.erase.dead_letters import DeadLetters
from sluice.erase.deletions import Deletions
from sluice.erase.ownership import Persons
from sluice.erase.report import Erased
from tests.simulation.cloud_storage import StoredObject
from tests.simulation.machine import Machine, current_machine
from tests.simulation.virtual_time import Stuck
from tests.simulation.world import TABLES, World, finished_originals, hour_of
from tests.support.samples import process

CHOICES: Mapping[str, Sequence[Any]] = {
    "objects": range(2, 12),
    "bad_events": (False, True),
    "late_objects": (0, 0, 1, 3),
    "compactions": (1, 2, 2, 3),
    "seconds_between": (0.3, 5.0, 20.0),
    "kills": (0, 1, 2),
    "readers": (0, 1, 2),
    "persons": (0, 0, 1, 3, 10),
    "erasures_at_once": (1, 2),
    "skew": (False, True),
    "fault_share": (0.0, 0.03, 0.1, 0.2),
    "objects_read_at_once": (64, 3, 1),
    "bytes_read_at_once": (8 * 2**20, 1_000),
    "compacted_bytes": (64 * 2**20, 3_000, 500),
    "block_bytes": (8 * 2**20, 600),
}
"""The values of each parameter of a scenario, the simplest first."""

FAULTS_UNTIL = 120.0
ALL_UNTIL = 1_200.0


class ArchiveScenario:
    """Writes an hour of the archive, and compacts it.

    Args:
        world: The world.
    """

    def __init__(self, world: World, pipeline: EventPipeline = process) -> None:
        self.world = world
        self._process = pipeline
        self._written: dict[str, list[str]] = {}
        self._originals: dict[str, list[str]] = {}
        self._erased: set[str] = set()
        self._running = 0
        self._compactors: list[Machine] = []

    def run(self) -> None:
        """Run it, and check everything."""
        world, rng, plan = self.world, self.world.rng, self.world.plan
        writer = world.machine("writer")
        writer.start(lambda: self._write(writer, plan["objects"]))
        world.time.run_until(60.0)
        self._check()
        begin = world.time.now
        world.network.fault_share = plan["fault_share"]
        world.storage.changed = self._check
        events = [event_id for ids in self._originals.values() for event_id in ids]
        persons = rng.sample(events, min(plan["persons"], len(events)))
        for _ in range(plan["compactions"]):
            world.services.call_later(5 + rng.random() * plan["seconds_between"], self._compact)
        for _ in range(plan["kills"]):
            world.services.call_later(5 + rng.random() * 20, self._kill)
        erased_from = rng.random() * 20
        for number in range(plan["erasures_at_once"]):
            if of_one := persons[number :: plan["erasures_at_once"]]:
                world.services.call_later(erased_from + rng.random(), self._start_erasing, set(of_one))
        for _ in range(plan["readers"]):
            world.services.call_later(rng.random() * 20, self._read)
        for number in range(plan["late_objects"]):  # flushes that are late, with names of before
            archive = Archive(world.storage_api(writer), "archive", TABLES)
            named = writer.now() - timedelta(seconds=rng.choice((0, 60)) * rng.random())
            write = functools.partial(self._write_object, writer, archive, layout.object_name(named, "0" * 12, number))
            world.services.call_later(5 + rng.random() * plan["seconds_between"], writer.start, write)
        world.services.call_later(FAULTS_UNTIL, world.calm_down)
        limits = {
            "MAX_LISTED": 4 * plan["objects_read_at_once"],
            "_READ_OBJECTS": plan["objects_read_at_once"],
            "_READ_BYTES": plan["bytes_read_at_once"],
        }
        sizes = {"MAX_BYTES": plan["compacted_bytes"], "_BLOCK_BYTES": plan["block_bytes"]}
        with (
            mock.patch.multiple(compaction, **limits),
            mock.patch.multiple(compacted_file, **sizes),
            mock.patch.object(erase_archive, "ThreadPoolExecutor", _pool),
        ):
            try:
                world.time.run(lambda: self._is_over(begin), begin + ALL_UNTIL)
            except Stuck as stuck:
                world.history.violated(f"the compaction does not end: {stuck}")
            else:
                self._check_end()

    def _is_over(self, begin: float) -> bool:
        world = self.world
        if world.history.violations:
            return True
        if world.time.now < begin + FAULTS_UNTIL or self._running:
            return False
        names = world.storage.objects
        of_hours = collections.Counter(hour_of(name) for name in names if layout.is_original(name))
        if any(count > 1 for count in of_hours.values()) or self._unfinished():
            self._compact()
            return False
        return True

    def _unfinished(self) -> list[str]:
        return [
            name
            for name, stored in self.world.storage.objects.items()
            if layout.compacted_range(name) and not CompactedMetadata.of(stored.metadata).is_finished
        ]

    def _write(self, machine: Machine, count: int) -> None:
        archive = Archive(self.world.storage_api(machine), "archive", TABLES)
        for _ in range(count):
            self._write_object(machine, archive, archive.name(machine.now()))
            machine.sleep(self.world.rng.random())

    def _write_object(self, machine: Machine, archive: Archive, name: str) -> None:
        messages = [self.world.new_message() for _ in range(self.world.rng.randrange(1, 6))]
        outcomes = [self._process(message, machine.now()) for message in messages]
        self._written[name] = [message.event_id for message in messages]
        with contextlib.suppress(ApiError, urllib3.exceptions.HTTPError):  # A lost answer may hide a success.
            archive.write(name, outcomes, 30.0)

    def _client(self, name: str) -> Machine:
        machine = self.world.machine(name)
        self._running += 1
        return machine

    def _compact(self) -> None:
        machine = self._client("compactor")
        self._compactors.append(machine)
        storage = self.world.storage_client()
        compact = HourCompaction(storage, "archive", TABLES, machine.system)

        def run() -> None:
            try:
                for hour in sorted({hour_of(name) for name in self._originals}):
                    self.world.history.add(machine.name, f"has compacted: {compact(hour)}")
            except (HourChanged, GoogleAPIError, OSError) as error:
                self.world.history.add(machine.name, f"stops: {error!r}"[:160])
            finally:
                self._ended(machine)

        machine.start(run)

    def _ended(self, machine: Machine) -> None:
        if not machine.is_dead:
            self._running -= 1
            if machine in self._compactors:
                self._compactors.remove(machine)

    def _kill(self) -> None:
        living = [machine for machine in self._compactors if not machine.is_dead]
        if living:
            machine = self.world.rng.choice(living)
            self.world.history.add(machine.name, "is killed")
            self._compactors.remove(machine)
            machine.kill()
            self._running -= 1

    def _start_erasing(self, persons: set[str]) -> None:
        self._erased |= persons
        machine = self._client("eraser")
        storage = self.world.storage_client()

        def erase() -> Erased:
            erased = Erased()
            deletions = Deletions(self.world.bigquery_client(), erased)
            letters = DeadLetters(Persons({}, persons), storage, "events.dead_letters", deletions, erased)
            ArchiveErasure(letters.persons, storage, "archive", letters, erased).erase(None, None, lambda *_: None)
            return erased

        def run() -> None:
            while True:
                try:
                    erased = erase()
                except (GoogleAPIError, OSError) as error:
                    self.world.history.add(machine.name, f"starts again: {error!r}"[:160])
                else:
                    self.world.history.add(machine.name, f"has erased: {erased}")
                    if erased.is_complete:
                        break
            self._ended(machine)

        machine.start(run)

    def _read(self) -> None:
        """Read the hour while others change it: each event once."""
        machine = self._client("reader")
        expected = [event_id for ids in self._originals.values() for event_id in ids]

        def run() -> None:
            reader = ArchiveReader(self.world.storage_client(), "archive")
            try:
                seen = [
                    envelope.event_id
                    for archived in reader.objects()
                    for original in archived.originals()
                    for envelope in original.envelopes()
                ]
            except (GoogleAPIError, OSError, ObjectNotFound) as error:
                self.world.history.add(machine.name, f"stops: {error!r}"[:160])
            else:
                missing = set(expected) - set(seen) - self._erased
                if missing or len(seen) != len(set(seen)):
                    self.world.history.violated(f"a reader misses {sorted(missing)}, and sees {len(seen)} events")
            finally:
                self._ended(machine)

        machine.start(run)

    def _check(self) -> None:
        """Check that the lines of each original count once: its own, or those of one finished compacted object."""
        for name in self._written.keys() - self._originals.keys():
            if name in self.world.storage.objects:
                self._originals[name] = self._written[name]
        copies: dict[str, list[list[str]]] = {}
        for name, stored in self.world.storage.objects.items():
            for original, envelopes in finished_originals(name, stored).items():
                copies.setdefault(original, []).append([envelope.event_id for envelope in envelopes])
        for original, ids in self._originals.items():
            own = self.world.storage.objects.get(original)
            counted = (
                [[envelope.event_id for envelope in read_envelopes(gzip.decompress(own.data))]]
                if own
                else copies.get(original, [])
            )
            if len(counted) > 1:
                self.world.history.violated(f"{original} counts {len(counted)} times")
            lines = counted[0] if counted else []
            if set(ids) - set(lines) - self._erased or len(set(lines)) != len(lines):
                self.world.history.violated(f"{original} has {lines}, of {ids}")

    def _check_end(self) -> None:
        """Check that no line of an erased person is left, anywhere."""
        for name, stored in self.world.storage.objects.items():
            if name.endswith(".gz"):
                ids = {envelope.event_id for envelope in read_envelopes(gzip.decompress(stored.data))}
                if ids & self._erased:
                    self.world.history.violated(f"{name} has {sorted(ids & self._erased)}, which are erased")
                if layout.compacted_range(name):
                    self._check_metadata(name, stored)

    def _check_metadata(self, name: str, stored: StoredObject) -> None:
        """Check that the metadata of a compacted object fits its content, by which readers skip the rest of it."""
        metadata = CompactedMetadata.of(stored.metadata)
        if not metadata.is_finished:
            self.world.history.violated(f"{name} is never finished")
        if metadata.summary != Summary.of(read_envelopes(gzip.decompress(stored.data)), TABLES):
            self.world.history.violated(f"{name} has the summary of other events: {metadata.summary}")
        for original in finished_originals(name, stored):
            start, end = metadata.place_of(original)
            blocks = compacted_file.inflate([stored.data[start:end]], has_start=not start, has_end=end is None)
            if layout.origin_of(original) not in dict(compacted_file.split(blocks)):
                self.world.history.violated(f"{name} has {original} in another block")


def _pool(threads: int) -> concurrent.futures.Executor:
    """Return a pool of the machine that asks for it."""
    return current_machine().system.pool(threads, "erasure")


def run_archive(world: World) -> None:
    """Run a scenario of the archive."""
    ArchiveScenario(world).run()
