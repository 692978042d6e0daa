"""The group commit: which requests wait for which, and the outcome of each."""

import asyncio
import contextlib
import gc
import json
import logging
import re
import threading
import time
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from starlette.requests import Request

from fake_google.answers import Answer, error, insert_errors
from fake_google.scripted import Cloud
from functions.archive import delivery
from functions.core.message import MAX_REQUEST_BYTES, Message, NotAMessage
from functions.ingest.admission import PROBE, Overloaded
from functions.ingest.app import IngestApp
from functions.ingest.batch_writer import NotDurable
from functions.ingest.flush import ProcessingFailed
from functions.ingest.group_commit import GroupCommit
from functions.ingest.request_body import NextChunk, read_body
from functions.ingest.scheduler import BACKLOG_INTERVAL, BACKLOG_THRESHOLD, INTERVAL, MAX_ARCHIVING, MAX_FLUSHES
from functions.ingest.threads import MAX_THREADS, Threads
from tests.support.push_requests import wrapped
from tests.support.samples import event, message
from tests.support.waiting import FACTOR, PATIENCE, until

type Make = Callable[..., GroupCommit]


SIZE = 412
"""Bytes of an order's message, with an event id of three characters."""


def sent(index: int, event_type: str = "order", **changes: Any) -> Message:
    return message(event(event_type, **changes), event_id=f"e-{index}")


def event_id(row: dict[str, Any]) -> str:
    """Return the event of a row of an insert."""
    identifier: str = (row["json"].get("ingest") or row["json"])["event_id"]
    return identifier


async def commit_all(commit: GroupCommit, messages: list[Message]) -> list[BaseException | None]:
    return await asyncio.gather(*(commit(message) for message in messages), return_exceptions=True)


def flushes(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in caplog.records if record.message == "flush"]


def hold_uploads(cloud: Cloud, which: str = "") -> threading.Event:
    """Let uploads of objects whose name ends so wait until the event is set."""
    gate = threading.Event()

    def upload(name: str) -> Answer:
        if name.endswith(which):
            gate.wait(PATIENCE)
        return 200, {}

    cloud.on_upload = upload
    return gate


