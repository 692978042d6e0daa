"""The local stack of `sluice up` and `sluice demo`: its ports stay, and a change of the code is served at once."""

import contextlib
import itertools
import os
import pathlib
import re
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import httpx
import msgspec

from functions.settings import Settings
from functions.source_files import InvalidFile
from sluice.checkout import commit
from sluice.local.data_folder import DataFolder, Process, RunningStack
from sluice.local.faults import LOOK_SECONDS, SLOW_SECONDS, read_faults
from sluice.local.front import Front, Impairment
from sluice.local.functions import Function, starting, unpacked, wait_until_served
from sluice.local.names import topic_name, undeliverable_name
from sluice.local.process import START_SECONDS, Child, NotStarted, free_port, loopback, running
from sluice.local.stack import (
    Emulators,
    Ports,
    create_resources,
    resource_settings,
    starting_emulators,
    starting_relay,
    wait_until_delivering,
)
from sluice.package import ROOT, deployed_files

NAME = "events"
"""Name of the stack's topic."""

_SETTLED_SECONDS = 0.1
"""Seconds without a change after which a change is complete: editors and git write several files."""


class Change(msgspec.Struct, frozen=True):
    """A change that the bootstrap has made to an object of the warehouse.

    Attributes:
        name: Dataset, or dataset and table.
        change: The change, as `SchemaChange` has it.
        diff: Differences of a table, a line each.
        error: Reason of a rejected change.
    """

    name: str
    change: str
    diff: Sequence[str] = ()
    error: str | None = None

    def __str__(self) -> str:
        """Describe the change in a line."""
        return f"{self.change} {self.name}" + (f": {', '.join(self.diff)}" if self.diff else "")


class _Changes(msgspec.Struct):
    objects: list[Change]


class Code:
    """The files of which the functions are made.

    Args:
        root: The project's folder.
    """

    def __init__(self, root: pathlib.Path = ROOT) -> None:
        self._root = root
        self._seen = self._now()

    def changed(self) -> Sequence[str]:
        """Return the names of the files that have changed since the last call, once no more of them change."""
        before = self._seen
        if (now := self._now()) == before:
            return ()
        while True:
            time.sleep(_SETTLED_SECONDS)
            if now == (later := self._now()):
                break
            now = later
        self._seen = now
        return sorted({name for name, _ in now.items() ^ before.items()})

    def _now(self) -> dict[str, tuple[int, int]]:
        files: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(FileNotFoundError):  # A file was deleted meanwhile: the next call sees that.
            for name in deployed_files(self._root):
                status = (self._root / name).stat()
                files[name] = status.st_mtime_ns, status.st_size
        return files


