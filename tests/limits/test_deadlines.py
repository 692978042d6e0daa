"""Deadlines add up: each request is answered before Pub/Sub delivers its message again, whatever the cloud does."""

import asyncio
import collections
import pathlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import pytest

from fake_google.answers import Answer, error
from fake_google.scripted import Cloud
from functions.archive.writer import Archive
from functions.core.dead_letters import DeadLetter
from functions.core.rows import Row
from functions.drain.subscription import EXTEND_EVERY
from functions.ingest.flush import FlushServices
from functions.ingest.group_commit import GroupCommit
from functions.ingest.request_body import MAX_SECONDS
from functions.ingest.retry import within
from functions.ingest.warehouse import _PAUSES, InsertResult, InsertRow, Warehouse
from functions.settings import Settings
from sluice.local.stack import ACK_DEADLINE_SECONDS
from tests.limits.conftest import PAYLOADS, Served, served
from tests.support.configuration import configuration
from tests.support.flood import post, push
from tests.support.samples import event, message, process
from tests.support.waiting import FACTOR, PATIENCE, wait_until

pytestmark = pytest.mark.check

ROOT = pathlib.Path(__file__).parents[2]


def variable(name: str) -> float:
    """Return a default of Terraform's variables."""
    module = configuration()
    return float((module.defaults("delivery") | module.defaults("flush") | module.defaults("ingest"))[name])


def longest(seconds: float) -> float:
    """Seconds after which a client that was given so many has given up: its last try begins as late as it may."""
    return sum(within(seconds))


class Spy:
    """An archive and a warehouse that take everything at once, and remember how long they might have taken."""

    def __init__(self) -> None:
        self.archive: list[float] = []
        self.warehouse: list[float] = []

    def name(self, _: object) -> str:
        return "name"

    def uri(self, name: str) -> str:
        return name

    def write(self, _name: str, _outcomes: Sequence[Row | DeadLetter], timeout: float) -> int:
        self.archive.append(timeout)
        return 0

    def insert(self, _table: str, _records: Sequence[InsertRow], timeout: float) -> InsertResult:
        self.warehouse.append(timeout)
        return InsertResult({}, {})


async def longest_answer(settings: Settings) -> float:
    """Seconds after which a request is answered at the latest: it arrives, waits for its flush, and is flushed."""
    spy = Spy()
    commit = GroupCommit(FlushServices(process, cast("Archive", spy), cast("Warehouse", spy)), settings)
    await commit(message(event("order")))
    [archive], [warehouse] = spy.archive, spy.warehouse
    assert warehouse <= settings.flush_timeout
    flush = longest(archive) + longest(settings.flush_timeout - archive)
    assert flush <= settings.flush_timeout + 1e-9, "archive and tables, retries included, fit into a flush"
    waiting = settings.flush_timeout
    return MAX_SECONDS + waiting + flush


async def test_the_defaults_add_up() -> None:
    settings = Settings(archive_bucket="archive")
    answer = await longest_answer(settings)
    assert answer < variable("ack_deadline_seconds") < variable("timeout_seconds")
    assert answer < ACK_DEADLINE_SECONDS
    assert variable("flush_timeout") == settings.flush_timeout
    assert sum(_PAUSES) < settings.flush_timeout / 2, "every pause between rejected rows has its turn"
    assert settings.linger_ms / 1000 < settings.flush_timeout


@pytest.mark.parametrize("environment", ["dev", "prod"])
async def test_each_environment_adds_up(environment: str) -> None:
    text = (ROOT / "terraform" / "examples" / environment / "main.tf").read_text()

    def chosen(name: str) -> float:
        own = re.search(rf"\b{name} += ([\d.]+)", text)
        return float(own[1]) if own else variable(name)

    settings = Settings(archive_bucket="archive", flush_timeout=chosen("flush_timeout"))
    assert await longest_answer(settings) < chosen("ack_deadline_seconds") < chosen("timeout_seconds")


async def test_the_commands_of_the_guide_add_up() -> None:
    guide = (ROOT / "docs" / "deploy-gcloud.md").read_text()
    acks = [float(seconds) for seconds in re.findall(r"--ack-deadline=(\d+)", guide)]
    timeouts = [float(seconds) for seconds in re.findall(r"--timeout=(\d+)s", guide)]
    assert acks
    assert timeouts
    assert await longest_answer(Settings(archive_bucket="archive")) < min(acks) <= max(acks) < min(timeouts)


