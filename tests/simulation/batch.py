"""Scenarios of `drain`: runs that are killed, overlap and are late, while events are published."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

from functions.archive.writer import Archive
from functions.drain import drain as drain_module
from functions.drain import loads as loads_module
from functions.drain.drain import Drain
from functions.drain.load_files import LoadFiles, load_formats
from functions.drain.loads import Loads
from functions.drain.row_inserts import RowInserts
from functions.drain.subscription import Subscription
from functions.ingest.batch_writer import BatchWriter
from functions.ingest.flush_report import FlushReport
from functions.ingest.warehouse import Warehouse
from tests.history import invariants
from tests.simulation import clients, reconciliation
from tests.simulation.machine import Machine
from tests.simulation.pubsub import PullSubscription
from tests.simulation.virtual_time import Stuck
from tests.simulation.world import TABLES, World, settings
from tests.support.samples import process

INTERVAL = 60.0
FAULTS_UNTIL = 300.0
"""Seconds after which nothing fails any more."""

ALL_UNTIL = FAULTS_UNTIL + 4 * 3600.0
"""Seconds after which everything must be loaded: tables whose jobs have failed are paused, for an hour at most."""

CHOICES: Mapping[str, Sequence[Any]] = {
    "events": range(1, 40),
    "bad_events": (False, True, True),
    "sent_again_share": (0.0, 0.0, 0.2),
    "kills": (0, 0, 2, 5),
    "freezes": (0, 0, 2),
    "skew": (False, True),
    "runs_at_once": (1, 2),
    "fault_share": (0.0, 0.02, 0.05, 0.2),
    "row_fault_share": (0.0, 0.0, 0.05, 0.2),
    "repeat_share": (0.0, 0.0, 0.1),
    "job_seconds": (5.0, 50.0, 200.0),
    "is_a_table_behind": (False, False, False, False, True),
    "max_request_bytes": (10_000_000, 12_000),
    "chunk_messages": (20_000, 7, 2),
    "chunk_bytes": (8 * 2**20, 2_000),
    "files_of_a_job": (2_000, 3, 1),
    **reconciliation.CHOICES,
}
"""The values of each parameter of a scenario, the simplest first."""

FORMATS = load_formats(settings())


class BatchScenario:
    """Publishes events, breaks what can break for a while, and drains until everything is loaded.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._settings = settings()
        self._subscription = PullSubscription(world.rng, lambda: world.time.now, world.check_acknowledged)
        self._drains: list[tuple[Machine, Drain]] = []
        self._loads = collections.Counter[int]()
        world.bigquery.loaded = self._check_loaded
        world.bigquery.not_found = lambda uri: world.history.violated(f"{uri} was deleted before its job")

    def run(self) -> None:
        """Run it, and check everything."""
        world, rng, plan = self.world, self.world.rng, self.world.plan
        world.break_services()
        world.bigquery.job_seconds = plan["job_seconds"]
        self._subscription.repeat_share = plan["repeat_share"]
        for _ in range(plan["events"]):
            world.services.call_later(rng.random() * 200, world.publish, self._subscription.publish)
        for _ in range(plan["reconciliations"]):
            world.services.call_later(rng.random() * FAULTS_UNTIL, reconciliation.reconcile_meanwhile, world)
        for _ in range(plan["kills"]):
            world.services.call_later(rng.random() * FAULTS_UNTIL, self._kill)
        for _ in range(plan["freezes"]):
            world.services.call_later(rng.random() * FAULTS_UNTIL, self._freeze)
        world.services.call_later(rng.random() * FAULTS_UNTIL, world.bigquery.missing.clear)
        world.services.call_later(FAULTS_UNTIL, self._calm_down)
        world.services.call_later(1.0, self._schedule)
        limits = {"CHUNK_MESSAGES": plan["chunk_messages"], "CHUNK_BYTES": plan["chunk_bytes"]}
        with (
            mock.patch.multiple(drain_module, **limits),
            mock.patch.object(loads_module, "MAX_FILES", plan["files_of_a_job"]),
        ):
            try:
                world.time.run(self._is_over, ALL_UNTIL)
            except Stuck as stuck:
                unacknowledged = [
                    each.message.event_id for each in self._subscription.messages.values() if not each.is_acknowledged
                ]
                files = [name for name in world.storage.objects if name.startswith("load/")]
                world.history.violated(f"{unacknowledged} are not acknowledged, {files} not loaded: {stuck}")
            else:
                world.check_end()
                reconciliation.check_reconciliation(world)

    def _calm_down(self) -> None:
        self._subscription.repeat_share = 0.0
        self.world.calm_down()

    def _check_loaded(self, uri: str) -> None:
        # An upload that is late may bring a file back after it was loaded and deleted: its rows are there twice, as
        # after a redelivery. That is another generation.
        generation = self.world.storage.objects[uri.removeprefix("gs://archive/")].generation
        self._loads[generation] += 1
        self.world.report(invariants.check_loaded(uri, self._loads[generation], writes=1))

    def _is_over(self) -> bool:
        world = self.world
        return bool(world.history.violations) or (
            world.time.now > FAULTS_UNTIL
            and all(each.is_acknowledged for each in self._subscription.messages.values())
            and not any(name.startswith("load/") and name.endswith(".gz") for name in world.storage.objects)
        )

    def _schedule(self) -> None:
        """Start a run each minute; sometimes two at once, and on a new instance."""
        rng = self.world.rng
        if self._is_over():
            return
        for _ in range(rng.randrange(1, self.world.plan["runs_at_once"] + 1)):
            self._start()
        self.world.services.call_later(INTERVAL, self._schedule)

    def _start(self) -> None:
        living = [drain for drain in self._drains if not drain[0].is_dead]
        if not living or self.world.rng.random() < 0.2:
            machine = self.world.machine("drain")
            living = [(machine, self._drain(machine))]
            self._drains += living
        machine, drain = self.world.rng.choice(living)

        def run() -> None:
            self.world.history.add(machine.name, "drains")
            report = drain()
            self.world.history.add(machine.name, f"has drained: {report.fields}")

        machine.start(run)

    def _drain(self, machine: Machine) -> Drain:
        world, chosen, system = self.world, self._settings, machine.system
        api = world.storage_api(machine)
        archive, files = Archive(api, "archive", TABLES), LoadFiles(api, "archive", FORMATS)
        storage = world.storage_client()
        bigquery = world.bigquery_client()
        warehouse = Warehouse(world.bigquery_api(machine), "project", chosen.dataset)
        insert_rows = RowInserts(storage, "archive", process, warehouse, chosen.flush_timeout, _ignore, system)
        pubsub = clients.subscriber_client(world.network, self._subscription)
        return Drain(
            lambda: Subscription(pubsub, "subscription", system),
            BatchWriter(process, archive, files, chosen.flush_timeout, _ignore, system),
            Loads(bigquery, storage, chosen, insert_rows, system),
            system,
        )

    def _kill(self) -> None:
        living = [machine for machine, _ in self._drains if not machine.is_dead]
        if living:
            machine = self.world.rng.choice(living)
            self.world.history.add(machine.name, "is killed")
            machine.kill()

    def _freeze(self) -> None:
        living = [machine for machine, _ in self._drains if not machine.is_dead]
        if living:
            machine, seconds = self.world.rng.choice(living), self.world.rng.random() * 100
            self.world.history.add(machine.name, f"is frozen for {seconds:.1f} s")
            machine.loop.freeze(seconds)


def _ignore(_: FlushReport) -> None:
    """The checks look at the services, and not at reports."""


def run_batch(world: World) -> None:
    """Run a scenario of `drain`."""
    with reconciliation.limited(world):
        BatchScenario(world).run()