@contextlib.contextmanager
def only_the_collector_frees() -> Iterator[list[object]]:
    """Gives the frames that were left behind, as only the collector finds them: they hold all that they worked on."""
    kept: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield kept
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kept += [
            garbage
            for garbage in gc.garbage
            if isinstance(garbage, types.FrameType) and "functions" in garbage.f_code.co_filename
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def threads(commit: GroupCommit) -> Threads:
    """Return the threads of a group commit."""
    threads = commit._services.threads
    assert isinstance(threads, Threads)
    return threads


class Clock:
    """The clock of a group commit, which stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def pause() -> None:
    """Let time pass in which whatever could happen by mistake would happen."""
    for _ in range(20):
        await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "functions")


async def test_single_event_is_flushed_immediately(cloud: Cloud, group_commit: Make) -> None:
    await group_commit(clock=Clock(), linger_ms=10_000)(sent(1))
    assert cloud.calls == ["upload", "insert orders"]


async def test_concurrent_events_share_one_object_and_one_insert_per_table(cloud: Cloud, group_commit: Make) -> None:
    commit = group_commit(linger_ms=10_000)
    kinds = ["order", "inventory", "user_activity"]
    messages = [sent(index, kinds[index % 3]) for index in range(90)] + [sent(90, status="lost")]
    cloud.latency = 0.05
    assert await commit_all(commit, messages) == [None] * 91
    assert cloud.calls.count("upload") == 1
    assert sorted(cloud.calls[1:]) == [
        "insert dead_letters",
        "insert inventory",
        "insert orders",
        "insert user_activity",
    ]
    assert [len(cloud.rows(table)) for table in ("orders", "inventory", "user_activity", "dead_letters")] == [
        30,
        30,
        30,
        1,
    ]


async def test_the_next_flush_takes_all_that_came_during_the_last(cloud: Cloud, group_commit: Make) -> None:
    gate = hold_uploads(cloud)
    commit = group_commit(clock=Clock())
    first = asyncio.create_task(commit(sent(0)))
    await until(lambda: cloud.calls == ["upload"])
    rest = asyncio.create_task(commit_all(commit, [sent(index) for index in range(1, 20)]))
    await pause()
    assert cloud.calls == ["upload"]
    gate.set()
    await asyncio.gather(first, rest)
    assert [len(lines) for lines in cloud.objects.values()] == [1, 19]


async def test_next_flush_uploads_while_others_insert_up_to_the_limit(cloud: Cloud, group_commit: Make) -> None:
    gate = threading.Event()

    def insert(_table: str, _body: dict[str, Any]) -> Answer:
        gate.wait(PATIENCE)
        return 200, {}

    cloud.on_insert = insert
    clock = Clock()
    commit = group_commit(clock=clock, flush_timeout=200)
    running = []
    for number in range(MAX_FLUSHES):
        running.append(asyncio.create_task(commit_all(commit, [sent(number), sent(number)])))
        if number:
            await pause()
            assert cloud.calls.count("upload") == number, "an interval has to pass first"
            clock.now += INTERVAL
        await until(lambda: cloud.calls == ["upload", "insert orders"] * len(running))
    rest = asyncio.create_task(commit(sent(9)))
    clock.now += INTERVAL
    await pause()
    assert cloud.calls.count("upload") == MAX_FLUSHES
    gate.set()
    await asyncio.gather(*running, rest)
    assert [len(lines) for lines in cloud.objects.values()] == [2] * MAX_FLUSHES + [1]


async def test_backlog_starts_a_second_upload_but_no_third(cloud: Cloud, group_commit: Make) -> None:
    gate, clock = hold_uploads(cloud), Clock()
    commit = group_commit(clock=clock, linger_ms=10_000, flush_timeout=200)
    first = asyncio.create_task(commit(sent(0)))
    await until(lambda: cloud.calls == ["upload"])
    few = asyncio.create_task(commit_all(commit, [sent(1)] * (BACKLOG_THRESHOLD - 1)))
    clock.now += BACKLOG_INTERVAL
    await pause()
    assert cloud.calls == ["upload"]
    one_more = asyncio.create_task(commit(sent(2)))
    await until(lambda: cloud.calls == ["upload"] * 2)
    rest = asyncio.create_task(commit_all(commit, [sent(3)] * BACKLOG_THRESHOLD))
    clock.now += BACKLOG_INTERVAL
    await pause()
    assert cloud.calls == ["upload"] * 2
    gate.set()
    await asyncio.gather(first, few, one_more, rest)
    assert sorted(len(lines) for lines in cloud.objects.values()) == [1, BACKLOG_THRESHOLD, BACKLOG_THRESHOLD]


async def test_beside_a_flush_that_is_over_soon_none_is_started(cloud: Cloud, group_commit: Make) -> None:
    commit = group_commit(clock=Clock())
    await commit(sent(0))
    gate = hold_uploads(cloud)
    first = asyncio.create_task(commit(sent(1)))
    await until(lambda: cloud.calls.count("upload") == 2)
    rest = asyncio.create_task(commit_all(commit, [sent(index) for index in range(2, 12)]))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, rest)
    assert [len(lines) for lines in cloud.objects.values()] == [1, 1, 10]


@pytest.mark.parametrize("limit", [{"batch_rows": 10}, {"batch_bytes": 10 * SIZE}])
async def test_full_batch_starts_a_second_flush_but_no_third(
    cloud: Cloud, group_commit: Make, limit: dict[str, int]
) -> None:
    assert sent(1).size == SIZE
    gate = hold_uploads(cloud)
    commit = group_commit(clock=Clock(), flush_timeout=200, **limit)
    first = asyncio.create_task(commit(sent(0)))
    await until(lambda: cloud.calls == ["upload"])
    second = asyncio.create_task(commit_all(commit, [sent(1)] * 9))
    await pause()
    assert cloud.calls == ["upload"]
    rest = asyncio.create_task(commit_all(commit, [sent(1)] * 21))
    await until(lambda: cloud.calls == ["upload", "upload"])
    await pause()
    assert cloud.calls == ["upload", "upload"]
    gate.set()
    assert [*await asyncio.gather(first, second, rest)] == [None, [None] * 9, [None] * 21]
    assert sorted(len(lines) for lines in cloud.objects.values()) == [1, 10, 10, 10]


async def test_lingering_event_is_flushed_while_another_flush_hangs(cloud: Cloud, group_commit: Make) -> None:
    gate, clock = hold_uploads(cloud, which="-00000001.ndjson.gz"), Clock()
    commit = group_commit(clock=clock, linger_ms=100, flush_timeout=200)
    hanging = asyncio.create_task(commit(sent(0)))
    await until(lambda: cloud.calls == ["upload"])
    lingering = asyncio.create_task(commit(sent(1)))
    await pause()
    assert cloud.calls == ["upload"]
    clock.now += 0.1
    await lingering
    assert not hanging.done()
    gate.set()
    await hanging


async def test_an_interval_is_waited_for_unless_a_batch_is_full(cloud: Cloud, group_commit: Make) -> None:
    commit = group_commit(batch_rows=3, flush_interval=100, flush_timeout=200)
    await commit(sent(0))
    waiting = [asyncio.create_task(commit(sent(index))) for index in (1, 2)]
    await pause()
    assert [len(lines) for lines in cloud.objects.values()] == [1]
    await asyncio.gather(commit(sent(3)), *waiting)
    assert sorted(len(lines) for lines in cloud.objects.values()) == [1, 3]


async def test_a_batch_closes_before_it_has_too_many_bytes(cloud: Cloud, group_commit: Make) -> None:
    size = sent(0).size
    commit = group_commit(batch_bytes=3 * size)
    assert await commit_all(commit, [sent(index) for index in range(7)]) == [None] * 7
    assert sorted(len(lines) for lines in cloud.objects.values()) == [1, 3, 3]


async def test_an_event_larger_than_a_batch_has_a_flush_of_its_own(cloud: Cloud, group_commit: Make) -> None:
    commit = group_commit(batch_bytes=10)
    assert await commit_all(commit, [sent(1), sent(2)]) == [None, None]
    assert [len(lines) for lines in cloud.objects.values()] == [1, 1]


@pytest.mark.parametrize("limit", [{"max_in_flight": 5}, {"max_in_flight_bytes": 2100}])
async def test_events_above_the_limit_are_rejected_and_accepted_later(
    cloud: Cloud, group_commit: Make, limit: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert 5 * sent(0).size <= 2100 < 6 * sent(0).size
    cloud.latency = 0.05
    commit = group_commit(**limit)
    answers = await commit_all(commit, [sent(index) for index in range(8)])
    assert [type(answer) for answer in answers] == [type(None)] * 5 + [Overloaded] * 3
    assert await commit_all(commit, [sent(index) for index in range(5)]) == [None] * 5
    assert sum(flush["rejected"] for flush in flushes(caplog)) == 3


async def test_a_message_larger_than_the_limit_in_bytes_is_taken_alone(cloud: Cloud, group_commit: Make) -> None:
    await group_commit(max_in_flight_bytes=1)(sent(1))
    assert len(cloud.objects) == 1


def arriving(*chunks: bytes, gate: asyncio.Event | None = None) -> NextChunk:
    remaining = list(chunks)

    async def next_chunk() -> tuple[bytes, bool]:
        if remaining:
            chunk = remaining.pop(0)
            return chunk, bool(remaining or gate)
        if gate:
            await gate.wait()
        return b"", False

    return next_chunk


@pytest.mark.parametrize("length", [None, 1500])
async def test_a_request_that_arrives_is_in_flight(cloud: Cloud, group_commit: Make, length: int | None) -> None:
    commit = group_commit(max_in_flight_bytes=1600)
    gate = asyncio.Event()
    receiving = asyncio.create_task(read_body(arriving(b"x" * 1000, b"y" * 500, gate=gate), length, commit.admission))
    await pause()
    with pytest.raises(Overloaded, match="1 events, 1500 bytes"):
        await commit(sent(1))
    gate.set()
    assert await receiving == b"x" * 1000 + b"y" * 500
    await commit(sent(1))


async def test_of_a_request_that_has_no_room_nothing_is_read(cloud: Cloud, group_commit: Make) -> None:
    gate = hold_uploads(cloud)
    commit = group_commit(max_in_flight_bytes=1600)
    flushing = asyncio.create_task(commit(sent(1)))
    await until(lambda: cloud.calls == ["upload"])
    chunks = arriving(b"x" * 1500)
    with pytest.raises(Overloaded):
        await read_body(chunks, 1500, commit.admission)
    assert await chunks() == (b"x" * 1500, False)
    with pytest.raises(Overloaded):
        await read_body(arriving(b"x" * 800, b"y" * 800), None, commit.admission)
    gate.set()
    await flushing


async def test_request_body_that_times_out_is_retried_and_frees_its_room(
    cloud: Cloud, group_commit: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.ingest.request_body.MAX_SECONDS", 0.05)
    commit = group_commit(max_in_flight=1)
    with pytest.raises(NotDurable, match="did not arrive"):
        await read_body(arriving(b"x", gate=asyncio.Event()), 2, commit.admission)
    await commit(sent(1))


@pytest.mark.parametrize("length", [None, MAX_REQUEST_BYTES + 1])
async def test_a_request_longer_than_any_message_is_none(cloud: Cloud, group_commit: Make, length: int | None) -> None:
    commit = group_commit()
    with pytest.raises(NotAMessage, match="more than"):
        await read_body(arriving(b"x" * MAX_REQUEST_BYTES, b"x"), length, commit.admission)
    await commit(sent(1))


async def test_requests_are_answered_while_all_threads_are_blocked(cloud: Cloud, group_commit: Make) -> None:
    gate = threading.Event()
    cloud.on_insert = lambda *_: (200, {} if gate.is_set() else {"trickle": gate})
    commit = group_commit(flush_timeout=0.3, batch_rows=1, linger_ms=0)
    for _ in range(3):
        answers = await commit_all(commit, [sent(index) for index in range(10)])
        assert {type(answer) for answer in answers} == {NotDurable}
    executor = threads(commit)._executor
    assert isinstance(executor, ThreadPoolExecutor)
    assert executor._work_queue.qsize() == 0
    gate.set()
    await until(lambda: threads(commit)._free._value == MAX_THREADS)
    while await commit_all(commit, [sent(0)]) != [None]:  # A slow machine needs more than the 0.3 s of a flush.
        await pause()


async def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    pool, all_run = Threads(), threading.Barrier(MAX_THREADS)
    await asyncio.gather(*(pool.run(all_run.wait, PATIENCE) for _ in range(MAX_THREADS)))


def test_a_call_that_outlives_its_loop_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    pool, started, gate = Threads(), threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        gate.wait(PATIENCE)

    async def leave() -> None:
        running = asyncio.create_task(pool.run(call))
        await until(started.is_set)
        running.cancel()

    asyncio.run(leave())
    gate.set()
    pool._executor.shutdown()
    assert caplog.records == []


async def test_archive_is_written_before_rows_that_name_its_object(cloud: Cloud, group_commit: Make) -> None:
    await group_commit()(sent(1))
    assert cloud.calls == ["upload", "insert orders"]
    [name] = cloud.objects
    assert cloud.rows("orders")[0]["ingest"]["archive_uri"] == f"gs://archive/{name}"


async def test_every_message_is_archived_and_counted_by_type(cloud: Cloud, group_commit: Make) -> None:
    messages = [sent(1), sent(2, "inventory"), sent(3, status="lost")]
    messages += [message(b"\xff", event_id="e-4"), message({"event_type": "x" * 9999})]
    await commit_all(group_commit(), messages)
    [lines], [metadata] = cloud.objects.values(), cloud.metadata.values()
    digest = sum(delivery.digest(line["event_id"], line["message_id"]) for line in lines)
    assert metadata == {"order": "2", "inventory": "1", "unknown": "2", "deliveries-digest": str(digest)}
    assert [line["event_id"] for line in lines] == ["e-1", "e-2", "e-3", "e-4", "e-1"]
    assert lines[0]["payload"].encode() == messages[0].data
    assert lines[3]["payload_base64"] == "/w=="


async def test_no_rows_are_inserted_while_the_archive_fails(
    cloud: Cloud, group_commit: Make, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.on_upload = lambda _: error(503, "backendError")
    answers = await commit_all(group_commit(flush_timeout=1.5 * FACTOR), [sent(1), sent(2)])
    assert [type(answer) for answer in answers] == [NotDurable] * 2
    assert cloud.calls.count("upload") > 1
    assert cloud.inserts == []
    [flush] = flushes(caplog)
    assert (flush["failed"], flush["rows"]) == (2, {})


@pytest.mark.parametrize("answer", [error(404, "notFound"), (200, {"reset": True})], ids=["404", "reset"])
@pytest.mark.parametrize("service", ["insert", "upload"])
async def test_failed_flush_leaves_no_reference_cycles(
    cloud: Cloud, group_commit: Make, service: str, answer: Answer
) -> None:
    if service == "insert":
        cloud.on_insert = lambda *_: answer
    else:
        cloud.on_upload = lambda _: answer
    commit = group_commit(flush_timeout=0.6)
    assert [type(error) for error in await commit_all(commit, [sent(0)])] == [NotDurable]
    with only_the_collector_frees() as kept:
        assert [type(error) for error in await commit_all(commit, [sent(1)])] == [NotDurable]
        await until(lambda: threads(commit)._free._value == MAX_THREADS)
    assert kept == []


async def test_an_unforeseen_error_keeps_nothing_of_its_batch(
    group_commit: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames of its traceback refer to the flush, which refers to all events, each with its acknowledgement."""
    commit = group_commit()
    usual = commit._services.process

    def process(message: Message, now: datetime) -> Any:
        if message.event_id == "e-1":
            try:
                int(message.event_id)
            except ValueError as error:
                raise KeyError("a defect") from error
        return usual(message, now)

    monkeypatch.setattr(commit._services, "process", process)
    app = IngestApp(commit, "project", "7")

    async def post(index: int) -> int:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(wrapped(event("order"), f"e-{index}")).encode()}

        return (await app(Request({"type": "http", "method": "POST", "headers": []}, receive))).status_code

    assert [*await asyncio.gather(post(0), post(1))] == [204, 500]
    with only_the_collector_frees() as kept:
        assert [*await asyncio.gather(post(1), post(2))] == [500, 204]
        await until(lambda: not commit._flushes)
    assert kept == []


