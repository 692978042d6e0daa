"""Cold starts: from the start of the process to the first acknowledged event, and its memory then."""

import contextlib
import pathlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

import msgspec

from benchmarks.events import MIX, Bodies
from benchmarks.machine import FUNCTION_CORE, Served, on_core
from benchmarks.servers import Implementation, Name
from benchmarks.stand_in import StandIn
from sluice.local.functions import starting
from sluice.local.process import free_port

_PATIENCE = 60.0


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One cold start.

    Attributes:
        of: The implementation.
        compiled: Whether bytecode was there.
        event: Type of the first event.
        seconds: Seconds from the start of the process to the answer 204.
        memory: Bytes of master and worker together (PSS), after that.
    """

    of: Name
    compiled: bool
    event: str
    seconds: float
    memory: int


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """Time that the import of a package takes when the function is loaded.

    Attributes:
        of: Name of the implementation.
        package: Name of the package.
        milliseconds: Milliseconds to import all its modules, without those of other packages.
    """

    of: Name
    package: str
    milliseconds: float


def starts(
    functions: Sequence[Implementation], cloud: StandIn, folder: pathlib.Path, rounds: int, *, compiled: bool
) -> Iterator[Start]:
    """Start each function so many times, in turn, with another type of event each time.

    Args:
        functions: Implementations to start.
        cloud: Stand-in that they write to.
        folder: Folder of their logs.
        rounds: Number of starts of each that count; one before them, if there are more, brings the files into memory.
        compiled: Whether `functions` were made with bytecode.
    """
    cloud.reset(0, 0)
    bodies = {event_type: Bodies(event_type) for event_type in MIX}  # type: ignore[arg-type]
    types = list(MIX)
    for number in range(0 if rounds > 1 else 1, rounds + 1):
        event = types[number % len(types)]
        for function in functions:
            body, _ = next(bodies[event])
            seconds, memory = _start(function, cloud, folder, body)
            if number:
                yield Start(of=function.name, compiled=compiled, event=event, seconds=seconds, memory=memory)


def _start(function: Implementation, cloud: StandIn, folder: pathlib.Path, body: bytes) -> tuple[float, int]:
    port = free_port()
    environment, name = function.environment(cloud.url), f"cold-{function.name}"
    start = starting("ingest", folder, environment, name, port=port, code=function.code, python=function.python)
    with contextlib.ExitStack() as stack:
        with on_core(FUNCTION_CORE):
            child = stack.enter_context(start)
        while (status := _post(port, body)) is None:
            if child.exit_code() is not None or time.perf_counter() - child.started > _PATIENCE:
                raise RuntimeError(f"{function.name} did not start:\n{child.tail()}")
            time.sleep(0.001)
        seconds = time.perf_counter() - child.started
        if status != 204:
            raise RuntimeError(f"{function.name} answered {status} to its first event:\n{child.tail()}")
        memory = Served(child.process.pid).memory()
        child.signal(signal.SIGKILL)  # a gentle end takes a second
        return seconds, memory


def _post(port: int, body: bytes) -> int | None:
    """Return the status of the answer; None while nobody listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
            head = b"POST / HTTP/1.1\r\nhost: sluice\r\ncontent-type: application/json\r\nconnection: close\r\n"
            connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            answer = connection.recv(4096)
    except ConnectionError:
        return None
    return int(answer.split(b" ", 2)[1]) if answer else None


_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")

_SHARED = ("google.cloud", "google.api_core", "google.auth", "google.protobuf", "google.resumable_media")
"""Packages below `google` that are listed separately."""


def imports(function: Implementation, cloud: StandIn, most: int = 10) -> list[Import]:
    """Return the slowest imports when the function is loaded; with bytecode, one run."""
    with on_core(FUNCTION_CORE):
        output = subprocess.run(  # noqa: S603 - the interpreter of the function
            [function.python, "-X", "importtime", "-c", "import functions_framework; import main"],
            cwd=function.code,
            env={**function.environment(cloud.url), "FUNCTION_TARGET": "ingest"},
            capture_output=True,
            text=True,
            check=True,
        ).stderr
    milliseconds: dict[str, float] = {}
    for microseconds, module in _LINE.findall(output):
        name = _package(module)
        milliseconds[name] = milliseconds.get(name, 0.0) + int(microseconds) / 1000
    largest = sorted(milliseconds, key=lambda name: -milliseconds[name])[:most]
    total = Import(of=function.name, package="all", milliseconds=sum(milliseconds.values()))
    return [total, *(Import(of=function.name, package=name, milliseconds=milliseconds[name]) for name in largest)]


def _package(module: str) -> str:
    parts = module.split(".")
    if module.startswith("google.cloud."):
        return ".".join(parts[:3])
    return ".".join(parts[:2]) if module.startswith(_SHARED) else parts[0]
