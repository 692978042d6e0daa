"""Scenarios of `ingest`: instances that are killed and frozen, and a Pub/Sub that pushes until they acknowledge."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.types import Message as AsgiMessage

from functions.archive.writer import Archive
from functions.core.message import Message
from functions.ingest.app import IngestApp
from functions.ingest.flush import FlushServices
from functions.ingest.group_commit import GroupCommit
from functions.ingest.threads import Threads
from functions.ingest.warehouse import Warehouse
from functions.settings import Settings
from tests.simulation import reconciliation
from tests.simulation.machine import Machine
from tests.simulation.pubsub import PushSubscription
from tests.simulation.undeliverable import DeadLetterSubscription
from tests.simulation.virtual_time import Stuck
from tests.simulation.world import TABLES, World, settings
from tests.support.samples import process

FAULTS_UNTIL = 35.0
"""Seconds after which nothing fails any more."""

ALL_UNTIL = 300.0
"""Seconds after which everything must be acknowledged."""

ACK_DEADLINE = 15.0


CHOICES: Mapping[str, Sequence[Any]] = {
    "events": range(1, 50),
    "seconds": (15.0, 15.0, 1.0),
    "bad_events": (False, True, True),
    "sent_again_share": (0.0, 0.0, 0.2),
    "instances": (1, 2, 3),
    "kills": (0, 0, 1, 3),
    "freezes": (0, 0, 2),
    "skew": (False, True),
    "fault_share": (0.0, 0.03, 0.1, 0.3),
    "row_fault_share": (0.0, 0.0, 0.05, 0.2),
    "slowness": (1.0, 1.0, 5.0, 20.0),
    "repeat_share": (0.0, 0.1),
    "max_attempts": (0, 0, 5),
    "is_a_table_behind": (False, False, False, False, True),
    "max_request_bytes": (10_000_000, 12_000, 4_000),
    "batch_rows": (500, 10, 3),
    "batch_bytes": (2**20, 3_000),
    "max_in_flight": (2_000, 20, 5),
    "linger_ms": (0, 25, 250),
    "flush_interval": (0.0, 0.0, 1.0),
    **reconciliation.CHOICES,
}
"""The values of each parameter of a scenario, the simplest first."""

_SETTINGS = ("batch_rows", "batch_bytes", "max_in_flight", "linger_ms", "flush_interval")


class Instance:
    """An instance of `ingest`.

    Args:
        world: The world.
        chosen: The settings of the deployment.
        machine: Its machine.

    Attributes:
        machine: Its machine.
        settings: The settings of the deployment.
        commit: Its group commit.
        was_frozen: Whether its answers may be late.
        open_requests: Number of requests without an answer.
    """

    def __init__(self, world: World, chosen: Settings, machine: Machine) -> None:
        self.machine = machine
        self.settings = chosen
        self._world = world
        archive = Archive(world.storage_api(machine), chosen.archive_bucket, TABLES)
        warehouse = Warehouse(world.bigquery_api(machine), "project", chosen.dataset)
        services = FlushServices(process, archive, warehouse, Threads(machine.system.pool), machine.system)
        self.commit = GroupCommit(services, chosen)
        self._app = IngestApp(self.commit, "project", "simulated")
        self.was_frozen = False
        self.open_requests = 0

    def push(self, message: Message, attempt: int, answered: Callable[[int], None]) -> None:
        """Send a message to the instance; its answer may be lost."""
        world, started = self._world, self._world.time.now
        body = msgspec.json.encode(
            {
                "message": {
                    "data": base64.b64encode(message.data).decode(),
                    "attributes": message.attributes,
                    "messageId": message.message_id,
                    "publishTime": message.publish_time,
                },
                "deliveryAttempt": attempt,
                "subscription": "projects/project/subscriptions/ingest",
            }
        )

        async def receive() -> AsgiMessage:
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer() -> None:
            self.open_requests += 1
            headers = [(b"content-length", str(len(body)).encode())]
            response = await self._app(Request({"type": "http", "method": "POST", "headers": headers}, receive))
            self.open_requests -= 1
            world.history.add(self.machine.name, f"answers {message.event_id}: {response.status_code}")
            if response.status_code == 204:
                world.check_acknowledged(message)
            elif response.status_code == 500:
                world.history.violated(f"{message.event_id} failed: {bytes(response.body)!r}")
            waited = world.time.now - started
            if not self.was_frozen and waited > 2 * self.settings.flush_timeout + 0.5:
                world.history.violated(f"{message.event_id} waited {waited:.1f} s for its answer")
            world.services.call_later(world.network.latency(), answered, response.status_code)

        self.machine.loop.call_soon(lambda: self.machine.loop.create_task(answer()))

    def check_idle(self) -> None:
        """Check that nothing is counted as in flight once nothing is."""
        admission, scheduler = self.commit.admission, self.commit._scheduler
        counts = admission.events, admission.size, admission.reading, scheduler.running, scheduler.archiving
        if any(counts) or self.commit._queue or self.open_requests:
            self._world.history.violated(
                f"{self.machine.name} is idle, counts {counts} as in flight, and owes {self.open_requests} answers"
            )


class PushScenario:
    """Publishes events, breaks what can break for a while, and waits until all events are acknowledged.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        rng, plan = world.rng, world.plan
        self._settings = settings(**{name: plan[name] for name in _SETTINGS})
        self._instances: list[Instance] = []
        self._attempts: dict[str, int] = {}
        self._undeliverable = DeadLetterSubscription(world)
        self._subscription = PushSubscription(
            rng,
            world.services,
            self._push,
            ACK_DEADLINE,
            plan["repeat_share"],
            plan["max_attempts"],
            self._undeliverable.publish,
        )

    def run(self) -> None:
        """Run it, and check everything."""
        world, rng, plan = self.world, self.world.rng, self.world.plan
        world.break_services()
        for _ in range(plan["instances"]):
            self._start()
        for _ in range(plan["events"]):
            world.services.call_later(rng.random() * plan["seconds"], world.publish, self._subscription.publish)
        for _ in range(plan["reconciliations"]):
            world.services.call_later(rng.random() * FAULTS_UNTIL, reconciliation.reconcile_meanwhile, world)
        for _ in range(plan["kills"]):
            world.services.call_later(rng.random() * FAULTS_UNTIL, self._kill)
        for _ in range(plan["freezes"]):
            world.services.call_later(rng.random() * FAULTS_UNTIL, self._freeze)
        world.services.call_later(rng.random() * FAULTS_UNTIL, self._slow_down, plan["slowness"])
        world.services.call_later(rng.random() * FAULTS_UNTIL, world.bigquery.missing.clear)
        world.services.call_later(FAULTS_UNTIL, world.calm_down)
        try:
            world.time.run(self._is_over, ALL_UNTIL)
            world.time.run_until(ALL_UNTIL)
            self._undeliverable.replay()
        except Stuck as stuck:
            world.history.violated(f"{sorted(self._subscription.unacknowledged)} are not acknowledged: {stuck}")
        else:
            world.check_end()
            for instance in self._instances:
                if not instance.machine.is_dead:
                    instance.check_idle()
            reconciliation.check_reconciliation(world)

    def _is_over(self) -> bool:
        return bool(self.world.history.violations) or (
            self.world.time.now >= FAULTS_UNTIL and not self._subscription.unacknowledged
        )

    def _start(self) -> None:
        self._instances.append(Instance(self.world, self._settings, self.world.machine("ingest")))

    def _push(self, message: Message, answered: Callable[[int], None]) -> bool:
        living = [instance for instance in self._instances if not instance.machine.is_dead]
        if not living:
            return False
        attempt = self._attempts[message.event_id] = self._attempts.get(message.event_id, 0) + 1
        instance = self.world.rng.choice(living)
        self.world.services.call_later(self.world.network.latency(), instance.push, message, attempt, answered)
        return True

    def _kill(self) -> None:
        living = [instance for instance in self._instances if not instance.machine.is_dead]
        if living:
            machine = self.world.rng.choice(living).machine
            self.world.history.add(machine.name, "is killed")
            machine.kill()
            self.world.services.call_later(self.world.rng.random() * 3, self._start)

    def _freeze(self) -> None:
        instance = self.world.rng.choice(self._instances)
        instance.was_frozen = True
        seconds = self.world.rng.random() * 10
        self.world.history.add(instance.machine.name, f"is frozen for {seconds:.1f} s")
        instance.machine.loop.freeze(seconds)

    def _slow_down(self, factor: float) -> None:
        self.world.history.add("network", f"is {factor:g} times slower")
        self.world.network.slowness = factor


def run_push(world: World) -> None:
    """Run a scenario of `ingest`."""
    with reconciliation.limited(world):
        PushScenario(world).run()