async def test_aborted_request_leaves_no_reference_cycles(group_commit: Make) -> None:
    commit = group_commit()
    chunks = iter([b"x" * 1000])

    async def next_chunk() -> tuple[bytes, bool]:
        await asyncio.sleep(0)
        if chunk := next(chunks, b""):
            return chunk, True
        raise ConnectionResetError

    with only_the_collector_frees() as kept:
        with contextlib.suppress(ConnectionResetError):
            await read_body(next_chunk, 2000, commit.admission)
        await asyncio.sleep(0)
    assert kept == []


async def test_failing_table_fails_only_its_own_events(cloud: Cloud, group_commit: Make) -> None:
    cloud.on_insert = lambda table, _: error(500, "internalError") if table == "orders" else (200, {})
    answers = await commit_all(group_commit(flush_timeout=1.5 * FACTOR), [sent(1), sent(2, "inventory")])
    assert [type(answer) for answer in answers] == [NotDurable, type(None)]


PASSING = [
    (503, "backendError"),
    (403, "rateLimitExceeded"),
    (403, "userRateLimitExceeded"),
    (408, "requestTimeout"),
    (500, "internalError"),
    (504, "timeout"),
    (429, "x"),
]


@pytest.mark.parametrize("answer", PASSING, ids=str)
@pytest.mark.parametrize("service", ["insert", "upload"])
async def test_transient_error_is_retried_within_the_flush(
    cloud: Cloud, group_commit: Make, service: str, answer: tuple[int, str]
) -> None:
    failures = iter([error(*answer)])
    if service == "insert":
        cloud.on_insert = lambda *_: next(failures, (200, {}))
    else:
        cloud.on_upload = lambda _: next(failures, (200, {}))
    assert await commit_all(group_commit(), [sent(1), sent(2)]) == [None, None]
    assert len(cloud.rows("orders")) == 2
    assert len([call for call in cloud.calls if call.startswith(service)]) == 2


