"""The pipeline on Apache Beam as a stream: batches, and what becomes of events when a service or a worker fails.

Runs on BundleBasedDirectRunner, which has streams of tests and retries a bundle three times.
"""

import asyncio
import base64
import itertools
import pathlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.core.message import Message, parse_request
from functions.system import utc_now
from sluice.local import pubsub
from sluice.local.names import PROJECT, topic_name
from sluice.local.process import running
from sluice.local.stack import Emulators
from sluice.publish import Publication, publish
from tests.history.check import CheckedHistory, Totals
from tests.history.records import Acknowledgement, Recorder
from tests.support.background import event_loop
from tests.support.beam_process import ROOT, Scenarios, python, scenarios
from tests.support.datasets import Datasets, fresh_datasets
from tests.support.fault_harness import Books, Published, scenario
from tests.support.fault_proxy import (
    BIGQUERY,
    STORAGE,
    Proxy,
    Rule,
    half_written,
    insert,
    reset,
    row_errors,
    silence,
    status,
    upload,
)
from tests.support.waiting import FACTOR, PATIENCE

type Step = dict[str, Any]

TABLES = ("orders", "inventory", "user_activity", "dead_letters")
NOW = datetime.now(UTC)
BUNDLE = 10
"""Messages that BundleBasedDirectRunner pulls at once."""

pytestmark = pytest.mark.check


@pytest.fixture(scope="module")
def datasets(running_emulators: Emulators) -> Iterator[Datasets]:
    with fresh_datasets(running_emulators, views=True) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def proxy(running_emulators: Emulators) -> Iterator[Proxy]:
    """The proxy between the pipeline and the emulators. insertIds are unique behind it: BigQuery drops no duplicate."""
    made = Proxy({BIGQUERY: [running_emulators.bigquery], STORAGE: [running_emulators.storage]})
    with event_loop() as run:
        run(made.__aenter__())
        try:
            yield made
        finally:
            run(made.__aexit__())


@pytest.fixture(scope="module")
def environment(proxy: Proxy, datasets: Datasets) -> dict[str, str]:
    hosts = {"BIGQUERY_EMULATOR_HOST": proxy.url(BIGQUERY), "STORAGE_EMULATOR_HOST": proxy.url(STORAGE)}
    return {**datasets.environment, **hosts}


@pytest.fixture(scope="module")
def run(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenarios]:
    timeout = {"FLUSH_TIMEOUT": str(9 * FACTOR)}
    with scenarios(tmp_path_factory.mktemp("beam"), {**environment, **timeout}) as running:
        yield running


@pytest.fixture
def recorder(proxy: Proxy, tmp_path: pathlib.Path) -> Iterator[Recorder]:
    proxy.recorder = Recorder(tmp_path / "history.ndjson", "a stream")
    yield proxy.recorder
    proxy.recorder = None


@pytest.fixture(scope="module")
def books(datasets: Datasets) -> Books:
    return Books(datasets.settings)


def sized(message_id: int, size: int = 1) -> Message:
    return Message(b"x" * size, {}, str(message_id), NOW)


def batches(run: Scenarios, *steps: Step, rows: int = 100, size: int = 100, linger: float | None = 1.0) -> list[str]:
    """Return each batch as the ids of its messages."""
    arguments = {"steps": steps, "rows": rows, "size": size, "linger": linger}
    return [" ".join(batch) for batch in run("batches", list[list[str]], **arguments)]


def test_a_batch_has_a_maximum_of_rows_across_bundles(run: Scenarios) -> None:
    steps: list[Step] = [{"bundle": [sized(1), sized(2)]}, {"bundle": [sized(3), sized(4)]}, {"bundle": [sized(5)]}]
    assert batches(run, *steps, rows=3) == ["1 2 3", "4 5"]
    assert batches(run, *steps, rows=3, linger=None) == ["1 2", "3 4", "5"]
    assert batches(run, *steps, rows=1) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("linger", [None, 1.0])
def test_a_batch_has_a_maximum_of_bytes(run: Scenarios, linger: float | None) -> None:
    """A larger message has a batch of its own."""
    bundle = [sized(1, 60), sized(2, 60), sized(3, 40), sized(4, 1), sized(5, 400), sized(6), sized(7)]
    assert batches(run, {"bundle": bundle}, linger=linger) == ["1", "2 3", "4", "5", "6 7"]


