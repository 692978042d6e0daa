"""The matrix: everything that may break, each with its proof that nothing got lost.

A case breaks something while it publishes; in the end every message must be acknowledged and the books must balance.
"""

import contextlib
import dataclasses
import pathlib
import random
import resource
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

from sluice.shop.generator import SPOILS, Generated, generate
from tests.history.check import CheckedHistory
from tests.history.records import Recorder
from tests.support import fault_proxy as faults
from tests.support.fault_harness import Deployment, Published, scenario
from tests.support.fault_proxy import PUSH, Counts, Fault, Rule, insert, push, upload
from tests.support.fault_report import Seen
from tests.support.waiting import FACTOR


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """The length of a case.

    Attributes:
        events: Messages of a case.
        times: How often a fault strikes.
        good: Good messages around a poisonous one.
        flush_timeout: The functions' setting, in seconds.
        backoff: Seconds between deliveries of a message, at least and at most. Pub/Sub's own are up to 600; but it also
            sends less to an endpoint that rejects much, which the relay does not.
    """

    events: int
    times: int
    good: int
    flush_timeout: float
    backoff: tuple[float, float]


SHORT = Form(events=60, times=2, good=300, flush_timeout=min(3.0 * FACTOR, 25.0), backoff=(0.1, 1.0))
LONG = Form(events=2_000, times=20, good=1_000, flush_timeout=25.0, backoff=(1.0, 600.0))

SEED = 20261124
"""Seed of all random choices of a run."""

SKEW = timedelta(hours=6)
"""Skew of a function's clock."""


class Run:
    """One run of a case.

    Args:
        deployment: What it runs on.
        form: How long it is.
        seed: Seed of its events.
        recorder: Records its history.
        may_be_rejected: Whether good events may become dead letters.

    Attributes:
        deployment: What it runs on.
        form: How long it is.
        published: What it has published.
        kills: Processes that it has ended.
    """

    def __init__(
        self, deployment: Deployment, form: Form, seed: int, recorder: Recorder, *, may_be_rejected: bool = False
    ) -> None:
        self.deployment = deployment
        self.form = form
        self.seed = seed
        self.published = Published(recorder, may_be_rejected=may_be_rejected)
        self.kills = 0
        self._recorder = recorder
        self._acknowledged = deployment.relay.counts.acknowledged
        deployment.proxy.counts = Counts()
        deployment.proxy.recorder = recorder

    def publish(self, messages: Iterable[Generated] | None = None) -> None:
        """Publish; by default the shop's events."""
        generated = scenario(self.form.events, self.seed) if messages is None else messages
        self.deployment.publish(generated, self.published)

    def acknowledged(self) -> int:
        """Return the number of messages acknowledged so far."""
        return self.deployment.relay.counts.acknowledged - self._acknowledged

    def settle(self) -> None:
        """Wait until all that was published is acknowledged, and what comes late has come."""
        target = self._acknowledged + self.published.messages
        self.wait(lambda: self.deployment.settled(target), f"all {self.published.messages} messages are acknowledged")
        self.wait(lambda: not self.deployment.proxy.under_way, "late writes have arrived")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something holds."""
        self.deployment.wait_for(condition, what)

    def kill(self) -> None:
        """SIGKILL the function's worker."""
        self.kills += self.deployment.kill()

    def end(self, case: "Case") -> tuple[Seen, CheckedHistory]:
        """Record what is stored, and return the counts of the case and its history."""
        self.deployment.proxy.recorder = None
        history = CheckedHistory.end(self._recorder, self.deployment.books.contents(self.published.event_ids))
        counts, totals = self.deployment.proxy.counts, history.totals
        seen = Seen(
            what=case.what,
            name=case.name,
            events=totals.messages,
            faults=counts.faults.total(),
            retries=counts.repeated,
            deliveries=counts.requests[PUSH] - totals.messages,
            kills=self.kills,
            duplicates=totals.duplicates,
            missing=totals.missing + totals.unarchived,
        )
        return seen, history

    @contextlib.contextmanager
    def breaking(self, *rules: Rule) -> Iterator[None]:
        """Have faults, each of which must strike at least once."""
        with self.deployment.proxy.breaking(*rules):
            yield
            for rule in rules:
                assert rule.hits, f"{rule.fault.name} has not struck"


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A case: the failures that it causes.

    Attributes:
        what: Of which part.
        name: How it breaks.
        run: Breaks it.
        rejects: Whether good events may become dead letters.
    """

    what: str
    name: str
    run: Callable[[Run], None]
    rejects: bool = False

    @property
    def id(self) -> str:
        return f"{self.what}: {self.name}"


CASES: list[Case] = []


def case(what: str, name: str, *, rejects: bool = False) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Put a function into the matrix."""

    def put(run: Callable[[Run], None]) -> Callable[[Run], None]:
        CASES.append(Case(what, name, run, rejects))
        return run

    return put


