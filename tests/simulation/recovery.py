"""Scenarios of overload: services with little capacity to spare fail for a while, and the load goes on.

A system is metastable if it stays overloaded by its own retries when the cause is gone. So the goodput must become
again what it was before: the offered load, or what the services are able to take.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fake_google.service_queue import Capacity, Disturbance, ServiceQueue
from functions.core.message import Message
from tests.simulation.pubsub import PushSubscription
from tests.simulation.push import Instance
from tests.simulation.world import TABLES, World, settings

ACK_DEADLINE = 40.0

STEADY = 15.0
"""Seconds before the disturbance."""

RECOVERED_AFTER = 40.0
"""Seconds from the end of the disturbance after which goodput is as before."""

WATCHED = 20.0
"""Seconds of this goodput."""

TOLERANCE = 0.8
"""Share of the goodput before; a few events more or less are by chance."""

CHOICES: Mapping[str, Sequence[Any]] = {
    "bad_events": (False, True),
    "sent_again_share": (0.0,),
    "skew": (False,),
    "instances": (1, 2, 3),
    "offered": (6.0, 10.0),
    "spare": (10.0, 3.0, 1.6, 1.25),
    "max_in_flight": (10, 40),
    "flush_timeout": (15.0, 6.0),
    "share_of_requests": (0.1, 0.5, 0.9),
    "limited": ("bigquery", "storage", "both"),
    "disturbance": ("stalled", "slow", "failing"),
    "seconds": (5.0, 15.0, 30.0),
    "fault_share": (0.0, 0.02),
    "batch_rows": (500, 10),
}
"""The values of each parameter of a scenario, the simplest first."""


class RecoveryScenario:
    """Offers a load, disturbs the services, and measures the goodput afterwards.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        plan = world.plan
        self._concurrency = plan["max_in_flight"] // plan["instances"]
        self._settings = settings(
            flush_timeout=plan["flush_timeout"], batch_rows=plan["batch_rows"], max_in_flight=self._concurrency
        )
        self._instances = [Instance(world, self._settings, world.machine("ingest")) for _ in range(plan["instances"])]
        self._subscription = PushSubscription(world.rng, world.services, self._push, ACK_DEADLINE, 0.0)
        self._attempts: dict[str, int] = {}
        services = ("bigquery", "storage") if plan["limited"] == "both" else (plan["limited"],)
        self._queues = [ServiceQueue(self._capacity(name), self._later, lambda: world.time.now) for name in services]
        world.network.queues = dict(zip(services, self._queues, strict=True))

    def run(self) -> None:
        """Run it, and check the goodput."""
        world, plan = self.world, self.world.plan
        end = STEADY + plan["seconds"] + RECOVERED_AFTER + WATCHED
        for number in range(int(end * plan["offered"])):
            world.services.call_later(number / plan["offered"], lambda: self._subscription.publish(world.new_message()))
        world.network.fault_share = plan["fault_share"]
        world.services.call_later(STEADY, self._disturb)
        world.services.call_later(STEADY + plan["seconds"], self._calm_down)
        steady = min(self._goodput(STEADY / 2, STEADY), plan["offered"])
        goodput, backlog = self._goodput(end - WATCHED, end), len(self._subscription.unacknowledged)
        world.history.add(
            "pubsub", f"goodput {goodput:.1f} events/s of {plan['offered']:g}, before it was {steady:.1f}"
        )
        # What was published within the time of a flush may be on its way.
        if goodput < TOLERANCE * steady and backlog > plan["offered"] * plan["flush_timeout"]:
            world.history.violated(f"goodput is {goodput:.1f} events/s; before it was {steady:.1f}; {backlog} wait")

    def _goodput(self, start: float, end: float) -> float:
        """Let time pass until its end; return the events per second that are acknowledged in it."""
        self.world.time.run_until(start)
        before = len(self.world.acknowledged)
        self.world.time.run_until(end)
        return (len(self.world.acknowledged) - before) / (end - start)

    def _capacity(self, service: str) -> Capacity:
        """Return a capacity for the offered load and what is to spare, in batches of all that is in flight."""
        plan = self.world.plan
        requests = (len(TABLES) if service == "bigquery" else 1) * plan["instances"]
        # A flush of the other half of what is in flight is archived while this one is inserted.
        batch = plan["max_in_flight"] / (1 if plan["limited"] == "bigquery" else 2)
        seconds = batch / (plan["spare"] * plan["offered"])
        share = plan["share_of_requests"] if service == "bigquery" else 1.0  # uploads are compressed
        return Capacity(
            request_seconds=share * seconds / requests, row_seconds=(1 - share) * seconds / batch, servers=1
        )

    def _later(self, seconds: float, call: Callable[[], None]) -> object:
        return self.world.services.call_later(seconds, call)

    def _push(self, message: Message, answered: Callable[[int], None]) -> bool:
        free = [instance for instance in self._instances if instance.open_requests < self._concurrency]
        if not free:
            return False
        attempt = self._attempts[message.event_id] = self._attempts.get(message.event_id, 0) + 1
        self.world.rng.choice(free).push(message, attempt, answered)
        return True

    def _disturb(self) -> None:
        kind = self.world.plan["disturbance"]
        self.world.history.add("network", f"services are {kind}")
        if kind in {"stalled", "slow"}:
            disturbance = Disturbance(is_stalled=kind == "stalled", slowdown=4.0)
            for queue in self._queues:
                queue.disturb(disturbance)
        else:
            self.world.network.fault_share = 0.95

    def _calm_down(self) -> None:
        self.world.history.add("network", "is as before")
        self.world.network.fault_share = self.world.plan["fault_share"]
        for queue in self._queues:
            queue.disturb(Disturbance())


def run_recovery(world: World) -> None:
    """Run a scenario of overload."""
    RecoveryScenario(world).run()
