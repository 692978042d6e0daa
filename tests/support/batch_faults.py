"""Batch mode as it is deployed, with a proxy before BigQuery and Cloud Storage, and the cases of its matrix."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx

from functions.schema.bootstrap import Bootstrap, SchemaChange
from functions.settings import Settings
from sluice.local.functions import Function, serving
from sluice.local.names import PROJECT, topic_name
from sluice.local.stack import Emulators, create_resources
from sluice.publish import Publication, publish
from sluice.shop.generator import Generated
from tests.history.check import CheckedHistory
from tests.history.records import Recorder
from tests.support import fault_proxy as faults
from tests.support.background import Run as Runner
from tests.support.fault_harness import Books, Published, scenario
from tests.support.fault_proxy import BIGQUERY, STORAGE, Counts, Fault, Proxy, Rule, upload
from tests.support.fault_report import Seen
from tests.support.pubsub_proxy import PubSubProxy
from tests.support.waiting import FACTOR, PATIENCE, wait_until

ACK_DEADLINE = 10
"""Seconds after which Pub/Sub delivers again what a killed run has pulled: the minimum."""

FLUSH_TIMEOUT = min(3.0 * FACTOR, 25.0)

EVENTS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class BatchDeployment:
    """The function `drain` between a subscription and a dataset.

    Attributes:
        proxy: Before BigQuery and Cloud Storage.
        pubsub: Before Pub/Sub.
        function: The function.
        books: What is stored.
        topic: Where events are published.
    """

    proxy: Proxy
    pubsub: PubSubProxy
    function: Function
    books: Books
    topic: str

    def record(self, recorder: Recorder | None) -> None:
        """Record a history from now on, or none."""
        self.proxy.recorder = self.pubsub.recorder = recorder

    def run(self) -> dict[str, Any]:
        """Call the function, as Cloud Scheduler does. Return its answer; an empty one if there is none."""
        try:
            answer: dict[str, Any] = httpx.post(self.function.url, timeout=PATIENCE).json()
        except (httpx.HTTPError, ValueError):
            answer = {}
        self.proxy.note(f"a run has answered {answer}" if answer else "a run has not answered")
        return answer

    def kill(self) -> None:
        """SIGKILL the function's worker; its master starts another one."""
        before = self._workers()
        self.proxy.note("SIGKILL of the worker")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bool(self._workers()) and not before & self._workers(), "the worker runs again")

    def _workers(self) -> set[int]:
        master = self.function.child.process.pid
        return {int(pid) for pid in pathlib.Path(f"/proc/{master}/task/{master}/children").read_text().split()}


@contextlib.contextmanager
def batch_deployment(
    on: Emulators, folder: pathlib.Path, run: Runner, name: str, seed: int
) -> Iterator[BatchDeployment]:
    """Deploy it on the emulators, which this process's clients must find by themselves.

    Args:
        on: The emulators.
        folder: Logs.
        run: Of the event loop for the proxy.
        name: Of topic, dataset and bucket.
        seed: Of the proxy's draws.
    """
    proxy, pubsub = Proxy({BIGQUERY: [on.bigquery], STORAGE: [on.storage]}, seed), PubSubProxy(on.pubsub)
    run(proxy.__aenter__())
    run(pubsub.__aenter__())
    environment = {
        **on.environment,
        **create_resources(on, name, (0.1, 1.0), ACK_DEADLINE),
        "SUBSCRIPTION": f"projects/{PROJECT}/subscriptions/{name}-ingest",
        "DATASET": name,
        "HISTORICAL_DATASET": f"{name}_historical",
        "FLUSH_TIMEOUT": str(FLUSH_TIMEOUT),
        "BIGQUERY_EMULATOR_HOST": proxy.url(BIGQUERY),
        "STORAGE_EMULATOR_HOST": proxy.url(STORAGE),
        "PUBSUB_EMULATOR_HOST": pubsub.address,
    }
    settings = Settings.from_environment(environment)
    books = Books(settings)
    assert {step.change for step in Bootstrap(books.client, settings).run()} == {SchemaChange.CREATED}
    try:
        with serving("drain", folder, environment, f"{name}-drain") as function:
            yield BatchDeployment(proxy, pubsub, function, books, topic_name(name))
    finally:
        run(pubsub.__aexit__())
        run(proxy.__aexit__())