class Forwarded(NamedTuple):
    """Ports by which `ingest` finds emulators, so that its connections can be impaired; all others connect directly."""

    bigquery: int
    storage: int

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which it finds them."""
        return {
            "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{self.bigquery}",
            "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{self.storage}",
        }


class LiveStack:
    """The emulators, and the newest functions that could be started.

    Args:
        data: Its data folder.
        on: The running emulators.
        ports: Where the functions listen.
        front: Hands the connections there to the functions, and those of `ingest` to the emulators.
        forwarded: Ports by which `ingest` finds the emulators.

    Attributes:
        settings: The functions' settings.
        environment: Variables by which clients and commands find the stack.
        changes: What the last bootstrap has changed.
        code: The files that are served, as of the first deployment or later.
    """

    def __init__(self, data: DataFolder, on: Emulators, ports: Ports, front: Front, forwarded: Forwarded) -> None:
        self._data = data
        self._on = on
        self._ports = ports
        self._front = front
        self._forwarded = forwarded
        self.code = Code()
        self._numbers = itertools.count(1)
        self._running = contextlib.ExitStack()
        self._functions: Mapping[str, Child] = {}
        self._relay: Sequence[Child] = ()
        self._variables = {**on.environment, **resource_settings(NAME)}
        self._ingest_variables = {**self._variables, **forwarded.environment}
        front.switch(forwarded.bigquery, ports.bigquery)
        front.switch(forwarded.storage, ports.storage)
        front.every(LOOK_SECONDS, self._break)
        self.settings = Settings.from_environment(self._variables)
        self.environment: Mapping[str, str] = {
            **self._variables,
            "DATASET": self.settings.dataset,
            "HISTORICAL_DATASET": self.settings.historical_dataset,
            "LOCATION": self.settings.location,
            "SLUICE_TOPIC": self.topic,
            "SLUICE_UNDELIVERABLE": undeliverable_name(NAME),
        }
        self.changes: Sequence[Change] = ()
        self._started = datetime.now(UTC)
        self._console_token = secrets.token_urlsafe(32)

    topic = topic_name(NAME)
    """Full name of the topic that is delivered to `ingest`."""

    @property
    def children(self) -> Sequence[Child]:
        """All processes."""
        return [*self._on.children, *self._functions.values(), *self._relay]

    @property
    def addresses(self) -> Mapping[str, str]:
        """The address of each process that listens, by its name."""
        return {
            "console": f"http://127.0.0.1:{self._ports.console}",
            "ingest": f"http://127.0.0.1:{self._ports.ingest}",
            "bootstrap": f"http://127.0.0.1:{self._ports.bootstrap}",
            "bigquery": self._on.bigquery,
            "storage": self._on.storage,
            "pubsub": self._on.pubsub,
        }

    def deploy(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Start the functions of today's code, run the bootstrap, and replace the functions that serve.

        Args:
            meanwhile: Is called after the processes of the functions have started.

        Raises:
            NotStarted: A file cannot be read, a function did not start, or the bootstrap failed or was rejected.
                Nothing is replaced.
        """
        try:
            self._deploy(meanwhile)
        except (OSError, httpx.TransportError) as error:
            raise NotStarted(str(error) or type(error).__name__) from error

    def _deploy(self, meanwhile: Callable[[], None] | None) -> None:
        with _naming_invalid_files(self._data.path), contextlib.ExitStack() as starting_functions:
            code = self._data.path / "code" / f"{next(self._numbers)}"
            starting_functions.callback(shutil.rmtree, code, ignore_errors=True)
            unpacked(code)
            made: dict[str, tuple[int, Child]] = {}
            for target in _TARGETS:
                port = free_port()
                variables = self._ingest_variables if target == "ingest" else self._variables
                process = starting(target, self._data.path, variables, target, port=port, code=code)
                made[target] = port, starting_functions.enter_context(process)
            if meanwhile:
                meanwhile()
            port = free_port()
            made["console"] = port, starting_functions.enter_context(self._console(port))
            bootstrap = wait_until_served(*made["bootstrap"])
            self.changes = _bootstrap(bootstrap)
            wait_until_served(*made["ingest"])
            for target, (port, _) in made.items():
                self._front.switch(getattr(self._ports, target), port)
            for child in self._functions.values():  # All at once: each takes half a second to end.
                child.signal(signal.SIGTERM)
            replaced, self._running = self._running, starting_functions.pop_all()
            self._functions = {target: child for target, (_, child) in made.items()}
        if self._relay:  # Others find the stack when all of it is up.
            self._data.write(self._state())
        replaced.close()

    def restart_console(self) -> None:
        """Start the console again, which has ended."""
        port = free_port()
        self._functions = {**self._functions, "console": self._running.enter_context(self._console(port))}
        self._front.switch(self._ports.console, port)
        self._data.write(self._state())

    def _console(self, port: int) -> contextlib.AbstractContextManager[Child]:
        """Return the process of the console, which answers a second after its start."""
        command = [sys.executable, "-m", "sluice.console.server", "--port", str(port)]
        command += ["--data-dir", str(self._data.path), "--topic", self.topic]
        environment = {**self.environment, "SLUICE_CONSOLE_TOKEN": self._console_token}
        return running("console", command, self._data.path, environment)

    def _break(self) -> None:
        """Impair the connections of `ingest` to the emulators as the switches say."""
        faults = read_faults(self._data)
        self._front.impair(self._forwarded.bigquery, Impairment(is_down=faults.bigquery_down))
        self._front.impair(self._forwarded.storage, Impairment(delay=SLOW_SECONDS * faults.slow_bucket))

    def _end_functions(self) -> None:
        self._running.close()

    @contextlib.contextmanager
    def served(self, begin: Callable[[str], None]) -> Iterator[None]:
        """Deploy the functions, and deliver messages to them, while the context lasts.

        Args:
            begin: Is called with the name of each later stage of the start when it begins.
        """
        with contextlib.ExitStack() as ending:
            ending.callback(self._end_functions)
            relays: list[Child] = []

            def connect() -> None:
                self._on.wait_until_ready()
                create_resources(self._on, NAME)
                begin("functions")
                endpoint = self.addresses["ingest"]
                relay = starting_relay(
                    self._on, f"{NAME}-ingest", endpoint, self._data.path, "relay", follows_faults=True
                )
                relays.append(ending.enter_context(relay))

            self.deploy(meanwhile=connect)
            begin("delivery")
            wait_until_delivering(relays[0])
            self._relay = relays
            self._data.write(self._state())
            yield

    def _state(self) -> RunningStack:
        addresses = self.addresses
        processes = [Process(child.name, addresses.get(child.name, ""), child.process.pid) for child in self.children]
        return RunningStack(os.getpid(), self._started, commit() or "unknown", self.environment, processes)


