"""Faults of the running local stack: switches that the console sets, and the process of the function that it kills.

The switches are in a file of the data folder, which the forwarder of `sluice up` and the relay read several times a
second. A start of the stack deletes it.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
from collections.abc import Sequence
from datetime import datetime

import msgspec

from sluice.local.data_folder import DataFolder, RunningStack

FILE = "faults.json"

LOOK_SECONDS = 0.2
"""Seconds between two reads of the switches."""

SLOW_SECONDS = 3.0
"""Seconds that each answer of the bucket is delayed."""


class Faults(msgspec.Struct, frozen=True):
    """The switches.

    Attributes:
        bigquery_down: The function cannot connect to BigQuery.
        slow_bucket: The function gets each answer of Cloud Storage late.
        duplicates: Each message is delivered twice.
        watched_since: Time since which the relay lists what is acknowledged; None before the first fault.
    """

    bigquery_down: bool = False
    slow_bucket: bool = False
    duplicates: bool = False
    watched_since: datetime | None = None

    @property
    def active(self) -> Sequence[str]:
        """The faults that are switched on, in words."""
        words = {
            "BigQuery is down": self.bigquery_down,
            "the bucket is slow": self.slow_bucket,
            "everything is delivered twice": self.duplicates,
        }
        return [name for name, is_on in words.items() if is_on]


def read_faults(data: DataFolder) -> Faults:
    """Return the switches; all are off where there is no file."""
    try:
        return msgspec.json.decode((data.path / FILE).read_bytes(), type=Faults)
    except FileNotFoundError:
        return Faults()


def write_faults(data: DataFolder, faults: Faults) -> None:
    """Set the switches."""
    data.replace(FILE, msgspec.json.encode(faults))


def workers(stack: RunningStack, name: str = "ingest") -> Sequence[int]:
    """Return the process ids of a function's workers, which gunicorn's master starts anew when one ends."""
    master = next(process.pid for process in stack.processes if process.name == name)
    with contextlib.suppress(FileNotFoundError):
        return [int(pid) for pid in pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()]
    answer = subprocess.run(["pgrep", "-P", str(master)], capture_output=True, check=False)  # noqa: S603, S607
    return [int(pid) for pid in answer.stdout.split()]


def kill_workers(stack: RunningStack) -> Sequence[int]:
    """Kill the workers of `ingest` as a crash does, and return their process ids."""
    killed = workers(stack)
    for pid in killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return killed