def _strikes(what: str, rule: Callable[..., Rule], fault: Callable[[Form], Fault], *, rejects: bool = False) -> None:
    """A case of a fault that strikes the first requests that it matches."""

    def run(run: Run) -> None:
        with run.breaking(rule(fault(run.form), times=run.form.times)):
            run.publish()
            run.settle()

    CASES.append(Case(what, fault(SHORT).name, run, rejects))


def _insert_event(fault: Fault, times: int) -> Rule:
    """Not of dead letters: one that is invalid is no dead letter again."""
    return insert(fault, r"(?!dead_letters)\w+", times=times)


def _always(fault: Fault) -> Callable[[Form], Fault]:
    return lambda _: fault


_FAULTS: list[Callable[[Form], Fault]] = [
    _always(faults.status(500, "backendError")),
    _always(faults.status(500, "backendError", after=True)),
    _always(faults.status(503, "backendError")),
    _always(faults.status(503, "backendError", after=True)),
    _always(faults.status(403, "rateLimitExceeded")),
    _always(faults.status(404, "notFound")),
    _always(faults.silence()),
    _always(faults.silence(after=True)),
    _always(faults.reset()),
    _always(faults.reset(after=True)),
    _always(faults.half_written()),
    _always(faults.slow()),
]

for _fault in _FAULTS:
    _strikes("BigQuery", insert, _fault)
_strikes("BigQuery", insert, _always(faults.row_errors("stopped", 0.5)))
_strikes("BigQuery", insert, _always(faults.row_errors("backendError", 1.0)))
_strikes("BigQuery", _insert_event, _always(faults.row_errors("invalid", 0.3)), rejects=True)
for _fault in _FAULTS:
    _strikes("Cloud Storage", upload, _fault)


@case("BigQuery", "dead letters are not taken")
def _dead_letters(run: Run) -> None:
    with run.breaking(insert(faults.status(400, "invalid"), "dead_letters", times=run.form.times)):
        run.publish(scenario(run.form.events, run.seed, bad=0.3))
        run.settle()


@case("BigQuery", "rows are invalid, and their dead letters are not taken", rejects=True)
def _invalid_and_no_dead_letters(run: Run) -> None:
    times = run.form.times
    with run.breaking(
        _insert_event(faults.row_errors("invalid", 0.3), times=times),
        insert(faults.reset(after=True), "dead_letters", times=times),
    ):
        run.publish()
        run.settle()


@case("BigQuery", "a table without its newest column")
def _newest_column(run: Run) -> None:
    books = run.deployment.books
    books.query("ALTER TABLE `{dataset}.user_activity` DROP COLUMN extras")
    try:
        messages = [_with_unknown_field(message) for message in scenario(run.form.events, run.seed, bad=0)]
        run.publish(messages)
        rejected = run.deployment.relay.counts.rejected
        before = rejected[503]
        run.wait(lambda: rejected[503] > before, "events are rejected for want of a column")
    finally:
        books.query("ALTER TABLE `{dataset}.user_activity` ADD COLUMN extras JSON")
    run.settle()


