"""The local stack: the functions, the emulators, and the delivery between them."""

import asyncio
import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Self

import httpx

from functions.settings import Settings
from sluice.local import pubsub
from sluice.local.functions import Function, serving
from sluice.local.names import PROJECT, topic_name, undeliverable_name
from sluice.local.process import START_SECONDS, Child, NotStarted, free_port, is_free, loopback, running

ACK_DEADLINE_SECONDS = 60
"""Ack deadline of the subscriptions, in seconds: longer than the function takes to answer, twice `flush_timeout`."""

CONCURRENCY = 80
"""Maximum concurrent requests that Cloud Run sends to an instance, by default
(https://cloud.google.com/run/docs/about-concurrency)."""


class Ports(NamedTuple):
    """Ports of a stack on the loopback interface."""

    ingest: int
    bootstrap: int
    bigquery: int
    bigquery_storage: int
    storage: int
    pubsub: int
    console: int

    @classmethod
    def free(cls) -> Self:
        """Return ports that nothing listens on."""
        return cls(*(free_port() for _ in cls._fields))

    @classmethod
    def from_first(cls, first: int) -> Self:
        """Return the ports from the first one on, and another free one for each that is taken."""
        wanted = range(first, first + len(cls._fields))
        others = (port for port in iter(free_port, None) if port not in wanted)
        return cls(*(port if is_free(port) else next(others) for port in wanted))


@dataclasses.dataclass(frozen=True, slots=True)
class Emulators:
    """The running emulators.

    Attributes:
        bigquery: URL.
        bigquery_storage: HOST:PORT of the Storage Write API, which speaks gRPC.
        storage: URL.
        pubsub: HOST:PORT.
        children: Their processes.
    """

    bigquery: str
    bigquery_storage: str
    storage: str
    pubsub: str
    children: Sequence[Child]

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the Google Cloud clients find the emulators."""
        return {
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "BIGQUERY_EMULATOR_HOST": self.bigquery,
            "BIGQUERY_STORAGE_EMULATOR_HOST": self.bigquery_storage,
            "STORAGE_EMULATOR_HOST": self.storage,
            "PUBSUB_EMULATOR_HOST": self.pubsub,
        }

    def wait_until_ready(self) -> None:
        """Wait until all of them answer.

        Raises:
            NotStarted: A process did not start; says which, with the end of its log.
        """
        tables, objects, _ = self.children
        tables.wait_until(lambda: loopback().get(f"{self.bigquery}/bigquery/v2/projects/{PROJECT}/datasets").is_success)
        objects.wait_until(lambda: loopback().get(f"{self.storage}/storage/v1/b?project={PROJECT}").is_success)
        asyncio.run(pubsub.wait_until_ready(self.pubsub, timeout=START_SECONDS))


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """The functions between a topic and a dataset of their own.

    Attributes:
        environment: Variables by which the Google Cloud clients find the emulators, and commands the archive.
        settings: The functions' settings.
        topic: Full name of the topic that is delivered to `ingest`.
        undeliverable: Full name of the subscription that keeps what could not be delivered.
        ingest: The ingest function.
        bootstrap: The bootstrap function.
        children: All processes.
    """

    environment: Mapping[str, str]
    settings: Settings
    topic: str
    undeliverable: str
    ingest: Function
    bootstrap: Function
    children: Sequence[Child]


@contextlib.contextmanager
def emulators(folder: pathlib.Path, *, stand_in: bool = False) -> Iterator[Emulators]:
    """Run the three emulators on free ports while the context lasts.

    Args:
        folder: Logs and data. BigQuery and Cloud Storage have the data of an earlier run with this folder.
        stand_in: Deliver by our own stand-in for Pub/Sub even where Google's emulator is installed.

    Raises:
        NotStarted: A process did not start; says which, with the end of its log.
    """
    with starting_emulators(folder, Ports.free(), stand_in=stand_in) as started:
        started.wait_until_ready()
        yield started


@contextlib.contextmanager
def starting_emulators(folder: pathlib.Path, ports: Ports, *, stand_in: bool = False) -> Iterator[Emulators]:
    """Start the three emulators, and end them with the context.

    Args:
        folder: Logs and data. BigQuery and Cloud Storage have the data of an earlier run with this folder.
        ports: Where they listen.
        stand_in: Deliver by our own stand-in for Pub/Sub even where Google's emulator is installed.
    """
    _, _, bigquery_port, grpc_port, storage_port, pubsub_port, _ = ports
    storage_data = folder / "storage"
    bigquery_command = [sys.executable, "-m", "sluice.local.bigquery_server", "--port", str(bigquery_port)]
    bigquery_command += ["--grpc-port", str(grpc_port), "--project", PROJECT]
    bigquery_command += ["--data-dir", str(folder / "bigquery")]
    storage_command = [sys.executable, "-m", "sluice.local.storage_server", "--data-dir", str(storage_data)]
    storage_command += ["start", "--host", "127.0.0.1", "--port", str(storage_port), "--quiet"]
    pubsub_command = pubsub.command(pubsub_port, stand_in=stand_in)
    local_root = {"GCS_LOCAL_ROOT": str(storage_data / ".cloudstorage")}
    with (
        running("bigquery", bigquery_command, folder, local_root) as tables,
        running("storage", storage_command, folder) as objects,
        running("pubsub", pubsub_command, folder) as broker,
    ):
        started = Emulators(
            bigquery=f"http://127.0.0.1:{bigquery_port}",
            bigquery_storage=f"127.0.0.1:{grpc_port}",
            storage=f"http://127.0.0.1:{storage_port}",
            pubsub=f"127.0.0.1:{pubsub_port}",
            children=[tables, objects, broker],
        )
        yield started


@contextlib.contextmanager
def deployed(
    on: Emulators, folder: pathlib.Path, settings: Mapping[str, str] | None = None, name: str = "events"
) -> Iterator[Stack]:
    """Run the functions on the emulators, bootstrapped and with messages delivered, while the context lasts.

    Args:
        on: The emulators.
        folder: Logs.
        settings: Settings of the functions, as environment variables, where they differ from the defaults.
        name: Name of topic and logs; with another name and another DATASET, stacks share emulators.

    Raises:
        NotStarted: A process did not start, or the bootstrap failed.
    """
    environment = {**on.environment, **create_resources(on, name), **(settings or {})}
    with (
        serving("ingest", folder, environment, f"{name}-function-ingest") as ingest,
        serving("bootstrap", folder, environment, f"{name}-function-bootstrap") as bootstrap,
    ):
        answer = loopback().post(bootstrap.url, timeout=START_SECONDS)
        if answer.is_error:
            raise NotStarted(f"bootstrap answered {answer.status_code}: {answer.text}")
        with delivering(on, f"{name}-ingest", ingest.url, folder, f"{name}-relay") as relay:
            yield Stack(
                environment,
                Settings.from_environment(environment),
                topic_name(name),
                undeliverable_name(name),
                ingest,
                bootstrap,
                [*on.children, ingest.child, bootstrap.child, relay],
            )


def create_resources(
    on: Emulators, name: str, backoff: tuple[float, float] = (1, 600), ack_deadline: int = ACK_DEADLINE_SECONDS
) -> dict[str, str]:
    """Create what Terraform does in production: bucket, topics and subscriptions. What exists stays.

    Args:
        on: The emulators.
        name: Name of the topic; the others derive from it.
        backoff: Minimum and maximum seconds before a redelivery.
        ack_deadline: Ack deadline of the subscription, in seconds.

    Returns:
        The settings of the functions that name them: `resource_settings`.
    """
    settings = resource_settings(name)
    bucket = settings["ARCHIVE_BUCKET"]
    created = loopback().post(f"{on.storage}/storage/v1/b?project={PROJECT}", json={"name": bucket})
    if created.status_code != httpx.codes.CONFLICT:
        created.raise_for_status()
    asyncio.run(
        pubsub.create_wiring(
            on.pubsub,
            PROJECT,
            topic=name,
            subscription=f"{name}-ingest",
            dead_letter_topic=f"{name}-undeliverable",
            dead_letter_subscription=f"{name}-undeliverable",
            ack_deadline_seconds=ack_deadline,
            max_delivery_attempts=100,
            minimum_backoff=backoff[0],
            maximum_backoff=backoff[1],
        )
    )
    return settings


def resource_settings(name: str) -> dict[str, str]:
    """Return the functions' settings that name the resources of a topic."""
    return {
        "ARCHIVE_BUCKET": f"sluice-archive-{name}",
        "SUBSCRIPTION": f"projects/{PROJECT}/subscriptions/{name}-ingest",
    }


