"""Confines a function on this machine as the platform does: limits its memory, and makes its code read-only."""

import contextlib
import functools
import itertools
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence

_STACKS = 32 * 8 * 2**20
"""Bytes of address space that 32 threads reserve for their stacks, and hardly touch. RLIMIT_DATA counts them."""

_ENTER_CGROUP = 'echo $$ >"$0" && exec "$@"'
_LIMIT_DATA = 'ulimit -d "$0" 2>/dev/null; exec "$@"'

_MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
"""The limit of memory in cgroups v2 and v1."""

_WITHOUT_CAPABILITIES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")

_NOBODY = 65534

_numbers = itertools.count(1)


@contextlib.contextmanager
def confined(memory: int) -> Iterator[list[str]]:
    """Return the beginning of a command that has limited memory and no privileges, while the context lasts.

    A cgroup counts memory as the platform does: the pages that all processes of the function really use, and kills
    what exceeds its limit. Where none can be made, RLIMIT_DATA limits what each process maps for itself. That is more
    than it uses: 324 MiB were mapped where 242 MiB were in memory, most of the rest being stacks of threads
    (RLIMIT_AS: 417). So this limit is higher by `_STACKS`: it stops a leak, and lets a function pass that takes a
    little too much.

    Args:
        memory: Bytes of memory that the function may use.
    """
    with _cgroup(memory) as group:
        if group is None:
            limit = ["sh", "-c", _LIMIT_DATA, str((memory + _STACKS) // 1024)]
        else:
            limit = ["sh", "-c", _ENTER_CGROUP, str(group / "cgroup.procs")]
        yield [*limit, *_without_privileges()]


@contextlib.contextmanager
def read_only(folder: pathlib.Path) -> Iterator[None]:
    """Make a folder and all in it read-only while the context lasts.

    Where this process is root's, the files belong to `nobody` meanwhile. What `confined` starts as root lacks the
    capabilities by which root writes everywhere, so that it can neither write them nor change their modes.

    Args:
        folder: A copy that is used for nothing else.
    """
    before = {path: path.stat() for path in (folder, *folder.rglob("*"))}
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
        _give(path, _NOBODY, _NOBODY)
    try:
        yield
    finally:
        for path, status in before.items():
            with contextlib.suppress(FileNotFoundError):
                _give(path, status.st_uid, status.st_gid)
                path.chmod(status.st_mode)


def _give(path: pathlib.Path, user: int, group: int) -> None:
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError, OSError):  # a user namespace may not have this user
            os.chown(path, user, group)


@functools.cache
def _without_privileges() -> Sequence[str]:
    """Return the command by which root gives up its privileges; any other user has none."""
    if os.geteuid() != 0 or shutil.which(_WITHOUT_CAPABILITIES[0]) is None:
        return ()
    return _WITHOUT_CAPABILITIES if _succeeds([*_WITHOUT_CAPABILITIES, "true"]) else ()


@contextlib.contextmanager
def _cgroup(memory: int) -> Iterator[pathlib.Path | None]:
    """Make a cgroup with a limit of memory; None where this process may not."""
    parent = _parent()
    group = _make(parent, memory) if parent else None
    try:
        yield group
    finally:
        if group:
            _remove(group)


@functools.cache
def _parent() -> pathlib.Path | None:
    """Return the cgroup below which this process may make others, and move its children there."""
    for parent in _own_cgroups():
        if group := _make(parent, 2**30):
            may_enter = _succeeds(["sh", "-c", _ENTER_CGROUP, str(group / "cgroup.procs"), "true"])
            _remove(group)
            if may_enter:
                return parent
    return None


def _own_cgroups() -> Iterator[pathlib.Path]:
    """Return the cgroups that this process is in, and those above them: of v1's memory controller, and of v2.

    https://man7.org/linux/man-pages/man7/cgroups.7.html
    """
    mounts = [line.split() for line in _lines("/proc/self/mounts")]
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for _, place, kind, options, *_ in mounts:
            is_v2 = kind == "cgroup2" and not controllers
            is_v1 = kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(",")
            if is_v1 or is_v2:
                root = pathlib.Path(place)
                own = root / path.lstrip("/")
                yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def _lines(file: str) -> list[str]:
    try:
        return pathlib.Path(file).read_text().splitlines()
    except OSError:  # no Linux
        return []


def _make(parent: pathlib.Path, memory: int) -> pathlib.Path | None:
    """Make a cgroup with a limit of memory and without swap; None if this is not possible there."""
    group = parent / f"sluice-{os.getpid()}-{next(_numbers)}"
    try:
        group.mkdir()
        [limit] = [group / name for name in _MEMORY_FILES if (group / name).exists()]
        limit.write_text(str(memory))
    except (OSError, ValueError):  # read-only, or without the controller of memory
        _remove(group)
        return None
    for name, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", memory)):
        if (group / name).exists():
            with contextlib.suppress(OSError):
                (group / name).write_text(str(value))
    return group


def _remove(group: pathlib.Path) -> None:
    """Remove a cgroup. The kernel takes a moment to forget the processes that have just ended in it."""
    for _ in range(100):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603
