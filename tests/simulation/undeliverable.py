"""The dead letters of Pub/Sub in virtual time: messages that it gave up, and their replay by `sluice replay`."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from functions.archive.writer import Archive
from functions.core.message import Message
from functions.system import Event
from sluice.backfill.run import FAILURES, Backfill
from sluice.replay import undeliverable
from sluice.replay.undeliverable import PUBLISHED, Undeliverable
from tests.simulation import clients
from tests.simulation.machine import Machine, current_machine
from tests.simulation.pubsub import PullSubscription
from tests.simulation.reconciliation import event_reader, load_jobs_of
from tests.simulation.world import TABLES, World

_SECONDS = 3_600.0
"""Maximum seconds of all attempts of a replay."""

_SECONDS_OF_FAULTS = 60.0
"""Seconds after which nothing fails any more."""


class _Thread:
    """A thread of the machine that runs it."""

    def __init__(self, target: Callable[[], None], **_: object) -> None:
        self._target = target

    def start(self) -> None:
        self._thread = current_machine().start(self._target)

    def join(self) -> None:
        self._thread.join(_SECONDS)


@contextmanager
def replay_in_virtual_time() -> Iterator[None]:
    """Let the replay wait by the clock of the machine that it runs on."""

    def event() -> Event:
        return current_machine().system.event()

    def monotonic() -> float:
        return current_machine().system.monotonic()

    def sleep(seconds: float) -> None:
        current_machine().sleep(seconds)

    threads = SimpleNamespace(Lock=threading.Lock, Event=event, Thread=_Thread)
    clock = SimpleNamespace(monotonic=monotonic, sleep=sleep)
    with mock.patch.multiple(undeliverable, threading=threads, time=clock):
        yield


class DeadLetterSubscription:
    """The subscription of messages that Pub/Sub does not deliver any more.

    Args:
        world: The world.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._subscription = PullSubscription(world.rng, lambda: world.time.now, world.check_acknowledged)

    def publish(self, message: Message) -> None:
        """Take a message that Pub/Sub gives up, which gets another id."""
        self._world.history.add("pubsub", f"{message.event_id} is undeliverable")
        attributes = message.attributes | {PUBLISHED: message.publish_time.isoformat()}
        self._subscription.publish(
            Message(message.data, attributes, f"{message.message_id}-dead", message.publish_time)
        )

    def replay(self) -> None:
        """Run replays, which meet faults for a while, until all messages are acknowledged; let time pass meanwhile."""
        world, messages = self._world, self._subscription.messages.values()
        running: list[Machine] = []

        def is_over() -> bool:
            if world.history.violations or all(each.is_acknowledged for each in messages):
                return not running
            if not running:
                machine = world.machine("replay")
                running.append(machine)
                machine.start(lambda: attempt(machine))
            return False

        def attempt(machine: Machine) -> None:
            try:
                self._replay(machine)
            except (*FAILURES, OSError) as error:
                world.history.add(machine.name, f"stops: {error!r}"[:160])
            running.remove(machine)

        if messages:
            world.network.fault_share = world.plan["fault_share"]
            world.services.call_later(_SECONDS_OF_FAULTS, world.calm_down)
        world.time.run(is_over, world.time.now + _SECONDS)
        if messages:
            world.calm_down()

    def _replay(self, machine: Machine) -> None:
        world = self._world
        client = clients.subscriber_client(world.network, self._subscription)
        with mock.patch.object(undeliverable, "SubscriberClient", return_value=client):
            leases = Undeliverable("projects/project/subscriptions/undeliverable")
        archive = Archive(world.storage_api(machine), "archive", TABLES)
        with leases:
            report = Backfill(event_reader(machine), load_jobs_of(world), archive, leases)([leases])
        world.history.add(machine.name, f"has replayed: {report}")
