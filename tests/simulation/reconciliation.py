"""Reconciliation in virtual time: it finds what is missing and nothing else, and a repair brings exactly that back.

The archive may be compacted before.
"""

import functools
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from unittest import mock

from google.api_core.exceptions import GoogleAPIError
from google.cloud import bigquery

from functions.archive import compacted_file
from functions.archive.compaction import HourCompaction
from functions.archive.writer import Archive
from functions.core.dead_letters import TABLE as DEAD_LETTERS
from functions.files.messages import PlainEvents
from functions.reconcile import reconciler
from functions.reconcile.findings import Reconciliation
from functions.reconcile.reconciler import Reconciler
from functions.schema.ddl import declared_table
from functions.schema.definitions import definitions
from functions.system import Event
from functions.tables import Tables
from sluice.backfill import load_jobs, run
from sluice.backfill.events import EventReader
from sluice.backfill.load_jobs import LoadJobs
from sluice.backfill.run import FAILURES, Backfill
from sluice.replay.archived import named
from tests.simulation.machine import EPOCH, Machine, current_machine, wait
from tests.simulation.virtual_time import Stuck
from tests.simulation.world import TABLES, World, settings
from tests.support.samples import process

CHOICES = {
    "reconciliations": (*(0,) * 14, 1, 2),
    "lost_events": (*(0,) * 14, 1, 7),
    "is_compacted": (False, True),
    "objects_compared_at_once": (16, 2),
    "lookup_bytes": (2 * 2**20, 50),
    "repairs_at_once": (1, 1, 2),
    "repair_kills": (0, 0, 1, 2),
}
"""The parameters of a scenario that concern it, the simplest first. It takes long, so most scenarios have none."""

_SECONDS = 3_600.0
"""Maximum seconds of a reconciliation, and of all attempts of a repair."""

_BLOCK_BYTES = 2_000
"""Size of a block of compacted objects in bytes, so that they have several."""

_FAULTS_OF_A_REPAIR = 100.0
"""Seconds after which nothing fails any more."""


@functools.cache
def _tables() -> dict[str, bigquery.Table]:
    """Return the tables of load jobs, as BigQuery has them."""
    names = {Tables(settings()).live(table) for table in (*TABLES.values(), DEAD_LETTERS)}
    tables = {each.name: declared_table(each.ddl) for each in definitions("project", settings()) if each.name in names}
    created = {"creationTime": f"{EPOCH.timestamp() * 1000:.0f}"}
    return {
        name: bigquery.Table.from_api_repr({**table.to_api_repr(), "id": f"project:{name}", **created})
        for name, table in tables.items()
    }


@contextmanager
def backfill_in_virtual_time() -> Iterator[None]:
    """Let the threads of the backfill be those of the machine that it runs on."""

    def pool(threads: int, thread_name_prefix: str) -> futures.Executor:
        return current_machine().system.pool(threads, thread_name_prefix)

    def event() -> Event:
        return current_machine().system.event()

    pools = SimpleNamespace(
        ThreadPoolExecutor=pool,
        wait=wait,
        FIRST_COMPLETED=futures.FIRST_COMPLETED,
        ALL_COMPLETED=futures.ALL_COMPLETED,
    )
    events = SimpleNamespace(Event=event)
    with mock.patch.object(run, "futures", pools), mock.patch.object(load_jobs, "threading", events):
        yield


@contextmanager
def limited(world: World) -> Iterator[None]:
    """Let a reconciliation, and a compaction before it, take small steps, as the plan says."""
    plan = world.plan
    limits = {"_OBJECTS_AT_ONCE": plan["objects_compared_at_once"], "_BYTES_OF_A_LOOKUP": plan["lookup_bytes"]}
    with (
        mock.patch.multiple(reconciler, **limits),
        mock.patch.object(compacted_file, "_BLOCK_BYTES", _BLOCK_BYTES),
    ):
        yield


def event_reader(machine: Machine) -> EventReader:
    """Return what converts the lines of a backfill that runs on a machine."""
    return EventReader(process, settings(), machine.now(), PlainEvents.of_version(machine.now(), None, ()))


def load_jobs_of(world: World) -> LoadJobs:
    """Return the load jobs of a backfill."""
    return LoadJobs(world.bigquery_client(), _tables())


def reconcile_meanwhile(world: World) -> None:
    """Reconcile while events come in: an event that lacks a record all the time is missing; one that has it is not."""
    machine = world.machine("reconciler")

    def compare() -> None:
        before = world.without_record()
        try:
            reconciliation = _reconcile(world, machine)
        except (GoogleAPIError, OSError) as error:
            world.history.add(machine.name, f"stops: {error!r}"[:160])
            return
        missing = {event.event_id for event in reconciliation.missing}
        late = world.published.keys() - before.recorded
        if not before.archived & world.without_record().archived <= missing <= late:
            world.history.violated(
                f"the reconciliation misses {sorted(missing)}; {sorted(before.archived)} had no record at its begin"
            )
        _check_counts(world, reconciliation)

    machine.start(compare)


