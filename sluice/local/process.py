"""Child processes of the local stack."""

import contextlib
import dataclasses
import functools
import itertools
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import httpx

from sluice.local.reaper import Reaper

STOP_SECONDS = 15.0
"""Seconds that a child has to end after SIGTERM, before it is killed."""


START_SECONDS = 300.0
"""Maximum seconds until a child is ready. On an idle machine each takes a few; one that ends is noticed at once."""


MARK = "SLUICE_SESSION"
"""Environment variable that all children inherit: by it a session finds what it has left behind."""

_SYSTEM = ("PATH", "HOME", MARK)
"""Variables that a child inherits which runs in an environment of its own."""


_reaper = functools.cache(Reaper)


@functools.cache
def loopback() -> httpx.Client:
    """Return the client for what listens on this machine: no proxy is asked, and no certificates are read.

    httpx reads them for each call without a client, which takes 35 ms of CPU, and a stack that starts is asked often.
    """
    return httpx.Client(trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


class NotStarted(RuntimeError):
    """A child ended or did not get ready in time; carries the end of its log."""


# Below those that systems give out by themselves, so that nobody takes one before our child listens on it; processes
# that look for some at the same time start at different ones.
_PORTS = itertools.cycle(range(20_000, 32_000))
_tried = itertools.islice(_PORTS, os.getpid() * 61 % 12_000, None)


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on; each time another one."""
    return next(filter(is_free, _tried))


def is_free(port: int) -> bool:
    """Return whether nothing listens on a port of the loopback interface."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclasses.dataclass(frozen=True, slots=True)
class Child:
    """A running child, in a process group of its own.

    Attributes:
        name: Its name.
        log: File with its standard output and error.
        process: The process.
        started: The time at which it was started, by `time.perf_counter`.
    """

    name: str
    log: pathlib.Path
    process: subprocess.Popen[bytes]
    started: float

    def wait_until(self, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until it is ready.

        Args:
            ready: Whether it is; may raise an error of the connection while it is not.
            seconds: Maximum seconds to wait.

        Raises:
            NotStarted: It ended, or is not ready in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, httpx.TransportError):
                if ready():
                    return
            if (code := self.exit_code()) is not None:
                raise NotStarted(f"{self.name} ended with {code}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"{self.name} is not ready after {seconds:.0f} s:\n{self.tail()}")
            time.sleep(0.05)

    def exit_code(self) -> int | None:
        """Return its exit code, negative for a signal's number, or None while it runs.

        `Popen.poll` takes a lock, which an interrupt at the wrong moment leaves taken: waiting would never end.
        """
        if self.process.returncode is not None:
            return self.process.returncode
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def tail(self, lines: int = 20) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child and to all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """End it, gently first; returns when nothing of it is left."""
        if self.exit_code() is None:
            self.signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while self.exit_code() is None and time.monotonic() < deadline:
                time.sleep(0.01)
        self.signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(  # noqa: PLR0913 - what a process is started with
    name: str,
    command: Sequence[str],
    folder: pathlib.Path,
    environment: Mapping[str, str] | None = None,
    *,
    cwd: pathlib.Path | None = None,
    inherits: bool = True,
) -> Iterator[Child]:
    """Run a child while the context lasts.

    Args:
        name: Its name; its log is `NAME.log`.
        command: Program and arguments.
        folder: The folder of the log.
        environment: Variables besides those that it inherits.
        cwd: Its working directory; by default this process's own.
        inherits: Whether it inherits all variables of this process, or only those that any program needs.
    """
    log = folder / f"{name}.log"
    inherited = {name: value for name, value in os.environ.items() if inherits or name in _SYSTEM}
    with log.open("ab") as output:
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 - the stack's own commands
            command,
            cwd=cwd,
            env={**inherited, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    child = Child(name, log, process, started)
    reaper = _reaper()
    reaper.watch(process.pid)
    try:
        yield child
    finally:
        child.stop()
        reaper.forget(process.pid)
