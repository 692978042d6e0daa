"""Nothing leaks: threads, sockets and memory of the function are after a soak what they were before.

About ten seconds long; `SLUICE_SOAK_SECONDS` makes it longer.
"""

import asyncio
import collections
import itertools
import logging
import os
import pathlib
import random
import threading
import time

import pytest

from fake_google.answers import Answer, error
from fake_google.scripted import Cloud
from functions.ingest.threads import MAX_THREADS
from tests.limits.conftest import PAYLOADS, served
from tests.support.flood import flood, push
from tests.support.waiting import LIMIT, wait_until

logger = logging.getLogger(__name__)

SECONDS = float(os.environ.get("SLUICE_SOAK_SECONDS", "10"))
SEED = int(os.environ.get("SLUICE_SOAK_SEED", "5"))

pytestmark = [pytest.mark.check, pytest.mark.timeout(4 * SECONDS + LIMIT)]

MiB = 2**20
BAD = [b"", b"\xff", b"[]", b'{"event_type": "teleport"}', b"x" * 100_000]


def faults(cloud: Cloud, draw: random.Random) -> None:
    """Let a tenth of all calls fail, each in one of the ways in which calls fail."""
    closed = threading.Event()
    closed.set()

    def answer() -> Answer:
        if draw.random() > 0.1:
            return 200, {}
        ways: list[Answer] = [
            error(500, "internalError"),
            error(503, "backendError"),
            error(429, "rateLimitExceeded"),
            error(404, "notFound"),
            (200, {"reset": True}),
            (200, {"trickle": closed}),  # it breaks off in the middle of the answer
        ]
        time.sleep(draw.choice([0, 0, 0.2, 1.5]))
        return draw.choice(ways)

    cloud.on_upload = lambda _name: answer()
    cloud.on_insert = lambda _table, _body: answer()


async def rude(url: str, count: int, draw: random.Random) -> None:
    """Requests whose senders hang up: before the body, in the middle of it, or before the answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    for _ in range(count):
        body = push(draw.choice(PAYLOADS))
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST / HTTP/1.1\r\nhost: sluice\r\ncontent-length: %d\r\n\r\n" % len(body))
        writer.write(body[: draw.choice([0, len(body) // 2, len(body)])])
        await asyncio.sleep(draw.random() / 50)
        writer.transport.abort()


async def soak(url: str, seconds: float, draw: random.Random) -> collections.Counter[int]:
    statuses: collections.Counter[int] = collections.Counter()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        bodies = [push(draw.choice(PAYLOADS * 10 + BAD)) for _ in range(400)]
        codes, _ = await asyncio.gather(flood(url, bodies, 80), rude(url, 20, draw))
        statuses += codes
    return statuses


def test_soak_with_faults_leaks_no_threads_sockets_or_memory(tmp_path: pathlib.Path) -> None:
    draw = random.Random(SEED)
    with served(tmp_path, FLUSH_TIMEOUT="3", MAX_IN_FLIGHT="75", BATCH_ROWS="40") as running:
        worker, cloud, url = running.worker, running.cloud, running.function.url
        threads, files = worker.threads(), worker.open_files()

        def state() -> str:
            return f"threads {threads}, now {worker.threads()}; open files {files}, now {worker.open_files()}"

        def settled() -> bool:
            """Each client keeps a connection for each thread."""
            return worker.threads() <= threads + MAX_THREADS and worker.open_files() <= files + 2 * MAX_THREADS

        faults(cloud, draw)
        statuses = asyncio.run(soak(url, SECONDS / 2, draw))
        wait_until(settled, "threads and files are as few as before", state)
        resident = worker.resident()
        statuses += asyncio.run(soak(url, SECONDS / 2, draw))
        cloud.on_upload, cloud.on_insert = Cloud.on_upload, Cloud.on_insert
        wait_until(settled, "threads and files are as few as before", state)
        grown = worker.resident() - resident
        logger.info("%s; %s calls on %s connections", dict(statuses), len(cloud.calls), cloud.connections)
        logger.info("%.1f MiB, then %.1f MiB more", resident / MiB, grown / MiB)
        assert statuses.keys() <= {204, 429, 503}
        assert statuses[204] > 0
        assert grown < 16 * MiB
        assert asyncio.run(flood(url, map(push, PAYLOADS * 10), 10)) == {204: 10 * len(PAYLOADS)}
        wait_until(settled, "threads and files are as few as before", state)
        assert running.errors() == []


def test_connections_are_reused_and_none_is_discarded(tmp_path: pathlib.Path) -> None:
    with served(tmp_path, LINGER_MS="0", BATCH_ROWS="20") as running:
        cloud: Cloud = running.cloud
        cloud.latency = 0.02
        bodies = map(push, itertools.islice(itertools.cycle([*PAYLOADS, b"x"]), 2000))
        assert asyncio.run(flood(running.function.url, bodies, 200)) == {204: 2000}
        calls = len(cloud.calls)
        logger.info("%s calls on %s connections", calls, cloud.connections)
        assert calls > 300
        assert cloud.connections <= 2 * MAX_THREADS
        assert "pool" not in running.function.child.log.read_text()
        assert running.errors() == []
