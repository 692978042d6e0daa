"""Ends the children of a process that was killed: a process of its own, which waits for the end of a pipe.

The other process holds the pipe's other end as long as it lives, however it ends. It writes a line for each child, `+`
and its process group when it starts, `-` and the group when it has ended.
"""

import contextlib
import os
import signal
import subprocess
import sys


class Reaper:
    """The writing end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, env={}, text=True, start_new_session=True
        )

    def watch(self, group: int) -> None:
        """End this process group when this process ends."""
        self._write(f"+{group}")

    def forget(self, group: int) -> None:
        """The group has ended by itself; another one may get its number."""
        self._write(f"-{group}")

    def _write(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # Somebody has killed the reaper.
            print(line, file=self._process.stdin, flush=True)


def main() -> None:
    """Read until the pipe ends; then kill the process groups that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