@pytest.mark.parametrize("answer", [(403, "accessDenied"), (403, "quotaExceeded"), (404, "notFound")], ids=str)
@pytest.mark.parametrize("service", ["insert", "upload"])
async def test_permanent_error_is_retried_only_by_pubsub(
    cloud: Cloud, group_commit: Make, service: str, answer: tuple[int, str]
) -> None:
    if service == "insert":
        cloud.on_insert = lambda *_: error(*answer)
    else:
        cloud.on_upload = lambda _: error(*answer)
    assert [type(error) for error in await commit_all(group_commit(), [sent(1)])] == [NotDurable]
    assert len([call for call in cloud.calls if call.startswith(service)]) == 1


async def test_an_object_that_did_arrive_in_an_earlier_try_is_written(cloud: Cloud, group_commit: Make) -> None:
    answers = iter([error(503, "backendError"), error(412, "conditionNotMet")])
    cloud.on_upload = lambda _: next(answers)
    await group_commit()(sent(1))
    assert len(cloud.rows("orders")) == 1


async def test_unexpected_response_of_cloud_storage_is_not_durable(cloud: Cloud, group_commit: Make) -> None:
    cloud.on_upload = lambda _: (200, {"name": None})
    assert [type(error) for error in await commit_all(group_commit(), [sent(1)])] == [NotDurable]
    assert cloud.inserts == []


