"""Time and memory of a worker's process, at its start and while it writes. `benchmarks.beam` runs it in .venv/beam."""

import importlib
import importlib.metadata
import pathlib
import sys
import sysconfig
import threading
import time

import msgspec

BEFORE = time.process_time()

importlib.import_module("dataflow.main")

IMPORTED = time.process_time()

from benchmarks.beam_stage import SETTINGS, send_nothing, serialized, writes  # noqa: E402
from benchmarks.events import Kind  # noqa: E402
from dataflow.batches import BatchBundle  # noqa: E402
from dataflow.messages import from_bytes  # noqa: E402
from functions.ingest.http_client import Api  # noqa: E402

SECONDS = 1.0
"""Seconds that a request takes, so that all threads are in one at the same time."""


def environment() -> dict[str, int]:
    """Return the number of packages, and the bytes of their files: without bytecode, and of bytecode."""
    files = [file for file in pathlib.Path(sysconfig.get_path("purelib")).rglob("*") if file.is_file()]
    compiled = sum(file.stat().st_size for file in files if file.suffix == ".pyc")
    return {
        "packages": len({distribution.name for distribution in importlib.metadata.distributions()}),
        "bytes": sum(file.stat().st_size for file in files) - compiled,
        "bytecode": compiled,
    }


def start() -> dict[str, float]:
    """Return what this process took until it can write: seconds of CPU, and bytes of memory."""
    before = time.process_time()
    send_nothing()
    writes()
    loaded = time.process_time() - before
    return {"imports": IMPORTED - BEFORE, "contracts": loaded, "memory": _memory("VmRSS")}


def peak(threads: int, kind: Kind) -> int:
    """Return the maximum bytes of memory of a process in which so many threads write a full batch at the same time."""
    send_nothing()
    post_at_once = Api.post
    data = serialized(SETTINGS.batch_rows, kind)

    def write() -> None:
        batches = BatchBundle(SETTINGS.batch_rows, SETTINGS.batch_bytes)
        batches.start_bundle()
        complete = [batch.value for message in map(from_bytes, data) for batch in batches.process(message)]
        complete += [batch.value for batch in batches.finish_bundle()]
        writes()(complete[0])

    def post_slowly(api: Api, path: str, content_type: str, body: bytes, seconds: float) -> bytes:
        time.sleep(SECONDS)
        return post_at_once(api, path, content_type, body, seconds)

    write()
    Api.post = post_slowly  # type: ignore[assignment,method-assign]
    writers = [threading.Thread(target=write) for _ in range(threads)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    return _memory("VmHWM")


def _memory(name: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes) * 1024


def main() -> None:
    """Measure what the arguments ask for, and print JSON."""
    match sys.argv[1:]:
        case ["environment"]:
            result: object = environment()
        case ["start"]:
            result = start()
        case ["peak", threads, ("mixed" | "large_orders") as kind]:
            result = peak(int(threads), kind)
        case other:
            raise SystemExit(f"{other}: unknown")
    sys.stdout.write(msgspec.json.encode(result).decode())
