"""The overload benchmark delivers as Pub/Sub does, and finds out when goodput has recovered."""

import asyncio
import collections
import pathlib
import subprocess
import sys
from random import Random

import pytest
from typer.testing import CliRunner

from benchmarks import page
from benchmarks.events import Body, event_id
from benchmarks.machine import Machine
from benchmarks.overload import report
from benchmarks.overload.__main__ import app
from benchmarks.overload.records import PhaseRecord, Record, Records, Sample, goodput, read, recovered_after
from benchmarks.overload.scenarios import METASTABLE, SCENARIOS
from benchmarks.overload.subscription import Backoff, Subscription
from tests.support.docs import ROOT
from tests.support.scripted_server import NO_CONTENT, UNAVAILABLE, Answer, server
from tests.support.waiting import PATIENCE, until

BODY = Body((b'{"event":"', b'","message":"', b'"}'), is_bad=False)
AT_ONCE = Backoff(minimum=0.0, maximum=0.0)


def test_pauses_double_from_the_minimum_to_the_maximum() -> None:
    backoff = Backoff(minimum=1.0, maximum=10.0, jitter=0.0)
    rng = Random(1)
    assert [backoff.pause(deliveries, rng) for deliveries in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert backoff.pause(10**6, rng) == 10


def test_jitter_only_lengthens_a_pause() -> None:
    backoff = Backoff(minimum=1.0, maximum=10.0, jitter=0.2)
    rng = Random(1)
    pauses = [backoff.pause(2, rng) for _ in range(100)]
    assert 2.0 <= min(pauses) < max(pauses) <= 2.4


def delivered(
    answer: Answer, messages: int, max_in_flight: int = 10, backoff: Backoff = AT_ONCE, ack_deadline: float = PATIENCE
) -> Subscription:
    """Publish messages to a server that answers so, and wait until all of them are acknowledged."""

    async def deliver(url: str) -> Subscription:
        subscription = Subscription(url, [BODY], backoff, max_in_flight, ack_deadline)
        redelivering = asyncio.create_task(subscription.redeliver())
        await subscription.publish([0.0] * messages)
        assert await subscription.drained(PATIENCE)
        redelivering.cancel()
        subscription.close()
        return subscription

    with server(answer) as url:
        return asyncio.run(deliver(url))


def test_every_message_is_delivered_until_it_is_acknowledged() -> None:
    async def every_third(number: int) -> bytes:
        return UNAVAILABLE if number % 3 == 0 else NO_CONTENT

    subscription = delivered(every_third, messages=20)
    so_far = subscription.so_far
    assert so_far.offered == so_far.acknowledged == 20
    assert so_far.deliveries == 20 + so_far.rejected[503] == 29
    assert subscription.event_ids == {event_id(number) for number in range(20)}
    assert subscription.in_flight == subscription.backlog == 0


def test_a_broken_connection_is_no_acknowledgement() -> None:
    async def breaking(number: int) -> bytes:
        return b"" if number == 1 else NO_CONTENT

    subscription = delivered(breaking, messages=3, max_in_flight=1)
    assert subscription.so_far.rejected == {0: 1}
    assert subscription.so_far.deliveries == 4


def test_a_delivery_without_an_answer_ends_at_the_deadline() -> None:
    """The first request is answered only when the message has been delivered again."""
    redelivered = asyncio.Event()

    async def answer(number: int) -> bytes:
        if number == 1:
            await redelivered.wait()
        redelivered.set()
        return NO_CONTENT

    subscription = delivered(answer, messages=1, ack_deadline=0.5)
    assert subscription.so_far.acknowledged == 1
    assert subscription.so_far.rejected[0] >= 1


def test_no_more_deliveries_are_in_flight_than_allowed() -> None:
    at_once: collections.Counter[str] = collections.Counter()

    async def counting(_: int) -> bytes:
        at_once["now"] += 1
        at_once["most"] = max(at_once["most"], at_once["now"])
        await asyncio.sleep(0.01)
        at_once["now"] -= 1
        return NO_CONTENT

    delivered(counting, messages=30, max_in_flight=4)
    assert at_once["most"] == 4


def test_the_oldest_message_that_is_due_is_delivered_first() -> None:
    """The body of a message has its number; message 0 is redelivered before messages that were never delivered."""
    order: list[int] = []

    class Recording(Body):
        def push(self, number: int) -> bytes:
            order.append(number)
            return super().push(number)

    async def deliver(url: str) -> None:
        body = Recording(BODY.parts, is_bad=False)
        subscription = Subscription(url, [body], AT_ONCE, max_in_flight=1)
        redelivering = asyncio.create_task(subscription.redeliver())
        await subscription.publish([0.0] * 3)
        assert await subscription.drained(PATIENCE)
        redelivering.cancel()
        subscription.close()

    async def first_unavailable(number: int) -> bytes:
        return UNAVAILABLE if number == 1 else NO_CONTENT

    with server(first_unavailable) as url:
        asyncio.run(deliver(url))
    assert order == [0, 0, 1, 2]


def test_a_message_that_backs_off_is_in_the_backlog() -> None:
    async def unavailable(_: int) -> bytes:
        return UNAVAILABLE

    async def deliver(url: str) -> None:
        subscription = Subscription(url, [BODY], Backoff(minimum=2 * PATIENCE, maximum=2 * PATIENCE), 10)
        await subscription.publish([0.0, 0.0])
        await until(lambda: subscription.backlog == 2, "both messages back off")
        assert not await subscription.drained(0.01)
        subscription.close()

    with server(unavailable) as url:
        asyncio.run(deliver(url))


def sample(at: float, acknowledged: int, **changes: int) -> Sample:
    values = {"offered": acknowledged, "insert_rows": acknowledged, "distinct_rows": acknowledged, **changes}
    return Sample(
        at=at,
        acknowledged=acknowledged,
        deliveries=acknowledged,
        in_flight=0,
        backlog=0,
        rejected={},
        written_rows=acknowledged,
        objects=1,
        queued_inserts=0,
        queued_uploads=0,
        abandoned=0,
        **values,
    )


def samples(*rates: float) -> list[Sample]:
    """Samples of a run in which so many events a second were acknowledged, second by second."""
    totals = [sum(rates[:second]) for second in range(len(rates) + 1)]
    return [sample(float(second), round(total)) for second, total in enumerate(totals)]


def test_goodput_is_the_mean_between_two_times() -> None:
    seen = samples(100, 0, 50)
    assert goodput(seen, 0, 3) == 50
    assert goodput(seen, 0.5, 1.5) == 50


def test_goodput_has_recovered_when_it_stays_at_the_offered_load() -> None:
    assert recovered_after(samples(*[0] * 4, *[100] * 8), 0, 12, rate=100, window=3) == 4
    assert recovered_after(samples(*[100] * 10), 0, 10, rate=100, window=3) == 0


def test_a_burst_is_no_recovery() -> None:
    assert recovered_after(samples(0, 100, 100, 100, *[0] * 8), 0, 12, rate=100, window=3) is None


def test_goodput_that_never_comes_back_has_not_recovered() -> None:
    assert recovered_after(samples(*[94] * 10), 0, 10, rate=100, window=3) is None


def record(recovered: float | None = 5.0, lost: int = 0, **last: int) -> Record:
    return Record(
        scenario="BigQuery",
        pace=1.0,
        rate=100,
        settings={},
        phases=[
            PhaseRecord(name="steady", start=0, end=10, is_disturbed=False, goodput=100),
            PhaseRecord(name="stall", start=10, end=20, is_disturbed=True, goodput=0),
            PhaseRecord(
                name="after the stall", start=20, end=60, is_disturbed=False, goodput=90, recovered_after=recovered
            ),
        ],
        samples=[sample(0, 0), sample(60, **{"acknowledged": 1000, **last})],
        drain_seconds=1.0,
        lost=lost,
    )


def test_a_run_that_recovers_and_loses_nothing_meets_all_criteria() -> None:
    assert not [*record().missed()]


@pytest.mark.parametrize(
    ("missed", "sentence"),
    [
        (record(recovered=None), "after the stall: goodput did not recover within 30 s"),
        (record(recovered=31.0), "after the stall: goodput did not recover within 30 s"),
        (record(insert_rows=1500), "1.50 rows were inserted for each distinct row"),
        (record(insert_rows=0, distinct_rows=0), "no row was written"),
        (record(offered=1001), "1000 of 1001 messages were acknowledged"),
        (record(lost=1), "1 acknowledged events were lost"),
    ],
)
def test_each_criterion_that_is_missed_is_reported(missed: Record, sentence: str) -> None:
    [reported] = missed.missed()
    assert reported.startswith(sentence)


def records(*of: Record) -> Records:
    return Records(started="", revision="", machine=Machine.here(), records=[*of])


def test_a_missed_criterion_is_exit_code_1_only_with_check(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "records.json"
    records(record(lost=1)).write(file)
    assert read(file) == records(record(lost=1))
    assert CliRunner().invoke(app, ["--show", str(file)]).exit_code == 0
    assert CliRunner().invoke(app, ["--show", str(file), "--check"]).exit_code == 1


@pytest.mark.parametrize("option", ["--quick", "--only=BigQuery", "--setting=LINGER_MS=1"])
def test_the_page_is_not_written_from_a_part(option: str) -> None:
    assert CliRunner().invoke(app, ["--docs", option]).exit_code == 2


def test_the_page_is_not_written_from_the_records_of_a_part(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "records.json"
    records(record()).write(file)
    assert CliRunner().invoke(app, ["--docs", "--show", str(file)]).exit_code == 2


def test_an_unknown_scenario_is_rejected() -> None:
    assert CliRunner().invoke(app, ["--only", "Spanner"]).exit_code == 2


def test_the_page_shows_the_records_that_are_kept() -> None:
    text = page.OVERLOAD.read_text()
    assert page.fill_tables(text, report.tables(report.kept())) == text, "run python -m benchmarks.overload --docs"


def test_the_issues_scenario_is_as_it_was_reported() -> None:
    assert METASTABLE.rate == 100
    assert METASTABLE.inserts.seconds(rows=100) == pytest.approx(0.085)
    assert [phase.seconds for phase in METASTABLE.phases] == [15, 10, 65]


def test_a_scaled_scenario_keeps_its_rate() -> None:
    scenario = SCENARIOS[0].scaled(0.1)
    assert scenario.rate == SCENARIOS[0].rate
    assert scenario.seconds == pytest.approx(SCENARIOS[0].seconds / 10)
    assert scenario.settings["FLUSH_TIMEOUT"] == "2.5"


@pytest.mark.check
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_quick_run_loses_nothing(tmp_path: pathlib.Path) -> None:
    """The assertions hold at any speed: the drain phase ends when all messages are acknowledged."""
    file = tmp_path / "records.json"
    command = [sys.executable, "-m", "benchmarks.overload", "--quick", "--json", str(file)]
    command += ["--only", "BigQuery and Cloud Storage", "--drain", str(PATIENCE)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    [result] = read(file).records
    assert result.lost == 0
    assert result.last.acknowledged == result.last.offered > 1000
    assert result.last.distinct_rows == result.last.offered
    assert result.last.insert_rows >= result.last.written_rows >= result.last.distinct_rows
    assert result.last.objects > 0
    assert [phase.name for phase in result.phases] == [phase.name for phase in SCENARIOS[0].phases]
    assert "BigQuery and" in run.stdout


def test_each_run_is_a_column_of_the_plot(tmp_path: pathlib.Path) -> None:
    [chart] = report.draw({"now": records(record())}, tmp_path)
    narrow = chart.read_bytes()
    [chart] = report.draw({"before": records(record(recovered=None)), "now": records(record())}, tmp_path)
    assert len(chart.read_bytes()) > len(narrow) > 10_000


def test_a_scenario_that_was_not_run_has_no_plot(tmp_path: pathlib.Path) -> None:
    assert report.draw({"now": records()}, tmp_path) == []