@contextlib.contextmanager
def delivering(on: Emulators, subscription: str, endpoint: str, folder: pathlib.Path, name: str) -> Iterator[Child]:
    """Deliver the messages of a subscription to a function while the context lasts.

    Args:
        on: The emulators.
        subscription: Its name in the project.
        endpoint: URL of the function.
        folder: The folder of the log.
        name: Name of the log.

    Raises:
        NotStarted: The process did not start.
    """
    with starting_relay(on, subscription, endpoint, folder, name) as relay:
        wait_until_delivering(relay)
        yield relay


@contextlib.contextmanager
def starting_relay(  # noqa: PLR0913 - what a relay is started with
    on: Emulators, subscription: str, endpoint: str, folder: pathlib.Path, name: str, *, follows_faults: bool = False
) -> Iterator[Child]:
    """Start the delivery of a subscription's messages to a function, and end it with the context.

    Args:
        on: The emulators.
        subscription: Its name in the project.
        endpoint: URL of the function.
        folder: The folder of the log.
        name: Name of the log, which is new.
        follows_faults: Whether the folder is a data folder, for the stack's faults and the counts of the deliveries.
    """
    command = [sys.executable, "-m", "sluice.local.push_relay", "--emulator", on.pubsub, "--endpoint", endpoint]
    command += ["--subscription", f"projects/{PROJECT}/subscriptions/{subscription}"]
    command += ["--concurrency", str(CONCURRENCY), "--ack-deadline", str(ACK_DEADLINE_SECONDS)]
    command += ["--data-dir", str(folder)] if follows_faults else []
    with running(name, command, folder) as relay:
        yield relay


def wait_until_delivering(relay: Child) -> None:
    """Wait until a relay has said in its log that it runs.

    Raises:
        NotStarted: The process did not start.
    """
    relay.wait_until(lambda: bool(relay.tail()))