class BatchRun:
    """One run of a case.

    Args:
        deployment: What it runs on.
        seed: Seed of its events.
        recorder: Records its history.

    Attributes:
        deployment: What it runs on.
        published: What it has published.
        kills: Number of processes that it has ended.
        runs: Number of runs of the function that have answered.
    """

    def __init__(self, deployment: BatchDeployment, seed: int, recorder: Recorder) -> None:
        self.deployment = deployment
        self.published = Published(recorder)
        self.kills = 0
        self.runs = 0
        self._seed = seed
        self._recorder = recorder
        deployment.proxy.counts = Counts()
        deployment.record(recorder)

    def publish(self) -> None:
        """Publish a shop's events, some of them bad."""

        def noted(messages: Iterator[Generated]) -> Iterator[Publication]:
            for message in messages:
                self.published.add(message)
                yield Publication(message.data, message.attributes)

        publish(noted(scenario(EVENTS, self._seed)), self.deployment.topic)

    def settle(self) -> None:
        """Call the function until all events are in their tables and nothing is left to load."""

        def is_settled() -> bool:
            answer = self.deployment.run()
            self.runs += bool(answer)
            is_loaded = bool(answer) and not answer["errors"] and answer["loads"]["pending_files"] == 0
            return is_loaded and not self.deployment.books.missing(self.published.event_ids)

        wait_until(is_settled, "all events are loaded", self.deployment.function.child.tail, pause=0.1)

    def strikes(self, *rules: Rule) -> None:
        """Break requests while events are published and loaded; each rule must strike."""
        with self.deployment.proxy.breaking(*rules):
            self.publish()
            self.settle()
            for rule in rules:
                assert rule.hits, f"{rule.fault.name} has not struck"

    def killed(self, rule: Callable[[Fault], Rule], *, after: bool) -> None:
        """Kill the function while a request is held: before the write, or after it."""
        reached = threading.Event()
        with (
            self.deployment.proxy.breaking(rule(faults.silence(after=after, reached=reached))),
            ThreadPoolExecutor(1) as background,
        ):
            self.publish()
            while not reached.is_set():
                running = background.submit(self.deployment.run)
                wait_until(functools.partial(_is_over, running, reached), "a request is held")
            self.deployment.kill()
            self.kills += 1
            running.result()
        self.settle()

    def history(self) -> CheckedHistory:
        """Record what is stored, and return the history."""
        self.deployment.record(None)
        return CheckedHistory.end(self._recorder, self.deployment.books.contents(self.published.event_ids))

    def end(self, case: "BatchCase") -> tuple[Seen, CheckedHistory]:
        """Record what is stored, and return the counts of the case and its history."""
        history = self.history()
        counts, totals = self.deployment.proxy.counts, history.totals
        seen = Seen(
            what=case.what,
            name=case.name,
            events=totals.messages,
            faults=counts.faults.total(),
            retries=counts.repeated,
            deliveries=totals.copies,
            kills=self.kills,
            duplicates=totals.duplicates,
            missing=totals.missing + totals.unarchived,
        )
        return seen, history


@dataclasses.dataclass(frozen=True, slots=True)
class BatchCase:
    """A case: what breaks, and how."""

    what: str
    name: str
    run: Callable[[BatchRun], None]

    @property
    def id(self) -> str:
        return f"{self.what}: {self.name}"


def _is_over(running: Future[dict[str, Any]], reached: threading.Event) -> bool:
    return running.done() or reached.is_set()


def load_file(fault: Fault, table: str = "", **which: Any) -> Rule:
    """A fault of the uploads of load files."""
    return upload(fault, f"load/{table}", **which)


def archived(fault: Fault, **which: Any) -> Rule:
    """A fault of the uploads of archive objects."""
    return upload(fault, "raw/", **which)


def ledger(fault: Fault, **which: Any) -> Rule:
    """A fault of the uploads of the ledger."""
    return upload(fault, "load/ledger", **which)


def read_ledger(fault: Fault, **which: Any) -> Rule:
    """A fault of the reads of the ledger."""
    return Rule(fault, STORAGE, "^GET .*ledger", **which)


def deletion(fault: Fault, **which: Any) -> Rule:
    """A fault of the deletions of load files."""
    return Rule(fault, STORAGE, "^DELETE ", **which)


def job_start(fault: Fault, **which: Any) -> Rule:
    """A fault of the starts of load jobs."""
    return Rule(fault, BIGQUERY, "^POST .*/jobs$", **which)


def job_state(fault: Fault, **which: Any) -> Rule:
    """A fault of the questions for the states of load jobs."""
    return Rule(fault, BIGQUERY, "^GET .*/jobs/", **which)


RULES: dict[str, Callable[..., Rule]] = {
    "the archive": archived,
    "a load file": load_file,
    "the ledger": ledger,
    "reading the ledger": read_ledger,
    "deleting load files": deletion,
    "starting a load job": job_start,
    "a load job's state": job_state,
}

_NOT_FOUND = faults.status(404, "notFound")

_FAULTS = [
    faults.status(503, "backendError"),
    faults.status(503, "backendError", after=True),
    _NOT_FOUND,
    faults.silence(),
    faults.silence(after=True),
    faults.reset(),
    faults.reset(after=True),
    faults.half_written(),
]


def faults_of(what: str) -> list[Fault]:
    """Return the faults of a key of `RULES`.

    A deletion has no 404: Cloud Storage answers so only if the file is gone
    (https://cloud.google.com/storage/docs/consistency). `drain` relies on it, and would load the file again.
    """
    return [fault for fault in _FAULTS if not (fault is _NOT_FOUND and RULES[what] is deletion)]


def _strikes(rule: Callable[..., Rule], fault: Fault) -> Callable[[BatchRun], None]:
    return lambda run: run.strikes(rule(fault, times=2))


def _killed(rule: Callable[..., Rule], *, after: bool) -> Callable[[BatchRun], None]:
    return lambda run: run.killed(lambda fault: rule(fault, times=1), after=after)


def _two_runs(run: BatchRun) -> None:
    with ThreadPoolExecutor(2) as threads:
        run.publish()
        list(threads.map(lambda _: run.deployment.run(), range(2)))
    run.settle()


CASES = [
    *(BatchCase(what, fault.name, _strikes(rule, fault)) for what, rule in RULES.items() for fault in faults_of(what)),
    *(
        BatchCase(what, f"SIGKILL {'after' if after else 'before'} the write", _killed(rule, after=after))
        for what, rule in RULES.items()
        for after in (False, True)
    ),
    BatchCase("two runs", "at once", _two_runs),
]
