"""Measure the memory and time that it takes to reconcile a day of many events.

python -m tests.limits.reconciliation --events 10000000 --hours 24

With `UPDATE_DOCS` set, the numbers go into `docs/reliability.md`.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event

from aiohttp import web

from functions.clients import bigquery_client, storage_client
from functions.reconcile.findings import HourCounts
from functions.reconcile.reconciler import Reconciler
from functions.settings import Settings
from sluice.local.process import free_port
from tests.support import fault_report
from tests.support.archived_day import ArchivedDay
from tests.support.ingest_worker import Worker
from tests.support.waiting import PATIENCE

START = datetime(2026, 7, 1, tzinfo=UTC)

PER_OBJECT = 25
"""Events of a flush at a hundred events a second."""

ONE_LOST_IN = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """The memory and time of a reconciliation.

    Attributes:
        events: How many events there were.
        lost: How many of them have no row.
        total: What it found.
        seconds: How long it took.
        cpu_seconds: Of its process.
        idle_bytes: The most memory of its process before it began.
        peak_bytes: The most memory of its process, all of it.
        parts: In how many parts it was done.
    """

    events: int
    lost: int
    total: HourCounts
    seconds: float
    cpu_seconds: float
    idle_bytes: int
    peak_bytes: int
    parts: int


def measure(
    per_hour: int,
    hours: int,
    per_object: int = PER_OBJECT,
    one_lost_in: int = ONE_LOST_IN,
    *,
    in_parts: bool = False,
) -> Measured:
    """Reconcile some hours, in a process of its own; in parts, as where the time is over again and again."""
    spawn = multiprocessing.get_context("spawn")
    with (
        _served(per_hour, per_object, one_lost_in) as url,
        concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as process,
    ):
        return process.submit(_reconcile, url, per_hour, hours, one_lost_in, in_parts).result()


def _reconcile(url: str, per_hour: int, hours: int, one_lost_in: int, in_parts: bool) -> Measured:
    os.environ.update(BIGQUERY_EMULATOR_HOST=url, STORAGE_EMULATOR_HOST=url)
    settings = Settings(
        google_cloud_project="project",
        dataset="live",
        historical_dataset="history",
        archive_bucket="archive",
        retention_days=1_825,  # The day has not expired.
    )
    reconciler = Reconciler(bigquery_client(settings), storage_client(settings), settings)
    idle, cpu, started = _peak(), time.process_time(), time.monotonic()

    def advance(until: datetime) -> None:
        done = (until - START) // timedelta(hours=1)
        sys.stderr.write(f"  {done} of {hours} hours, {time.monotonic() - started:.0f} s, {_peak() / 1e6:.0f} MB\n")

    total, until, parts = HourCounts(), START, 0
    while until < START + timedelta(hours=hours):
        result = reconciler(until, START + timedelta(hours=hours), advance, lambda: in_parts)
        total.add(result.total)
        until, parts = result.until, parts + 1
    return Measured(
        events=per_hour * hours,
        lost=-(-per_hour // one_lost_in) * hours,
        total=total,
        seconds=time.monotonic() - started,
        cpu_seconds=time.process_time() - cpu,
        idle_bytes=idle,
        peak_bytes=_peak(),
        parts=parts,
    )


def _peak() -> int:
    """Return the peak memory of this process alone: `ru_maxrss` would include that of its parent."""
    return Worker(os.getpid()).peak()


@contextlib.contextmanager
def _served(per_hour: int, per_object: int, one_lost_in: int) -> Iterator[str]:
    spawn = multiprocessing.get_context("spawn")
    ready, port = spawn.Event(), free_port()
    server = spawn.Process(target=_serve, args=(per_hour, per_object, one_lost_in, port, ready), daemon=True)
    server.start()
    try:
        assert ready.wait(PATIENCE), "the stand-in did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.join()


def _serve(per_hour: int, per_object: int, one_lost_in: int, port: int, ready: Event) -> None:
    async def serve() -> None:
        runner = web.AppRunner(ArchivedDay(per_hour, per_object, one_lost_in).app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(serve())


def main() -> None:
    """Measure from the command line; ends with 1 when it found other than what there is."""
    parser = argparse.ArgumentParser(description="Memory and time of a reconciliation.")
    parser.add_argument("--events", type=int, default=10_000_000, help="in all of the time")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--one-lost-in", type=int, default=ONE_LOST_IN, help="of so many events one has no row")
    arguments = parser.parse_args()
    measured = measure(arguments.events // arguments.hours, arguments.hours, one_lost_in=arguments.one_lost_in)
    lines = {
        "events": measured.events,
        "lost": measured.lost,
        "missing, says the reconciliation": measured.total.missing,
        "seconds": round(measured.seconds),
        "CPU seconds": round(measured.cpu_seconds),
        "events a second": round(measured.events / measured.seconds),
        "MB of memory, before": round(measured.idle_bytes / 1e6),
        "MB of memory, at most": round(measured.peak_bytes / 1e6),
    }
    for label, number in lines.items():
        print(f"{label:40} {number:9d}")
    if "UPDATE_DOCS" in os.environ:
        rows = "".join(f"| {label} | {number} |\n" for label, number in lines.items())
        fault_report.write("reconciliation", f"| | |\n|---|--:|\n{rows}")
    sys.exit(measured.total.missing != measured.lost or measured.total.archived != measured.events)


if __name__ == "__main__":
    main()
