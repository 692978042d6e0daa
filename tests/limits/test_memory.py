"""Memory under a flood: what the function takes of it follows from MAX_IN_FLIGHT_BYTES, whatever comes."""

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator

import pytest

from fake_google.answers import error
from functions.core.message import MAX_EVENT_BYTES
from functions.settings import Settings
from sluice.local.functions import MEMORY
from tests.limits.conftest import PAYLOADS, Served, payload, served
from tests.support.configuration import configuration
from tests.support.flood import flood, push
from tests.support.ingest_worker import Worker

pytestmark = pytest.mark.check

logger = logging.getLogger(__name__)

MiB = 2**20
AT_ONCE = int(configuration().defaults("ingest")["concurrency"])

IN_FLIGHT = 6
"""Bytes of memory for a byte in flight: itself, four where a wide character is in a text that becomes a column, and the
losses of the heap."""
CONNECTION = 128 * 2**10
"""Maximum bytes that the server reads ahead of each connection."""
FLUSH = 70 * MiB
"""Twice: the longest message (10 MB) as text, as a line whose every byte is escaped, and compressed."""


def bound(warm: int, in_flight_bytes: int) -> int:
    """Bytes of memory at most, of a worker that takes `warm` when nothing is in flight."""
    return warm + IN_FLIGHT * in_flight_bytes + AT_ONCE * CONNECTION + 2 * FLUSH


ITEM = {"product_id": "p", "product_name": "n", "quantity": 1, "price": 1}
LARGE = MAX_EVENT_BYTES - 1000
FLOODS = {
    "small ones": (PAYLOADS, 2000),
    "orders of 1 000 items": ([payload("order", items=[ITEM] * 1000)], 300),
    "2 MiB with one wide character": ([payload("inventory", note="\U0001f600" + "x" * LARGE)], 300),
    "10 MB that JSON escapes": ([b"\x00" * 9_900_000], 400),
    "10 MB, not UTF-8": ([b"\xff" * 9_900_000], 400),
    "all of them": (
        [
            *PAYLOADS,
            b"x" * 9_900_000,
            payload("inventory", note="\U0001f600" * (LARGE // 4)),
            payload("order", items=[ITEM] * 1000),
        ],
        500,
    ),
}


@pytest.fixture(scope="module", params=[Settings(archive_bucket="archive").max_in_flight_bytes, 8 * MiB])
def flooded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, int]]:
    """The function, with all that its first events load, and how many bytes may be in flight."""
    limit: int = request.param
    with served(tmp_path_factory.mktemp("memory"), FLUSH_TIMEOUT="20", MAX_IN_FLIGHT_BYTES=str(limit)) as running:
        asyncio.run(flood(running.function.url, map(push, PAYLOADS * 20), 10))
        yield running, limit


@pytest.mark.parametrize("kind", FLOODS)
def test_memory_is_bounded_in_a_flood_with_a_slow_warehouse(flooded: tuple[Served, int], kind: str) -> None:
    running, limit = flooded
    worker, cloud, url = running.worker, running.cloud, running.function.url
    if limit != 32 * MiB and kind != "all of them":
        pytest.skip("this limit is measured with all kinds of floods together")
    payloads, count = FLOODS[kind]
    warm = WARM.setdefault(worker, worker.resident())
    bodies = [push(payload) for payload in payloads]
    worker.forget_peak()
    cloud.latency = 0.5
    started = time.monotonic()
    statuses = asyncio.run(flood(url, itertools.islice(itertools.cycle(bodies), count), AT_ONCE))
    peak = worker.peak()
    cloud.latency = 0.0
    figures = warm / MiB, peak / MiB, bound(warm, limit) / MiB
    logger.info("%s: %s in %.1f s", kind, dict(statuses), time.monotonic() - started)
    logger.info("%.0f MiB before, %.0f at most, %.0f allowed", *figures)
    assert statuses.total() == count
    assert statuses.keys() <= {204, 429, 503}
    assert peak < bound(warm, limit)
    assert worker == Worker.of(running.function), "the worker was replaced"
    assert asyncio.run(flood(url, map(push, PAYLOADS), 3)) == {204: len(PAYLOADS)}
    assert running.errors() == []


WARM: dict[Worker, int] = {}


def test_the_deployed_memory_holds_the_default_limits() -> None:
    """130 MiB are the worker's own after its first events, and what gunicorn's master does not share with it."""
    settings = Settings(archive_bucket="archive")
    assert bound(130 * MiB, settings.max_in_flight_bytes) <= MEMORY["ingest"]


def test_a_body_without_a_length_is_bounded_too(flooded: tuple[Served, int]) -> None:
    running, limit = flooded
    running.worker.forget_peak()
    running.cloud.latency = 0.5
    body = push(b"x" * 9_900_000)
    statuses = asyncio.run(flood(running.function.url, [body] * 60, 60, chunked=True))
    running.cloud.latency = 0.0
    assert statuses.keys() <= {204, 429, 503}
    assert running.worker.peak() < bound(WARM[running.worker], limit)
    assert asyncio.run(flood(running.function.url, map(push, PAYLOADS), 3, chunked=True)) == {204: len(PAYLOADS)}


@pytest.mark.parametrize("service", ["on_upload", "on_insert"])
def test_memory_is_bounded_while_a_service_fails(
    flooded: tuple[Served, int], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, limit = flooded
    if limit != 32 * MiB:
        pytest.skip("measured with the limit of 32 MiB only")
    running.worker.forget_peak()
    monkeypatch.setattr(running.cloud, service, lambda *_: error(404, "notFound"))
    body = push(b"\xff" * 9_900_000)
    statuses = asyncio.run(flood(running.function.url, [body] * 40, 2))
    assert statuses.keys() <= {429, 503}
    assert statuses[503] > 20
    assert running.worker.peak() < bound(WARM[running.worker], limit)
    monkeypatch.undo()
    assert asyncio.run(flood(running.function.url, map(push, PAYLOADS), 3)) == {204: len(PAYLOADS)}


def test_body_above_the_message_limit_is_rejected_unread(flooded: tuple[Served, int]) -> None:
    running, _ = flooded
    body = b"x" * (17 * MiB)
    assert asyncio.run(flood(running.function.url, [body], 1)) == {400: 1}
    assert asyncio.run(flood(running.function.url, [body], 1, chunked=True)) == {400: 1}
