"""The local stack: the functions, the emulators, and the delivery between them."""

import asyncio
import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Self

import httpx

from functions.settings import Settings
from ops.stack import pubsub
from ops.stack.functions import Function, serving
from ops.stack.process import Child, NotStarted, free_port, running

PROJECT = "sluice-local"
BUCKET = "sluice-archive"

TOPIC = "events"
SUBSCRIPTION = "events-ingest"
DEAD_LETTER_TOPIC = "events-undeliverable"
DEAD_LETTER_SUBSCRIPTION = "events-undeliverable"

ACK_DEADLINE_SECONDS = 60
"""Above the twice `flush_timeout` within which the function answers."""

CONCURRENCY = 80
"""Requests that Cloud Run sends to an instance at once, unless told otherwise
(https://cloud.google.com/run/docs/about-concurrency)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """A running stack.

    Attributes:
        folder: Logs and data.
        environment: What the Google Cloud clients need to find the emulators.
        settings: The functions' settings.
        ingest: The ingest function.
        bootstrap: The bootstrap function.
        children: All processes by name.
    """

    folder: pathlib.Path
    environment: Mapping[str, str]
    settings: Settings
    ingest: Function
    bootstrap: Function
    children: Mapping[str, Child]

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return f"projects/{PROJECT}/topics/{TOPIC}"


@dataclasses.dataclass(frozen=True, slots=True)
class Emulators:
    """The running emulators.

    Attributes:
        bigquery: URL.
        storage: URL.
        pubsub: HOST:PORT.
        children: Their processes by name.
    """

    bigquery: str
    storage: str
    pubsub: str
    children: Mapping[str, Child]

    @property
    def environment(self) -> dict[str, str]:
        """What the Google Cloud clients need to find the emulators."""
        return {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "BIGQUERY_EMULATOR_HOST": self.bigquery,
            "STORAGE_EMULATOR_HOST": self.storage,
            "PUBSUB_EMULATOR_HOST": self.pubsub,
        }

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: pathlib.Path, *, stand_in: bool = False) -> Iterator[Self]:
        """Run the three emulators, with the bucket and the topics in them.

        Args:
            folder: Logs and data.
            stand_in: Deliver by our own stand-in for Pub/Sub even where Google's emulator is installed.
        """
        bigquery_port, grpc_port, storage_port, pubsub_port = (free_port() for _ in range(4))
        storage_data = folder / "storage"
        bigquery_command = [sys.executable, "-m", "ops.stack.bigquery_server", "--port", str(bigquery_port)]
        bigquery_command += ["--grpc-port", str(grpc_port), "--project", PROJECT]
        bigquery_command += ["--data-dir", str(folder / "bigquery")]
        storage_command = [sys.executable, "-m", "gcp_storage_emulator", "--data-dir", str(storage_data), "start"]
        storage_command += ["--host", "127.0.0.1", "--port", str(storage_port), "--default-bucket", BUCKET, "--quiet"]
        pubsub_command = pubsub.command(pubsub_port, stand_in=stand_in)
        local_root = {"GCS_LOCAL_ROOT": str(storage_data / ".cloudstorage")}
        with (
            running("bigquery", bigquery_command, folder, local_root) as bigquery,
            running("storage", storage_command, folder) as storage,
            running("pubsub", pubsub_command, folder) as broker,
        ):
            children = {"bigquery": bigquery, "storage": storage, "pubsub": broker}
            bigquery_url = f"http://127.0.0.1:{bigquery_port}"
            storage_url = f"http://127.0.0.1:{storage_port}"
            emulators = cls(bigquery_url, storage_url, f"127.0.0.1:{pubsub_port}", children)
            bigquery.wait_until(lambda: httpx.get(f"{bigquery_url}/bigquery/v2/projects/{PROJECT}/datasets").is_success)
            storage.wait_until(lambda: httpx.get(f"{storage_url}/storage/v1/b/{BUCKET}").is_success)
            asyncio.run(_wire(emulators.pubsub))
            yield emulators


async def _wire(pubsub_host: str) -> None:
    await pubsub.wait_until_ready(pubsub_host, timeout=60)
    await pubsub.create_wiring(
        pubsub_host,
        PROJECT,
        topic=TOPIC,
        subscription=SUBSCRIPTION,
        dead_letter_topic=DEAD_LETTER_TOPIC,
        dead_letter_subscription=DEAD_LETTER_SUBSCRIPTION,
        ack_deadline_seconds=ACK_DEADLINE_SECONDS,
        max_delivery_attempts=100,
        minimum_backoff=1,
        maximum_backoff=600,
    )


def bootstrap(function: Function) -> None:
    """Call the bootstrap function.

    Raises:
        NotStarted: It could not make all objects.
    """
    answer = httpx.post(function.url, timeout=60)
    if answer.is_error:
        raise NotStarted(f"bootstrap answered {answer.status_code}: {answer.text}")


@contextlib.contextmanager
def relaying(emulators: Emulators, ingest: Function, folder: pathlib.Path) -> Iterator[Child]:
    """Deliver the subscription's messages to the function while the context lasts."""
    command = [sys.executable, "-m", "ops.stack.relay", "--emulator", emulators.pubsub]
    command += ["--subscription", f"projects/{PROJECT}/subscriptions/{SUBSCRIPTION}", "--endpoint", ingest.url]
    command += ["--concurrency", str(CONCURRENCY), "--ack-deadline", str(ACK_DEADLINE_SECONDS)]
    with running("relay", command, folder) as relay:
        relay.wait_until(lambda: bool(relay.tail()))
        yield relay


@contextlib.contextmanager
def local_stack(
    folder: pathlib.Path, settings: Mapping[str, str] | None = None, *, stand_in: bool = False
) -> Iterator[Stack]:
    """Run everything, bootstrapped and delivering, while the context lasts.

    Args:
        folder: Logs and data; kept at the end.
        settings: Settings of the functions, as environment variables, where they differ from the defaults.
        stand_in: As for `Emulators.running`.

    Raises:
        NotStarted: A process did not start; tells which, with the end of its log.
    """
    with Emulators.running(folder, stand_in=stand_in) as emulators:
        environment = {**emulators.environment, "ARCHIVE_BUCKET": BUCKET, **(settings or {})}
        with (
            serving("ingest", folder, environment) as ingest,
            serving("bootstrap", folder, environment) as bootstrap_function,
        ):
            bootstrap(bootstrap_function)
            with relaying(emulators, ingest, folder) as relay:
                children = {
                    **emulators.children,
                    "ingest": ingest.child,
                    "bootstrap": bootstrap_function.child,
                    "relay": relay,
                }
                yield Stack(
                    folder,
                    emulators.environment,
                    Settings.from_environment(environment),
                    ingest,
                    bootstrap_function,
                    children,
                )
