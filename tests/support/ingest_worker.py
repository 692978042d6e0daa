"""The worker process of a served function, as the kernel counts it."""

import dataclasses
import pathlib

from sluice.local.functions import Function

PROC = pathlib.Path("/proc")


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """Gunicorn's only worker.

    Attributes:
        pid: Its process id.
    """

    pid: int

    @classmethod
    def of(cls, function: Function) -> "Worker":
        """The worker below the function's gunicorn master."""
        master = function.child.process.pid
        [pid] = (PROC / f"{master}/task/{master}/children").read_text().split()
        return cls(int(pid))

    def resident(self) -> int:
        """Bytes in memory now."""
        return self._status("VmRSS") * 1024

    def peak(self) -> int:
        """The most bytes that were in memory since `forget_peak`."""
        return self._status("VmHWM") * 1024

    def forget_peak(self) -> None:
        """Count the peak from here."""
        (PROC / f"{self.pid}/clear_refs").write_text("5")

    def threads(self) -> int:
        """Return the number of threads."""
        return self._status("Threads")

    def open_files(self) -> int:
        """Return the number of open descriptors, sockets among them."""
        return len(list((PROC / f"{self.pid}/fd").iterdir()))

    def _status(self, name: str) -> int:
        for line in (PROC / f"{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
        raise AssertionError(f"no {name} in the status of {self.pid}")
