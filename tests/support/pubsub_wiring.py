"""A Pub/Sub emulator in a process of its own, and a topic with its subscriptions on it."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from google.pubsub_v1 import types

from sluice.local import pubsub
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]

HOW_TO_GET = (
    "Google's Pub/Sub emulator is missing: it needs Java and the Google Cloud SDK with "
    "`gcloud components install pubsub-emulator` (Debian: apt install google-cloud-cli-pubsub-emulator)"
)


_projects = count(1)


@contextmanager
def emulator_process(port: int, *, stand_in: bool) -> Iterator[None]:
    command = pubsub.command(port, stand_in=stand_in)
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)


class Wiring:
    """One test's own project on an emulator, with clients."""

    def __init__(self, emulator: str) -> None:
        self.emulator = emulator
        self.project = f"test-{next(_projects)}"
        self.subscription = f"projects/{self.project}/subscriptions/events-push"
        self.dead_letters = f"projects/{self.project}/subscriptions/dead-pull"

    async def create(self, *, attempts: int = 5, minimum_backoff: float = 0.1) -> None:
        await pubsub.create_wiring(
            self.emulator,
            self.project,
            topic="events",
            subscription="events-push",
            dead_letter_topic="dead",
            dead_letter_subscription="dead-pull",
            max_delivery_attempts=attempts,
            minimum_backoff=minimum_backoff,
            maximum_backoff=minimum_backoff,
        )

    async def publish(self, *messages: types.PubsubMessage) -> list[str]:
        async with pubsub.open_channel(self.emulator) as channel:
            client = pubsub.publisher_client(channel)
            response = await client.publish(topic=f"projects/{self.project}/topics/events", messages=list(messages))
            return list(response.message_ids)

    async def pull(self, subscription: str, *, patience: float = 0.1) -> list[types.ReceivedMessage]:
        async with pubsub.open_channel(self.emulator) as channel:
            client = pubsub.subscriber_client(channel)
            timeout = patience + 1  # an emulator answers an empty pull one second before the deadline
            response = await client.pull(subscription=subscription, max_messages=100, retry=None, timeout=timeout)
            return list(response.received_messages)
