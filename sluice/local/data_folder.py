"""The data folder of the local stack: what it keeps, and by which other commands find the stack that runs.

It holds the emulators' data and the logs. While a stack starts, runs or ends, it has a lock on the file `lock`, which
holds its process id and which the system frees however the stack ends. While it is up, its addresses are in
`stack.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from typing import TextIO

DEFAULT = ".sluice"
"""Name of the folder, in the current one."""

VARIABLE = "SLUICE_DATA_DIR"
"""Environment variable with the path of the folder."""

_KEPT = ("bigquery", "storage")
_OF_A_RUN = ("faults.json", "relay.json", "relay-acknowledged.txt")


class StackRuns(RuntimeError):
    """A stack runs with this data folder."""


class NoDataFolder(ValueError):
    """The folder holds something else than the data of a stack."""


class UnreadableState(RuntimeError):
    """It is not known what runs with a data folder."""


class Process(msgspec.Struct, frozen=True):
    """A process of a running stack.

    Attributes:
        name: Its name.
        address: Where it listens; empty if it does not.
        pid: Its process id, which is that of its process group.
    """

    name: str
    address: str
    pid: int


class RunningStack(msgspec.Struct, frozen=True):
    """A running stack, as `stack.json` has it.

    Attributes:
        pid: The process id of `sluice up`.
        started: The time at which it was up.
        version: Version of the code that runs.
        environment: Variables by which clients and commands find it.
        processes: Its processes.
    """

    pid: int
    started: datetime
    version: str
    environment: Mapping[str, str]
    processes: Sequence[Process]


class DataFolder:
    """A data folder.

    Args:
        path: Its path; it need not exist.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path.absolute()  # Processes of the stack have other working directories.
        self._state = self.path / "stack.json"
        self._lock = self.path / "lock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep others from using it while the context lasts.

        Raises:
            NoDataFolder: It cannot be made; or it has files, and no stack has ever used it: a start would delete some.
            StackRuns: A stack runs with it.
            UnreadableState: A stack of another version runs with it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NoDataFolder(f"{self.path} is a file; name a folder that is empty or does not exist") from error
        except OSError as error:
            raise NoDataFolder(f"{self.path} cannot be made: {error.strerror}") from error
        if not self._lock.exists() and any(self.path.iterdir()):
            raise NoDataFolder(f"{self.path} has other files; name a folder that is empty or does not exist")
        (self.path / ".gitignore").write_text("*\n")
        with self._lock.open("a") as file:
            if not _try_lock(file, fcntl.LOCK_EX):
                stack = self.running()
                since = f" since {stack.started:%Y-%m-%d %H:%M:%S} UTC, process {stack.pid}" if stack else ""
                raise StackRuns(f"a stack runs in {self.path}{since}; `sluice down` ends it")
            file.truncate(0)
            print(os.getpid(), file=file, flush=True)
            self._state.unlink(missing_ok=True)
            try:
                yield
            finally:
                self._state.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the data and logs of earlier stacks."""
        for name in _KEPT:
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.clear_run()

    def clear_run(self) -> None:
        """Delete what belongs to the last run only: logs, switches, counts, and the functions' code."""
        for file in (*self.path.glob("*.log"), *(self.path / name for name in _OF_A_RUN)):
            file.unlink(missing_ok=True)
        code = self.path / "code"
        for folder in (code, *code.rglob("*/")):  # A stack that was killed has left them read-only.
            with contextlib.suppress(OSError):
                folder.chmod(0o700)
        shutil.rmtree(code, ignore_errors=True)

    def write(self, stack: RunningStack) -> None:
        """Let other commands find the stack."""
        self.replace(self._state.name, msgspec.json.format(msgspec.json.encode(stack)))

    def replace(self, name: str, content: bytes) -> None:
        """Write a file of the folder, so that nobody reads half of it."""
        part = self.path / f"{name}.part"
        part.write_bytes(content)
        part.replace(self.path / name)

    def is_locked(self) -> bool:
        """Return whether a stack runs with this folder, or starts.

        Raises:
            UnreadableState: The folder cannot be read.
        """
        try:
            with self._lock.open("r") as file:
                return not _try_lock(file, fcntl.LOCK_SH)  # Two that look at the same time do not see each other.
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise UnreadableState(f"{self._lock} cannot be read: {error.strerror}") from error

    def pid(self) -> int | None:
        """Return the process that starts, runs or ends a stack with this folder, if one does; of any version.

        Raises:
            UnreadableState: The folder cannot be read.
        """
        return int(self._lock.read_text() or 0) or None if self.is_locked() else None

    def running(self) -> RunningStack | None:
        """Return the stack that runs with this folder, if one does and is up.

        Raises:
            UnreadableState: One does, but its state was written by another version, or is damaged.
        """
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=RunningStack) if self.is_locked() else None
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise UnreadableState(
                f"{self._state} cannot be read: {error}; a stack of another version runs there: end it with"
                " `sluice down`, or with Ctrl-C where it was started, and start `sluice up`"
            ) from error


def _try_lock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def find(environment: Mapping[str, str] = os.environ) -> DataFolder:
    """Return the data folder: that of the variable, else `.sluice` in the current folder or one above it.

    If there is none, the one that `sluice up` would make.
    """
    if path := environment.get(VARIABLE):
        return DataFolder(pathlib.Path(path))
    here = pathlib.Path.cwd()
    above = (folder / DEFAULT for folder in (here, *here.parents))
    return DataFolder(next((path for path in above if (path / "lock").exists()), here / DEFAULT))


def use(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables of the running stack, unless the environment selects something else.

    Raises:
        UnreadableState: A stack runs, but its variables are not known.
    """
    stack = find().running()
    if stack and not other_selection(stack, environment):
        environment.update(stack.environment)


def other_selection(stack: RunningStack, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the variable by which the environment selects something else than a running stack, if one does.

    It is GOOGLE_APPLICATION_CREDENTIALS, or a variable of the stack with another value. What a shell was set for is
    never mixed with the stack.
    """
    if "GOOGLE_APPLICATION_CREDENTIALS" in environment:
        return "GOOGLE_APPLICATION_CREDENTIALS"
    return next((name for name, value in stack.environment.items() if environment.get(name, value) != value), None)