def check_reconciliation(world: World) -> None:
    """Check that all is complete at the end; lose some events, and check that a repair brings back exactly these."""
    if world.history.violations or not (world.plan["reconciliations"] or world.plan["lost_events"]):
        return
    try:
        if world.plan["is_compacted"]:
            _compact(world)
        _check_missing(world, set())
        lost = set(world.rng.sample(sorted(world.published), min(world.plan["lost_events"], len(world.published))))
        if lost:
            for machine in world.machines:  # A reconciliation that still runs would see the loss.
                machine.kill()
            expected = world.records() | dict.fromkeys(lost, 1)
            world.lose(lost)
            _check_missing(world, lost)
            attempts = _repair(world)
            _check_missing(world, set())
            world.check_end()
            # A job of an attempt that was killed goes on, and may bring what the next one brings with others.
            maximum = expected | dict.fromkeys(lost, attempts)
            for event_id, records in world.records().items():
                if not expected.get(event_id, 0) <= records <= maximum.get(event_id, 0):
                    world.history.violated(f"{event_id} has {records} records after {attempts} repairs")
    except Stuck as stuck:
        world.history.violated(f"a reconciliation or repair does not end: {stuck}")


def _compact(world: World) -> None:
    """Compact all hours, as `compact` does once a reconciliation has found them complete."""
    machine = world.machine("compactor")
    done: list[datetime] = []
    hours = world.hours()

    def run() -> None:
        compact = HourCompaction(world.storage_client(), "archive", TABLES, machine.system)
        for hour in hours:
            world.history.add(machine.name, f"has compacted: {compact(hour)}")
            done.append(hour)

    machine.start(run)
    world.time.run(lambda: bool(done == hours or world.history.violations), world.time.now + _SECONDS)


def _check_missing(world: World, expected: set[str]) -> None:
    machine = world.machine("reconciler")
    results: list[Reconciliation] = []
    machine.start(lambda: results.append(_reconcile(world, machine)))
    world.time.run(lambda: bool(results or world.history.violations), world.time.now + _SECONDS)
    for reconciliation in results:
        missing = {event.event_id for event in reconciliation.missing}
        if missing != expected:
            world.history.violated(f"the reconciliation misses {sorted(missing)}, and {sorted(expected)} are missing")
        _check_counts(world, reconciliation)
        total, rows = reconciliation.total, world.bigquery.tables
        counts = total.rows, total.dead_letters
        letters = len(rows.get(DEAD_LETTERS, ()))
        expected_counts = sum(map(len, rows.values())) - letters, letters
        if counts != expected_counts:
            world.history.violated(
                f"the reconciliation counts {counts} rows and dead letters, and there are {expected_counts}"
            )


def _check_counts(world: World, reconciliation: Reconciliation) -> None:
    total = reconciliation.total
    if total.archived != total.matched + total.redelivered + total.missing:
        world.history.violated(f"the counts do not add up: {total}")
    if total.extra or total.conflicts or reconciliation.unreadable:
        world.history.violated(
            f"there are records or objects that should not be there: {total}, {reconciliation.unreadable}"
        )


def _reconcile(world: World, machine: Machine) -> Reconciliation:
    """Compare all that has arrived."""
    world.history.add(machine.name, "reconciles")
    reconcile = Reconciler(world.bigquery_client(), world.storage_client(), settings(), system=machine.system)
    reconciliation = reconcile(EPOCH - timedelta(hours=1), _now(world) + timedelta(hours=1))
    world.history.add(machine.name, f"has reconciled: {reconciliation.summary()}")
    return reconciliation


def _now(world: World) -> datetime:
    return EPOCH + timedelta(seconds=world.time.now)


def _repair(world: World) -> int:
    """Run repairs, which are killed and meet faults for a while, until one succeeds; return how many it took."""
    plan, rng = world.plan, world.rng
    succeeded: list[str] = []
    running: list[Machine] = []
    attempts = 0
    end = world.time.now + _FAULTS_OF_A_REPAIR

    def start() -> None:
        nonlocal attempts
        attempts += 1
        machine = world.machine("repair")
        running.append(machine)
        machine.start(lambda: attempt(machine))

    def attempt(machine: Machine) -> None:
        try:
            is_complete = _repair_once(world, machine)
        except (*FAILURES, OSError) as error:
            world.history.add(machine.name, f"stops: {error!r}"[:160])
            is_complete = False
        if is_complete:
            succeeded.append(machine.name)
        running.remove(machine)
        if not succeeded:
            machine.loop.call_later(5.0, start)

    def kill() -> None:
        if running and not succeeded:
            machine = rng.choice(running)
            world.history.add(machine.name, "is killed")
            running.remove(machine)
            machine.kill()
            world.services.call_later(1.0, start)

    world.network.fault_share = plan["fault_share"]
    world.bigquery.fault_share = plan["row_fault_share"]
    for _ in range(plan["repairs_at_once"]):
        start()
    for _ in range(plan["repair_kills"]):
        world.services.call_later(rng.random() * 30, kill)
    world.services.call_later(_FAULTS_OF_A_REPAIR, world.calm_down)

    def is_over() -> bool:
        return bool(world.history.violations or (succeeded and not running)) and world.time.now > end

    world.time.run(is_over, world.time.now + _SECONDS)
    return attempts


def _repair_once(world: World, machine: Machine) -> bool:
    """Load what is missing, as `sluice reconcile --repair` does; return whether all of it is there."""
    incomplete = _reconcile(world, machine).incomplete
    if not incomplete:
        return True
    archive = Archive(world.storage_api(machine), "archive", TABLES)
    backfill = Backfill(event_reader(machine), load_jobs_of(world), archive)
    report = backfill(named(world.storage_client(), sorted(incomplete)))
    world.history.add(machine.name, f"has repaired: {report}")
    return report.is_complete
