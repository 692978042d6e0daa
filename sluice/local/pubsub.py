"""Pub/Sub for the local stack: which emulator to start, when it is ready, and production's topics in it.

Google's emulator when the Cloud SDK and Java are there, otherwise `sluice.local.pubsub_emulator.server`, which does all
but push, filters, ordering and StreamingPull. To end either, send SIGTERM to the process that `command` started: the
script of Google's emulator replaces itself by java (`exec`), so there is no child to look for, and it exits with 143.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import grpc
from google.api_core import exceptions
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient, types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

RETENTION = timedelta(days=7)


def google_emulator() -> Path | None:
    """Find the start script of Google's Pub/Sub emulator.

    Looks in the Cloud SDK of `CLOUDSDK_ROOT_DIR`, else of the `gcloud` on PATH; asks gcloud itself (about a second)
    only when its place does not say.

    Returns:
        The script, or None when the SDK, its `pubsub-emulator` component or Java is missing.
    """
    java = Path(os.environ["JAVA_HOME"], "bin", "java") if os.environ.get("JAVA_HOME") else shutil.which("java")
    root = _sdk_root()
    if root is None or java is None or not os.access(java, os.X_OK):
        return None
    script = root / "platform" / "pubsub-emulator" / "bin" / "cloud-pubsub-emulator"
    return script if script.is_file() else None


def command(port: int, *, stand_in: bool = False) -> list[str]:
    """Return the command line of an emulator on 127.0.0.1.

    Args:
        port: A free TCP port.
        stand_in: Take `sluice.local.pubsub_emulator.server` even where Google's emulator is installed.

    Returns:
        Google's emulator if found, otherwise the stand-in. The stand-in is a module of this project: start it with
        the project's root as working directory, or with the project installed.
    """
    script = None if stand_in else google_emulator()
    if script is None:
        return [sys.executable, "-m", "sluice.local.pubsub_emulator.server", f"--port={port}"]
    return [str(script), "--host=127.0.0.1", f"--port={port}"]


def open_channel(emulator: str) -> grpc.aio.Channel:
    """Return a channel to `host:port` that takes messages of any size and is back soon after the emulator is."""
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # It is the time that an attempt to connect may take.
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.enable_http_proxy", 0),
    ]
    return grpc.aio.insecure_channel(emulator, options)


def publisher_client(channel: grpc.aio.Channel) -> PublisherAsyncClient:
    """Return the real asynchronous publisher client on an emulator's channel."""
    return PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))


def subscriber_client(channel: grpc.aio.Channel) -> SubscriberAsyncClient:
    """Return the real asynchronous subscriber client on an emulator's channel."""
    return SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))


async def wait_until_ready(emulator: str, timeout: float) -> None:  # noqa: ASYNC109 -- for all tries together
    """Return once the emulator at `host:port` answers ListTopics; an open port proves nothing.

    Args:
        emulator: `host:port`.
        timeout: Seconds to wait at most.

    Raises:
        TimeoutError: It did not answer in that time; its cause is the last error.
    """
    end = time.monotonic() + timeout
    async with open_channel(emulator) as channel:
        client = publisher_client(channel)
        while True:
            try:
                await client.list_topics(project="projects/ready", retry=None, timeout=1.0)
            except (exceptions.ServiceUnavailable, exceptions.DeadlineExceeded) as error:
                if time.monotonic() >= end:
                    raise TimeoutError(f"no Pub/Sub emulator at {emulator} after {timeout} s") from error
                await asyncio.sleep(0.05)
            else:
                return


async def create_wiring(  # noqa: PLR0913 -- one keyword per setting
    emulator: str,
    project: str,
    *,
    topic: str,
    subscription: str,
    dead_letter_topic: str,
    dead_letter_subscription: str,
    ack_deadline_seconds: int = 60,
    max_delivery_attempts: int = 5,
    minimum_backoff: float,
    maximum_backoff: float,
) -> None:
    """Create production's topics and subscriptions; what already exists stays.

    The subscription is a pull one, for `sluice.local.push_relay` to push from; the rest is as in `terraform/`.

    Args:
        emulator: `host:port`.
        project: Project id.
        topic: Id of the topic that producers publish to; it retains messages for 7 days.
        subscription: Id of its subscription, with retry policy and dead-letter policy.
        dead_letter_topic: Id of the topic for what could not be delivered.
        dead_letter_subscription: Id of the pull subscription that keeps it.
        ack_deadline_seconds: 10 to 600.
        max_delivery_attempts: 5 to 100.
        minimum_backoff: Seconds until the second delivery.
        maximum_backoff: Seconds between deliveries at most.

    Raises:
        ValueError: The subscription exists with other settings; a restarted emulator is empty.
        google.api_core.exceptions.GoogleAPICallError: The emulator rejects the call, or cannot be reached.
    """
    topics, subscriptions = f"projects/{project}/topics", f"projects/{project}/subscriptions"
    wanted = types.Subscription(
        name=f"{subscriptions}/{subscription}",
        topic=f"{topics}/{topic}",
        ack_deadline_seconds=ack_deadline_seconds,
        message_retention_duration=RETENTION,
        retry_policy=types.RetryPolicy(
            minimum_backoff=timedelta(seconds=minimum_backoff), maximum_backoff=timedelta(seconds=maximum_backoff)
        ),
        dead_letter_policy=types.DeadLetterPolicy(
            dead_letter_topic=f"{topics}/{dead_letter_topic}", max_delivery_attempts=max_delivery_attempts
        ),
    )
    keeper = types.Subscription(
        name=f"{subscriptions}/{dead_letter_subscription}",
        topic=f"{topics}/{dead_letter_topic}",
        ack_deadline_seconds=ack_deadline_seconds,
        message_retention_duration=RETENTION,
    )
    async with open_channel(emulator) as channel:
        publisher, subscriber = publisher_client(channel), subscriber_client(channel)
        for name in (dead_letter_topic, topic):
            with contextlib.suppress(exceptions.AlreadyExists):
                await publisher.create_topic(types.Topic(name=f"{topics}/{name}", message_retention_duration=RETENTION))
        for resource in (keeper, wanted):
            await _create_subscription(subscriber, resource)


async def _create_subscription(client: SubscriberAsyncClient, wanted: types.Subscription) -> None:
    try:
        await client.create_subscription(wanted)
    except exceptions.AlreadyExists:
        existing = await client.get_subscription(subscription=wanted.name)
        for field in ("topic", "ack_deadline_seconds", "retry_policy", "dead_letter_policy"):
            there, here = getattr(existing, field), getattr(wanted, field)
            if there != here:
                raise ValueError(f"{wanted.name} exists with {field} {there!r}, not {here!r}") from None


def _sdk_root() -> Path | None:
    if named := os.environ.get("CLOUDSDK_ROOT_DIR"):
        return Path(named)
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    root = Path(gcloud).resolve().parent.parent
    if (root / "lib" / "googlecloudsdk").is_dir():
        return root
    asked = subprocess.run(  # noqa: S603 -- gcloud from PATH, fixed arguments
        [gcloud, "info", "--format=value(installation.sdk_root)"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Path(asked.stdout.strip()) if asked.returncode == 0 and asked.stdout.strip() else None