def _with_unknown_field(message: Generated) -> Generated:
    return dataclasses.replace(message, data=message.data[:-1] + b',"newest":1}')


@case("BigQuery", "the emulator is killed and started again")
def _bigquery_killed(run: Run) -> None:
    _restarted(run, "bigquery")


@case("Cloud Storage", "the emulator is killed and started again")
def _storage_killed(run: Run) -> None:
    _restarted(run, "storage")


def _restarted(run: Run, emulator: str) -> None:
    messages = list(scenario(run.form.events, run.seed))
    half = len(messages) // 2
    run.publish(messages[:half])
    run.wait(lambda: run.acknowledged() > 0, "the first messages are acknowledged")
    with run.deployment.without(emulator):
        run.kills += 1
        run.publish(messages[half:])
        run.wait(lambda: run.deployment.proxy.counts.lost.total() > 0, "requests have missed the emulator")
    run.settle()


@case("BigQuery", "limited capacity, and a stall that is longer than a flush")
def _bigquery_stalls(run: Run) -> None:
    _stalled(run, insert)


@case("Cloud Storage", "limited capacity, and a stall that is longer than a flush")
def _storage_stalls(run: Run) -> None:
    _stalled(run, upload)


def _stalled(run: Run, *rules: Callable[..., Rule]) -> None:
    """Events are rejected unprocessed while nothing is served; afterwards all are accepted."""
    lane = faults.Lane(run.form.flush_timeout / 60)
    rejected = run.deployment.relay.counts.rejected
    messages = list(scenario(run.form.events, run.seed))
    half = len(messages) // 2
    with run.breaking(*(rule(faults.limited(lane)) for rule in rules)):
        run.publish(messages[:half])
        run.wait(lambda: run.acknowledged() > 0, "begun")
        before = rejected.copy()
        with lane.stalled():
            run.publish(messages[half:])
            run.wait(
                lambda: rejected[503] > before[503] and rejected[429] > before[429], "given up, and others rejected"
            )
        run.settle()


@case("The function", "SIGKILL before the write")
def _killed_before(run: Run) -> None:
    _killed(run, lambda reached: upload(faults.silence(reached=reached), times=1))


@case("The function", "SIGKILL between the archive and the tables")
def _killed_between(run: Run) -> None:
    _killed(run, lambda reached: upload(faults.silence(after=True, reached=reached), times=1))


@case("The function", "SIGKILL during a flush, with one table written and the others not")
def _killed_during(run: Run) -> None:
    _killed(run, lambda reached: insert(faults.silence(reached=reached), "user_activity", times=1))


@case("The function", "SIGKILL between write and acknowledgement")
def _killed_after(run: Run) -> None:
    _killed(run, lambda reached: insert(faults.silence(after=True, reached=reached), "user_activity", times=1))


def _killed(run: Run, rule: Callable[[threading.Event], Rule]) -> None:
    reached = threading.Event()
    with run.breaking(rule(reached)):
        run.publish()
        run.wait(reached.is_set, "a request is held")
        run.kill()
        run.settle()


@case("The function", "SIGTERM under load")
def _terminated(run: Run) -> None:
    """Requests in flight are finished: none to the instance that ends is left without its answer."""
    with (
        run.deployment.instance() as old,
        run.breaking(insert(faults.slow(0.4), share=0.5)),
    ):
        run.deployment.route(old)
        run.publish()
        run.wait(lambda: run.deployment.relay.counts.in_flight > 10, "the instance is under load")
        run.deployment.terminate(old)
        run.kills += 1
        run.settle()
    assert old.child.process.returncode == 0
    assert run.deployment.proxy.counts.lost[PUSH] == 0


@case("The function", "out of memory")
def _out_of_memory(run: Run) -> None:
    """The limit is of address space; Cloud Run would end the instance, which here comes second."""
    [worker] = run.deployment.workers()
    used = int(_status(worker, "VmSize")) * 1024
    resource.prlimit(worker, resource.RLIMIT_AS, (used, used))
    rejected, unanswered = run.deployment.relay.counts.rejected.total(), run.deployment.relay.counts.unanswered
    run.publish(_large(message) for message in scenario(60, run.seed, bad=0))

    def failed() -> bool:
        counts = run.deployment.relay.counts
        return counts.rejected.total() > rejected or counts.unanswered > unanswered

    run.wait(failed, "the instance has no memory left")
    run.kill()
    run.settle()