def test_the_threads_of_a_worker_share_a_writer(run: Scenarios) -> None:
    assert run("writers", int, threads=12) == 1


def test_a_batch_waits_for_a_limited_time(run: Scenarios) -> None:
    """Its first message begins the time; the next batch has a time of its own."""
    steps: list[Step] = [
        {"bundle": [sized(1)], "seconds": 0.9},
        {"bundle": [sized(2)], "seconds": 0.2},
        {"bundle": [sized(3)], "seconds": 0.9},
        {"bundle": [sized(4)], "seconds": 0.2},
        {"bundle": [sized(5)]},
    ]
    assert batches(run, *steps) == ["1 2", "3 4", "5"]


def test_late_messages_are_batched_as_all_others(run: Scenarios) -> None:
    steps: list[Step] = [
        {"bundle": [sized(1)], "event_time": 1_000, "watermark": 2_000, "seconds": 2},
        {"bundle": [sized(2)], "event_time": 10},
        {"bundle": [sized(3)], "event_time": 2_500},
    ]
    assert batches(run, *steps) == ["1", "2 3"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
YEARS = datetime(2, 1, 1), datetime(9999, 1, 1)  # noqa: DTZ001 - the zones are drawn
TIMES = st.datetimes(*YEARS, timezones=st.just(UTC) | ZONES)


@given(
    message=st.builds(
        Message, st.binary(), st.dictionaries(TEXT, TEXT), TEXT, TIMES, st.none() | st.integers(1, 10**9), TEXT
    )
)
@settings(deadline=None, max_examples=300)
def test_the_coder_gives_back_each_message(run: Scenarios, message: Message) -> None:
    assert run("coded", Message, message=message) == message


@given(
    data=st.binary(),
    attributes=st.dictionaries(TEXT, TEXT, max_size=5),
    seconds=st.integers(0, 4 * 10**9),
    nanos=st.integers(0, 10**9 - 1),
    ordering_key=TEXT,
)
@settings(deadline=None, max_examples=300)
def test_a_message_is_read_as_the_function_reads_its_push(
    run: Scenarios, data: bytes, attributes: dict[str, str], seconds: int, nanos: int, ordering_key: str
) -> None:
    """Messages have no data, no attributes, data that is no text, or nanoseconds."""
    fields = {"data": data, "attributes": attributes, "seconds": seconds, "nanos": nanos, "ordering_key": ordering_key}
    second = datetime.fromtimestamp(seconds, UTC)
    message = {
        "messageId": "1",
        "publishTime": f"{second:%Y-%m-%dT%H:%M:%S}.{nanos:09d}Z",
        "data": base64.b64encode(data).decode(),
        "attributes": attributes,
        "orderingKey": ordering_key,
    }
    pushed = parse_request({}, msgspec.json.encode({"message": message}), utc_now)
    assert run("read", list[Message], **fields) == [pushed, pushed]


def stream(published: Published, number: int = 60) -> list[Step]:
    """Return a stream of the shop's events in bundles, and note them as published."""
    seed = next(SEEDS)
    messages: list[Message] = []
    for position, generated in enumerate(scenario(number, seed, duplicate=0.05)):
        published.add(generated)
        messages.append(Message(generated.data, generated.attributes, f"{seed}-{position}", datetime.now(UTC)))
    return [{"bundle": bundle} for bundle in itertools.batched(messages, BUNDLE, strict=False)]


SEEDS = itertools.count(20261128)


type Ended = tuple[str, int]
"""The error of a pipeline, empty where it did not fail, and how often batches were written."""


def write(run: Scenarios, steps: list[Step], **arguments: Any) -> Ended:
    """Run the pipeline on a stream, in batches of 25 messages at most."""
    ended: Ended = run("write", tuple, steps=steps, arguments=["--batch_rows=25", "--shards=2"], **arguments)
    return ended


def check(books: Books, published: Published, recorder: Recorder) -> Totals:
    """Check the history of a stream that has ended, and so is acknowledged, and that the reconciliation agrees."""
    recorder.add(Acknowledgement(sorted(published.event_ids)))
    history = CheckedHistory.end(recorder, books.contents(published.event_ids))
    history.check()
    reconciliation = books.reconciled()
    assert reconciliation.is_complete, reconciliation.summary()
    return history.totals


FAULTS: list[Rule] = [
    insert(status(403, "accessDenied"), times=2),
    insert(status(503, "backendError", after=True), times=2),
    insert(reset(), times=2),
    insert(reset(after=True), times=2),
    insert(silence(after=True), times=1),
    insert(row_errors("stopped", 0.5), times=2),
    insert(status(404, "notFound"), table="dead_letters", times=2),
    upload(status(403, "forbidden"), times=2),
    upload(status(403, "forbidden", after=True), times=2),
    upload(half_written(), times=2),
    upload(reset(after=True), times=2),
]


@pytest.mark.parametrize("rule", [pytest.param(rule, id=f"{rule.service}: {rule.fault.name}") for rule in FAULTS])
def test_a_service_that_fails_loses_nothing(
    run: Scenarios, proxy: Proxy, books: Books, recorder: Recorder, rule: Rule
) -> None:
    published = Published(recorder)
    with proxy.breaking(rule):
        error, _ = write(run, stream(published))
    assert (error, rule.hits) == ("", rule.times)
    check(books, published, recorder)


def test_a_worker_that_fails_after_the_write_loses_nothing(run: Scenarios, books: Books, recorder: Recorder) -> None:
    published = Published(recorder)
    error, attempts = write(run, stream(published), failures=3)
    assert error == ""
    assert attempts > 3
    totals = check(books, published, recorder)
    assert totals.duplicates > 0
    assert totals.copies > 0


def test_rows_that_bigquery_rejects_are_dead_letters(
    run: Scenarios, proxy: Proxy, books: Books, recorder: Recorder
) -> None:
    published = Published(recorder, may_be_rejected=True)
    with proxy.breaking(insert(row_errors("invalid", 0.2), table="orders", times=1)):
        error, _ = write(run, stream(published))
    assert error == ""
    assert check(books, published, recorder).rejected >= 1


def test_abandoned_stream_can_be_restarted(run: Scenarios, proxy: Proxy, books: Books, recorder: Recorder) -> None:
    """The runner gives up after four attempts, as Dataflow does not."""
    published = Published(recorder)
    steps = stream(published)
    with proxy.breaking(insert(status(403, "accessDenied"))):
        error, _ = write(run, steps)
    assert "403 accessDenied" in error
    assert books.missing(published.event_ids)
    assert not books.reconciled().is_complete
    error, _ = write(run, steps)
    assert error == ""
    check(books, published, recorder)


def test_published_events_become_rows(
    datasets: Datasets,
    environment: dict[str, str],
    running_emulators: Emulators,
    books: Books,
    recorder: Recorder,
    tmp_path: pathlib.Path,
) -> None:
    """This runner acknowledges before it processes, which Dataflow does not: here nothing may fail.

    No batch waits for its time: the runner looks at it after a pull, which takes 30 s where there is nothing to pull.
    """
    name, published = "beam", Published(recorder)
    asyncio.run(
        pubsub.create_wiring(
            running_emulators.pubsub,
            PROJECT,
            topic=name,
            subscription=name,
            dead_letter_topic=f"{name}-undeliverable",
            dead_letter_subscription=f"{name}-undeliverable",
            minimum_backoff=1,
            maximum_backoff=600,
        )
    )
    command = [
        str(python()),
        "-m",
        "dataflow.main",
        "--runner=BundleBasedDirectRunner",
        "--id_label=",
        "--batch_rows=1",
    ]
    command += [f"--input_subscription=projects/{PROJECT}/subscriptions/{name}"]
    messages = list(scenario(20, next(SEEDS)))
    tables = [f"{datasets.settings.dataset}.{table}" for table in TABLES]

    def stored() -> int:
        return sum(datasets.client.get_table(table).num_rows or 0 for table in tables)

    before = stored()
    with running("beam", command, tmp_path, {**environment, "PYTHONPATH": str(ROOT)}) as pipeline:
        for message in messages:
            published.add(message)
        publish((Publication(message.data, message.attributes) for message in messages), topic_name(name))
        pipeline.wait_until(lambda: stored() >= before + len(messages), PATIENCE)
    check(books, published, recorder)
