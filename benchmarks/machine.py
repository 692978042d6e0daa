"""The machine: cores of processes, and the kernel's counts of a process."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import platform
import time
from collections.abc import Iterator

PROC = pathlib.Path("/proc")

_ALLOWED: list[int] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""Cores of this process, before it is bound to one of them itself."""

FUNCTION_CORE, OTHER_CORE = _ALLOWED[:2] if len(_ALLOWED) > 1 else (0, 1)
"""Core of the function, alone: the one vCPU that it has in the cloud. Core of the stand-ins and the load generator."""


@functools.cache
def can_pin() -> bool:
    """Return whether this machine lets processes be bound to two cores; a container may have one, or forbid it."""
    if len(_ALLOWED) < 2:
        return False
    try:
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {FUNCTION_CORE})
        os.sched_setaffinity(0, before)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run processes that start in this context on one core; without effect where that is impossible."""
    if not can_pin():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """The processes of a served function: gunicorn's master, and the worker below it.

    Attributes:
        master: Process id.
    """

    master: int

    @property
    def pids(self) -> list[int]:
        """All of them that there are now."""
        processes = [self.master]
        for pid in processes:
            with contextlib.suppress(OSError):
                processes += map(int, (PROC / f"{pid}/task/{pid}/children").read_text().split())
        return processes

    def cpu(self) -> float:
        """Return the seconds of CPU that they have used."""
        return sum(map(_cpu, self.pids))

    def forget_peak(self) -> None:
        """Count the peak of memory from here."""
        for pid in self.pids:
            (PROC / f"{pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the maximum bytes of the worker's memory since `forget_peak`, with pages shared with the master."""
        return max(_kilobytes(pid, "status", "VmHWM") for pid in self.pids) * 1024

    def memory(self) -> int:
        """Return the bytes in memory now, of all together: a shared page counts once (PSS)."""
        return sum(_kilobytes(pid, "smaps_rollup", "Pss") for pid in self.pids) * 1024


def _cpu(pid: int) -> float:
    """Return the process's CPU clock, to the nanosecond; ticks of /proc are 10 ms.

    Its id is what clock_getcpuclockid makes (https://man7.org/linux/man-pages/man3/clock_getcpuclockid.3.html).
    """
    return time.clock_gettime((~pid << 3) | 2)


def _kilobytes(pid: int, file: str, name: str) -> int:
    for line in (PROC / f"{pid}/{file}").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(f"no {name} in {file} of {pid}")


class Busy:
    """Share of its core that this process uses, from now on."""

    def __init__(self) -> None:
        self._started, self._cpu = time.monotonic(), time.process_time()

    def share(self) -> float:
        """Return the share, from 0 to 1."""
        return (time.process_time() - self._cpu) / (time.monotonic() - self._started)


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """Machine of a run.

    Attributes:
        cpu: The processor's name.
        cores: Number of cores.
        memory_gib: Memory in GiB.
        system: Kernel.
        python: Version of Python.
        pinned: Whether the function had a core of its own.
    """

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str
    pinned: bool

    @classmethod
    def here(cls) -> "Machine":
        """Return a description of this machine."""
        names = [line.partition(":")[2].strip() for line in _lines("cpuinfo") if line.startswith("model name")]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        return cls(
            names[0] if names else platform.machine(),
            os.cpu_count() or 1,
            round(memory, 1),
            f"{platform.system()} {platform.release().partition('-')[0]}",
            platform.python_version(),
            can_pin(),
        )


def _lines(name: str) -> list[str]:
    try:
        return (PROC / name).read_text().splitlines()
    except OSError:
        return []