def _status(pid: int, name: str) -> str:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _large(message: Generated) -> Generated:
    return dataclasses.replace(message, data=message.data[:-1] + b',"note":"' + b"x" * 400_000 + b'"}')


@case("The function", "two instances at once, one of them killed")
def _two_instances(run: Run) -> None:
    with run.deployment.instance() as second:
        run.publish(scenario(run.form.events, run.seed, duplicate=0.3))
        run.wait(lambda: run.acknowledged() > run.form.events // 10, "the first messages are acknowledged")
        run.kills += run.deployment.kill(second)
        run.settle()


@case("The function", "its clock is 6 hours ahead")
def _clock_ahead(run: Run) -> None:
    with run.deployment.instead(clock=SKEW):
        run.publish()
        run.settle()


@case("The function", "its clock is 6 hours behind")
def _clock_behind(run: Run) -> None:
    with run.deployment.instead(clock=-SKEW):
        run.publish()
        run.settle()


@case("The function", "a burst of ten times what it takes in flight")
def _burst(run: Run) -> None:
    burst = min(run.form.events, run.deployment.concurrency)
    rejected = run.deployment.relay.counts.rejected
    before = rejected[429]
    with run.deployment.instead(MAX_IN_FLIGHT=str(burst // 10)):
        for number in range(run.form.times // 2):
            run.publish(scenario(burst, run.seed * 100 + number))
            run.settle()
    assert rejected[429] > before


@case("Pub/Sub", "acknowledgements get lost")
def _acknowledgements_lost(run: Run) -> None:
    with run.breaking(push(faults.reset(after=True), times=10 * run.form.times)):
        run.publish()
        run.settle()


@case("Pub/Sub", "a publisher's retries")
def _publishers_retries(run: Run) -> None:
    run.publish(scenario(run.form.events, run.seed, duplicate=0.4))
    run.settle()


@case("Pub/Sub", "events out of order")
def _out_of_order(run: Run) -> None:
    messages = list(scenario(run.form.events, run.seed))
    random.Random(run.seed).shuffle(messages)
    run.publish(messages)
    run.settle()


@case("Pub/Sub", "poisonous messages among good ones")
def _poison(run: Run) -> None:
    good = list(scenario(run.form.good, run.seed, bad=0))
    poison = _one_of_each_kind(run.seed)
    for index, message in enumerate(poison):
        good.insert((index + 1) * len(good) // (len(poison) + 1), message)
    run.publish(good)
    run.settle()


def _one_of_each_kind(seed: int) -> list[Generated]:
    kinds = {reason for spoils in SPOILS.values() for reason in spoils}
    by_reason: dict[str, Generated] = {}
    for message in generate(seed=seed, start=datetime.now(UTC) - timedelta(hours=6), bad_share=0.9):
        if message.reason:
            by_reason[message.reason] = message
        if by_reason.keys() == kinds:
            return list(by_reason.values())
    raise AssertionError("the scenario never ends")


@case("Pub/Sub", "publishers' clocks are 20 hours ahead")
def _publishers_ahead(run: Run) -> None:
    run.publish(scenario(run.form.events, run.seed, bad=0, shift=timedelta(hours=20)))
    run.settle()


@case("Pub/Sub", "publishers' clocks are 60 days behind")
def _publishers_behind(run: Run) -> None:
    run.publish(scenario(run.form.events, run.seed, bad=0, shift=timedelta(days=-60)))
    run.settle()


@case("Pub/Sub", "publishers' clocks are 3 days ahead", rejects=True)
def _publishers_far_ahead(run: Run) -> None:
    run.publish(scenario(run.form.events, run.seed, bad=0, shift=timedelta(days=3)))
    run.settle()