def test_terraform_validates_the_order_of_deadlines() -> None:
    seconds = f"{MAX_SECONDS:.0f}"
    conditions = {
        name: " ".join(rule["condition"] for rule in configuration().variables[name]["validation"])
        for name in ("delivery", "ingest")
    }
    assert f"var.delivery.ack_deadline_seconds > 2 * var.flush.flush_timeout + {seconds}" in conditions["delivery"]
    assert "var.ingest.timeout_seconds > var.delivery.ack_deadline_seconds" in conditions["ingest"]
    assert f'!= "batch" || var.delivery.ack_deadline_seconds >= {EXTEND_EVERY + 10:.0f}' in conditions["ingest"]


def test_each_description_says_the_same() -> None:
    properties = msgspec.json.schema(Settings)["$defs"]["Settings"]["properties"]
    assert f"twice this and {MAX_SECONDS:.0f} s" in properties["FLUSH_TIMEOUT"]["description"]


FLUSH_TIMEOUT = 2.0 * FACTOR
BOUND = 2 * FLUSH_TIMEOUT
SLACK = 0.75 * FLUSH_TIMEOUT
"""Seconds that a busy machine may add; a request that waited for one flush more would be late by `FLUSH_TIMEOUT`."""


def silent(until: threading.Event) -> Answer:
    until.wait(PATIENCE)
    return 200, {}


def unavailable(_: threading.Event) -> Answer:
    return error(503, "backendError")


def trickling(until: threading.Event) -> Answer:
    return 200, {} if until.is_set() else {"trickle": until}


def rejecting_rows(_: threading.Event) -> Answer:
    return 200, {"insertErrors": [{"index": 0, "errors": [{"reason": "backendError", "message": "again"}]}]}


def half_an_answer(_: threading.Event) -> Answer:
    return 200, {"reset": True}


type Fault = Callable[[threading.Event], Answer]


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The function with little time for everything, and small batches, so that most have to wait for a flush."""
    settings = {"FLUSH_TIMEOUT": str(FLUSH_TIMEOUT), "BATCH_ROWS": "5", "LINGER_MS": "50"}
    with served(tmp_path_factory.mktemp("deadlines"), **settings) as running:
        yield running


async def timed(url: str, count: int) -> list[tuple[int, float]]:
    """The status of each request and how long it took, all sent at once."""

    async def timed_post(body: bytes) -> tuple[int, float]:
        started = time.monotonic()
        return await post(url, body), time.monotonic() - started

    return await asyncio.gather(*(timed_post(push(PAYLOADS[index % len(PAYLOADS)])) for index in range(count)))


@pytest.mark.parametrize("service", ["archive", "tables"])
@pytest.mark.parametrize("fault", [silent, unavailable, trickling, rejecting_rows, half_an_answer])
def test_every_request_is_answered_within_the_bound(hurried: Served, service: str, fault: Fault) -> None:
    if (service, fault) == ("archive", rejecting_rows):
        pytest.skip("rows are rejected by tables, not by the archive")
    cloud = hurried.cloud
    gate = threading.Event()
    try:
        if service == "archive":
            cloud.on_upload = lambda _name: fault(gate)
        else:
            cloud.on_insert = lambda _table, _body: fault(gate)
        answers = asyncio.run(timed(hurried.function.url, 60))
    finally:
        gate.set()
        cloud.on_upload, cloud.on_insert = Cloud.on_upload, Cloud.on_insert
    statuses = collections.Counter(status for status, _ in answers)
    assert statuses.keys() <= {204, 429, 503}, statuses
    assert statuses[503]
    assert max(seconds for _, seconds in answers) < BOUND + SLACK
    wait_until(lambda: asyncio.run(timed(hurried.function.url, 1))[0][0] == 204, "the function has recovered")
    again = asyncio.run(timed(hurried.function.url, 3))
    assert [status for status, _ in again] == [204] * 3


def test_slow_request_gets_503_and_does_not_delay_others(hurried: Served) -> None:
    async def stall() -> tuple[bytes, float]:
        host, _, port = hurried.function.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST / HTTP/1.1\r\nhost: sluice\r\ncontent-length: 1000\r\n\r\n{")
        started = time.monotonic()
        status = await reader.readline()
        writer.transport.abort()
        return status, time.monotonic() - started

    async def both() -> tuple[tuple[bytes, float], list[tuple[int, float]]]:
        return await asyncio.gather(stall(), timed(hurried.function.url, 3))

    (status, seconds), others = asyncio.run(both())
    assert status.split()[1] == b"503"
    assert seconds < MAX_SECONDS + SLACK
    assert [status for status, _ in others] == [204] * 3