_TARGETS = ("bootstrap", "ingest")

_INVALID_FILE = re.compile(rf"^[\w.]*{InvalidFile.__name__}: (.+)", re.MULTILINE)
"""The line of a traceback that names a file of the code and what is wrong with it."""


@contextlib.contextmanager
def _naming_invalid_files(folder: pathlib.Path) -> Iterator[None]:
    """Raise an error of a function that a file of the code has caused with that file instead of the function's log.

    Args:
        folder: The folder of the logs.
    """
    logs = [folder / f"{target}.log" for target in _TARGETS]
    sizes = [log.stat().st_size if log.exists() else 0 for log in logs]
    try:
        yield
    except NotStarted as error:
        for log, size in zip(logs, sizes, strict=True):
            if log.exists() and (line := _INVALID_FILE.search(log.read_bytes()[size:].decode(errors="replace"))):
                raise NotStarted(line[1]) from error
        raise


def _bootstrap(function: Function) -> Sequence[Change]:
    answer = loopback().post(function.url, timeout=START_SECONDS)
    try:
        changes = msgspec.json.decode(answer.content, type=_Changes).objects
    except msgspec.DecodeError:
        raise NotStarted(f"bootstrap answered {answer.status_code}: {answer.text}") from None
    if answer.is_error:
        reasons = "; ".join(f"{change.name}: {change.error}" for change in changes if change.error)
        raise NotStarted(f"the bootstrap was rejected: {reasons}")
    return [change for change in changes if change.change != "unchanged"]


@contextlib.contextmanager
def live_stack(
    data: DataFolder, begin: Callable[[str], None], *, first_port: int | None = None, stand_in: bool = False
) -> Iterator[LiveStack]:
    """Run the whole stack with a data folder while the context lasts.

    Args:
        data: The folder, which no other stack uses.
        begin: Is called with the name of each stage of the start when it begins.
        first_port: The first of its ports; by default all are free ones.
        stand_in: Take our own stand-in for Pub/Sub even where Google's emulator is installed.

    Raises:
        NotStarted: A process did not start; says which, with the end of its log.
    """
    data.clear_run()
    ports = Ports.free() if first_port is None else Ports.from_first(first_port)
    forwarded = Forwarded(free_port(), free_port())
    front = Front([ports.ingest, ports.bootstrap, ports.console, *forwarded])
    begin("emulators")
    with starting_emulators(data.path, ports, stand_in=stand_in) as on, front.listening():
        stack = LiveStack(data, on, ports, front, forwarded)
        with stack.served(begin):
            yield stack