async def test_rejected_row_becomes_a_dead_letter_and_the_others_are_rows(
    cloud: Cloud, group_commit: Make, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.on_insert = lambda table, _: insert_errors((1, "invalid")) if table == "orders" else (200, {})
    assert await commit_all(group_commit(), [sent(index) for index in range(3)]) == [None] * 3
    assert [row["ingest"]["event_id"] for row in cloud.rows("orders")] == ["e-0", "e-2"]
    [letter] = cloud.rows("dead_letters")
    assert (letter["event_id"], letter["stage"], letter["event_type"]) == ("e-1", "warehouse", "order")
    assert letter["errors"] == [{"path": "$.total_amount", "rule": "invalid", "message": "row 1"}]
    [flush] = flushes(caplog)
    assert (flush["rows"], flush["dead_letters"]) == ({"orders": 2}, {"warehouse": 1})


async def test_rows_that_were_stopped_by_a_bad_neighbour_are_inserted(cloud: Cloud, group_commit: Make) -> None:
    def stop_all(table: str, body: dict[str, Any]) -> Answer:
        ids = [event_id(row) for row in body["rows"]]
        if table == "orders" and "e-1" in ids:
            return insert_errors(
                *((i, "invalid" if event_id == "e-1" else "stopped") for i, event_id in enumerate(ids))
            )
        return 200, {}

    cloud.on_insert = stop_all
    assert await commit_all(group_commit(), [sent(index) for index in range(3)]) == [None] * 3
    assert [row["ingest"]["event_id"] for row in cloud.rows("orders")] == ["e-0", "e-2"]
    assert [letter["event_id"] for letter in cloud.rows("dead_letters")] == ["e-1"]


async def test_rows_with_retryable_errors_are_retried_until_the_deadline(cloud: Cloud, group_commit: Make) -> None:
    cloud.on_insert = lambda *_: insert_errors((0, "backendError"))
    with pytest.raises(NotDurable, match="orders: backendError"):
        await group_commit(flush_timeout=2 * FACTOR)(sent(1))
    assert cloud.calls.count("insert orders") > 2
    assert cloud.rows("dead_letters") == []


async def test_a_batch_too_large_for_bigquery_is_halved_until_it_fits(cloud: Cloud, group_commit: Make) -> None:
    def three_at_most(_: str, body: dict[str, Any]) -> Answer:
        return (200, {}) if len(body["rows"]) <= 3 else error(413, "uploadTooLarge")

    cloud.on_insert = three_at_most
    assert await commit_all(group_commit(), [sent(index) for index in range(10)]) == [None] * 10
    assert {row["ingest"]["event_id"] for row in cloud.rows("orders")} == {f"e-{index}" for index in range(10)}


@pytest.mark.parametrize("status", [413, 400])
async def test_halving_a_batch_isolates_the_invalid_row(cloud: Cloud, group_commit: Make, status: int) -> None:
    def insert(table: str, body: dict[str, Any]) -> Answer:
        ids = [event_id(row) for row in body["rows"]]
        if table == "orders" and len(ids) > 2:
            return error(status, "Request payload size exceeds the limit: 10485760 bytes")
        bad = [(index, "invalid") for index, event_id in enumerate(ids) if table == "orders" and event_id == "e-6"]
        return insert_errors(*bad) if bad else (200, {})

    cloud.on_insert = insert
    assert await commit_all(group_commit(), [sent(index) for index in range(8)]) == [None] * 8
    assert [letter["event_id"] for letter in cloud.rows("dead_letters")] == ["e-6"]
    assert {row["ingest"]["event_id"] for row in cloud.rows("orders")} == {f"e-{index}" for index in range(8)} - {"e-6"}


async def test_other_rejection_of_a_request_makes_no_dead_letter(cloud: Cloud, group_commit: Make) -> None:
    cloud.on_insert = lambda *_: error(400, "invalid")
    with pytest.raises(NotDurable):
        await group_commit()(sent(1))
    assert cloud.calls.count("insert orders") == 1


async def test_missing_column_is_retried_and_does_not_block_other_events(cloud: Cloud, group_commit: Make) -> None:
    def insert(table: str, body: dict[str, Any]) -> Answer:
        bad = [index for index, row in enumerate(body["rows"]) if event_id(row) == "e-1" and table == "orders"]
        errors = [{"reason": "invalid", "location": "status", "message": "bad value"}]
        errors += [{"reason": "invalid", "location": "extras", "message": "no such field: extras."}]
        return 200, {"insertErrors": [{"index": index, "errors": errors} for index in bad]}

    cloud.on_insert = insert
    answers = await commit_all(group_commit(), [sent(index) for index in range(3)])
    assert cloud.calls.count("insert orders") == 1
    assert [str(answer) for answer in answers] == ["None", "orders lacks a column: extras", "None"]
    assert cloud.rows("dead_letters") == []


async def test_idempotent_requests_carry_their_preconditions(cloud: Cloud, group_commit: Make) -> None:
    bodies: list[dict[str, Any]] = []

    def insert(_: str, body: dict[str, Any]) -> Answer:
        bodies.append(body)
        return 200, {}

    cloud.on_insert = insert
    await group_commit()(sent(1))
    [body] = bodies
    assert body["skipInvalidRows"] is True
    assert [row["insertId"] for row in body["rows"]] == [
        row["json"]["ingest"]["content_digest"] for row in body["rows"]
    ]
    assert ["ifGenerationMatch=0" in path for path in cloud.posted if path.startswith("/upload/")] == [True]


async def test_attributes_count_as_much_as_payload(cloud: Cloud, group_commit: Make) -> None:
    messages = [message(b"", f"e-{index}", note="x" * 1000) for index in range(3)]
    assert await commit_all(group_commit(batch_bytes=2100), messages) == [None] * 3
    assert sorted(len(lines) for lines in cloud.objects.values()) == [1, 2]


async def test_a_row_too_large_for_bigquery_is_a_dead_letter(cloud: Cloud, group_commit: Make) -> None:
    cloud.on_insert = lambda table, _: error(413, "uploadTooLarge") if table == "orders" else (200, {})
    await group_commit()(sent(1))
    assert "too large" in cloud.rows("dead_letters")[0]["errors"][0]["message"]


async def test_dead_letter_that_cannot_be_written_is_not_durable(cloud: Cloud, group_commit: Make) -> None:
    cloud.on_insert = lambda *_: insert_errors((0, "invalid"))
    with pytest.raises(NotDurable, match="dead_letters rejected a row"):
        await group_commit()(sent(1, status="lost"))


async def test_unexpected_error_fails_only_its_own_request(
    cloud: Cloud, group_commit: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = group_commit()
    usual = commit._services.process

    def process(message: Message, now: datetime) -> Any:
        if message.event_id == "e-1":
            raise KeyError("a defect")
        return usual(message, now)

    monkeypatch.setattr(commit._services, "process", process)
    answers = await commit_all(commit, [sent(index) for index in range(3)])
    assert [type(answer) for answer in answers] == [type(None), ProcessingFailed, type(None)]
    assert re.fullmatch(r"KeyError, .*test_commit\.py:\d+", str(answers[1]))
    assert [row["ingest"]["event_id"] for row in cloud.rows("orders")] == ["e-0", "e-2"]
    with pytest.raises(ProcessingFailed):
        await commit(sent(1))
    assert await commit_all(commit, [sent(3)]) == [None]
    assert cloud.calls.count("upload") == 2


async def test_a_cancelled_request_does_not_hurt_its_batch(cloud: Cloud, group_commit: Make) -> None:
    gate = hold_uploads(cloud)
    commit = group_commit()
    tasks = [asyncio.create_task(commit(sent(index))) for index in range(3)]
    await until(lambda: cloud.calls == ["upload"])
    tasks[1].cancel()
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [type(None), asyncio.CancelledError, type(None)]
    assert len(cloud.rows("orders")) == 3
    assert await commit_all(commit, [sent(9)]) == [None]


async def test_event_queued_past_the_flush_timeout_is_rejected(cloud: Cloud, group_commit: Make) -> None:
    gate, clock = hold_uploads(cloud), Clock()
    commit = group_commit(clock=clock, flush_timeout=200, batch_rows=1, max_in_flight=6)
    tasks = [asyncio.create_task(commit(sent(index))) for index in range(6)]
    await until(lambda: cloud.calls == ["upload"] * MAX_ARCHIVING)
    clock.now += 200.1
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    # The time of the first ones is over, too: whether they are durable is a race.
    assert [str(answer) for answer in answers[MAX_ARCHIVING:]] == ["no flush was free in time"] * 4
    assert await commit_all(commit, [sent(index) for index in range(6)]) == [None] * 6


async def test_queued_events_are_rejected_when_nothing_becomes_durable(cloud: Cloud, group_commit: Make) -> None:
    gate = threading.Event()

    def upload(_: str) -> Answer:
        gate.wait(PATIENCE)
        return error(503, "backendError")

    cloud.on_upload = upload
    commit = group_commit(clock=Clock(), flush_timeout=200, batch_rows=5, max_in_flight=100)
    while commit._services.archive._api.service.retries.take(time.monotonic()):
        pass
    tasks = [asyncio.create_task(commit(sent(index))) for index in range(40)]
    await until(lambda: cloud.calls == ["upload"] * MAX_ARCHIVING)
    gate.set()
    answers = [type(answer) for answer in await asyncio.gather(*tasks, return_exceptions=True)]
    assert answers.count(NotDurable) + answers.count(Overloaded) == 40
    assert answers.count(Overloaded) >= 40 - PROBE - 2 * 5, "only what is being flushed is tried"
    cloud.on_upload = lambda _: (200, {})
    assert await commit_all(commit, [sent(index) for index in range(PROBE)]) == [None] * PROBE


async def test_cancelled_requests_leave_nothing_in_flight(cloud: Cloud, group_commit: Make) -> None:
    gate = hold_uploads(cloud, which="-00000001.ndjson.gz")
    commit = group_commit(batch_rows=1, linger_ms=0)
    cancelled = asyncio.create_task(commit(sent(0)))
    await until(lambda: cloud.calls == ["upload"])
    await commit(sent(1))
    cancelled.cancel()
    cloud.on_insert = lambda *_: error(503, "backendError")
    while commit._services.warehouse._api.service.retries.take(time.monotonic()):
        pass
    gate.set()
    await until(lambda: not commit._flushes)
    assert (commit.admission.events, commit.admission.size, commit._scheduler.running) == (0, 0, 0)


async def test_a_table_that_hangs_holds_up_its_own_events_only(cloud: Cloud, group_commit: Make) -> None:
    gate = threading.Event()

    def insert(table: str, _: dict[str, Any]) -> Answer:
        if table == "inventory":
            gate.wait(PATIENCE)
        return 200, {}

    cloud.on_insert = insert
    commit = group_commit(flush_timeout=200)
    hanging = []
    for number in range(3 * MAX_FLUSHES):
        hanging.append(asyncio.create_task(commit(sent(number, "inventory"))))
        assert await commit_all(commit, [sent(number), sent(number)]) == [None] * 2
    assert not any(task.done() for task in hanging)
    gate.set()
    await asyncio.gather(*hanging)
    assert commit.admission.events == 0


@pytest.mark.parametrize("service", ["insert orders", "upload"])
async def test_a_call_that_hangs_is_given_up_in_time_for_another_try(
    cloud: Cloud, group_commit: Make, service: str
) -> None:
    gate = threading.Event()

    def hang_once() -> Answer:
        if cloud.calls.count(service) == 1:
            gate.wait(PATIENCE)
        return 200, {}

    cloud.on_insert = lambda _table, _body: hang_once() if service == "insert orders" else (200, {})
    cloud.on_upload = lambda _name: hang_once() if service == "upload" else (200, {})
    await group_commit(flush_timeout=3 * FACTOR)(sent(1))
    assert cloud.calls.count(service) == 2
    gate.set()


async def test_the_archive_has_half_the_time_of_a_flush(group_commit: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = group_commit(flush_timeout=200)
    timeouts: list[float] = []

    def write(_name: str, _outcomes: object, timeout: float) -> int:
        timeouts.append(timeout)
        return 1

    monkeypatch.setattr(commit._services.archive, "write", write)
    await commit(sent(1))
    assert timeouts == [100]


async def test_slow_response_blocks_no_longer_than_the_flush_timeout(cloud: Cloud, group_commit: Make) -> None:
    gate = threading.Event()

    def trickle(table: str, _: dict[str, Any]) -> Answer:
        return (200, {"trickle": gate}) if table == "orders" else (200, {})

    cloud.on_insert = trickle
    commit = group_commit(flush_timeout=1 * FACTOR)
    answers = await commit_all(commit, [sent(1), sent(2, "inventory")])
    assert [type(answer) for answer in answers] == [NotDurable, type(None)]
    gate.set()


async def test_a_flush_writes_one_log_line_with_its_counts_and_times(
    cloud: Cloud, group_commit: Make, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.latency = 0.02
    messages = [sent(1, coupon="x"), sent(2, "inventory"), sent(3, status="lost"), sent(4, status="lost")]
    await commit_all(group_commit(), messages)
    [record] = caplog.records
    [flush] = flushes(caplog)
    assert (record.levelname, flush["events"], flush["unknown_fields"], flush["errors"]) == ("WARNING", 4, 1, [])
    assert (flush["rows"], flush["dead_letters"]) == ({"orders": 1, "inventory": 1}, {"contract": 2})
    assert flush["archive_ms"] >= 20
    assert flush["insert_ms"] >= 20
    assert flush["message_bytes"] == sum(message.size for message in messages)
    json.dumps(flush)
