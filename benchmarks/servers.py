"""The three implementations, each served by functions-framework in an environment of its own packages."""

import compileall
import contextlib
import dataclasses
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from benchmarks.environments import DEPLOYED, PLAIN, Environment
from benchmarks.machine import FUNCTION_CORE, Served, on_core
from benchmarks.stand_in import StandIn
from sluice.local.functions import serving
from sluice.package import ROOT, unpack

type Name = Literal["plain", "sluice", "empty"]

NAMES: tuple[Name, ...] = ("plain", "sluice", "empty")

TITLES: Mapping[Name, str] = {"plain": "plain function", "sluice": "Sluice", "empty": "empty function"}

PLAIN_THREADS = 64
"""Number of threads of the plain function: the best of 32, 64, 128 and 256."""

_HERE = pathlib.Path(__file__).parent


def environment(cloud: str) -> dict[str, str]:
    """Return the variables that let a function write to the stand-in at a URL."""
    return {
        "BIGQUERY_EMULATOR_HOST": cloud,
        "STORAGE_EMULATOR_HOST": cloud,
        "GOOGLE_CLOUD_PROJECT": "project",
        "ARCHIVE_BUCKET": "archive",
        "DATASET": "dev_events_dataset",
    }


@dataclasses.dataclass(frozen=True, slots=True)
class Implementation:
    """A function that can be served.

    Attributes:
        name: Name of one of the three implementations.
        code: The folder of its `main.py`, and of what that imports and reads.
        python: The interpreter that has its packages.
        variables: Environment variables besides those of all.
    """

    name: Name
    code: pathlib.Path
    python: str
    variables: Mapping[str, str]

    def environment(self, cloud: str) -> dict[str, str]:
        """Return its environment variables: the same settings and emulators for all."""
        return {**environment(cloud), **self.variables}


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """An implementation that is served.

    Attributes:
        name: Name of one of the three implementations.
        url: URL at which it answers.
        processes: Measurements of its processes by the kernel.
    """

    name: Name
    url: str
    processes: Served


def implementations(folder: pathlib.Path, *, compiled: bool = True, own: bool = True) -> list[Implementation]:
    """Make the three ready to be served.

    Args:
        folder: Empty folder for their files.
        compiled: Whether there is bytecode of everything, or of the standard library only.
        own: Whether each has an environment of its own, else that of the development.
    """
    deployed = Environment("sluice", DEPLOYED, compiled)
    environments = {"plain": Environment("plain", PLAIN, compiled), "sluice": deployed, "empty": deployed}
    variables = {} if compiled else {"PYTHONDONTWRITEBYTECODE": "1"}
    prepared = []
    for name in NAMES:
        files = folder / name
        _unpack(name, files)
        if compiled:
            compileall.compile_dir(files, quiet=1)
        python = sys.executable
        if own:
            environments[name].make()
            python = str(environments[name].python)
        threads = {"THREADS": str(PLAIN_THREADS)} if name == "plain" else {}
        prepared.append(Implementation(name, files, python, {**variables, **threads}))
    return prepared


def _unpack(name: Name, files: pathlib.Path) -> None:
    if name == "sluice":
        unpack(files)
        return
    files.mkdir(parents=True)
    shutil.copyfile(_HERE / name / "main.py", files / "main.py")
    if name == "plain":
        shutil.copytree(ROOT / "jsonschemas", files / "jsonschemas")


@contextlib.contextmanager
def serving_all(
    functions: Sequence[Implementation], cloud: StandIn, logs: pathlib.Path, core: int = FUNCTION_CORE
) -> Iterator[list[Server]]:
    """Serve implementations, all on the one core, while the context lasts: one at a time has anything to do."""
    with contextlib.ExitStack() as stack:
        servers = []
        for implementation in functions:
            with on_core(core):
                function = stack.enter_context(
                    serving(
                        "ingest",
                        logs,
                        implementation.environment(cloud.url),
                        implementation.name,
                        code=implementation.code,
                        python=implementation.python,
                    )
                )
            servers.append(Server(implementation.name, function.url, Served(function.child.process.pid)))
        yield servers
