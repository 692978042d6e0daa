"""The soak: many events with every kind of fault among them, and kills, drawn by a seed; in the end nothing is missing.

python -m tests.faults.soak --events 200000 --seed 7 --share 0.03
"""

import argparse
import os
import pathlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sluice.local.stack import emulators
from sluice.shop.generator import Generated
from tests.history.check import CheckedHistory
from tests.history.records import Recorder
from tests.support import fault_proxy as faults
from tests.support import fault_report, soak_history
from tests.support.background import event_loop
from tests.support.fault_cases import LONG
from tests.support.fault_harness import Deployment, Published, deployment, scenario
from tests.support.fault_proxy import BIGQUERY, PUSH, STORAGE, Counts, Fault, Rule, insert, push, upload
from tests.support.waiting import PATIENCE

BACKLOG = 5_000
"""Messages that are published and not yet acknowledged, at most."""

CONCURRENCY = 250
"""Requests at once in an instance, as `terraform/` has it."""

EVENTS_PER_KILL = 4_000
"""Number of events per kill; there is at least one kill of each kind, however few events."""

KILLS = ("worker", "worker", "instance", "worker", "bigquery", "worker", "storage")


def kinds() -> list[Fault]:
    """Each kind of fault that both services have."""
    listed = [faults.status(code, "backendError", after=after) for code in (500, 503) for after in (False, True)]
    listed += [faults.status(403, "rateLimitExceeded"), faults.status(404, "notFound")]
    for after in (False, True):
        listed += [faults.silence(after=after), faults.reset(after=after)]
    return [*listed, faults.half_written(), faults.slow()]


def rules(share: float) -> list[Rule]:
    """Return rules for all kinds of faults, equally many of each, for a share of the requests to each service."""
    rows = [
        faults.row_errors("stopped", 0.5),
        faults.row_errors("backendError", 1.0),
        faults.row_errors("invalid", 0.1),
    ]
    of_bigquery, of_push = [*kinds(), *rows], [faults.reset(), faults.reset(after=True)]
    return [
        *(insert(kind, share=share / len(of_bigquery)) for kind in of_bigquery),
        *(upload(kind, share=share / len(kinds())) for kind in kinds()),
        *(push(kind, share=share / len(of_push)) for kind in of_push),
    ]


class Soak:
    """Publishes, breaks and kills.

    Args:
        deployment: What it runs on.
        events: How many messages.
        seed: Of everything that is drawn.
        recorder: Records the history.

    Attributes:
        published: What was published so far.
        kills: How often something was ended.
    """

    def __init__(self, deployment: Deployment, events: int, seed: int, recorder: Recorder) -> None:
        self.published = Published(recorder, may_be_rejected=True)  # by the fault that makes rows "invalid"
        self.kills = 0
        self._deployment = deployment
        self._events = events
        self._messages = scenario(events, seed, duplicate=0.02)
        rng = random.Random(seed)
        self._killing = sorted(rng.randrange(events) for _ in range(max(len(KILLS), events // EVENTS_PER_KILL)))

    def run(self) -> None:
        """Return when every message is acknowledged.

        Raises:
            AssertionError: For a long time, none was.
        """
        stopping = threading.Event()
        with ThreadPoolExecutor(1) as background:
            publishing = background.submit(self._deployment.publish, self._held_back(stopping), self.published)
            try:
                for number, acknowledged in enumerate(self._killing):
                    self._wait_for(acknowledged)
                    self._kill(KILLS[number % len(KILLS)])
                self._wait_for(self._events)
            finally:
                stopping.set()
            publishing.result()
        deployment = self._deployment
        deployment.wait_for(
            lambda: deployment.settled(self._events) and not deployment.proxy.under_way, "all is settled"
        )

    def _held_back(self, stopping: threading.Event) -> Iterator[Generated]:
        counts = self._deployment.relay.counts
        for message in self._messages:
            while self.published.messages - counts.acknowledged > BACKLOG and not stopping.is_set():
                time.sleep(0.05)
            if stopping.is_set():
                return
            yield message

    def _wait_for(self, acknowledged: int) -> None:
        counts, moved_at, shown_at, before = self._deployment.relay.counts, time.monotonic(), time.monotonic(), -1
        while (now := counts.acknowledged) < acknowledged:
            if now > before:
                before, moved_at = now, time.monotonic()
            assert time.monotonic() - moved_at < PATIENCE, f"nothing moves: {counts}"
            if time.monotonic() - shown_at > 10:
                shown_at = time.monotonic()
                struck = self._deployment.proxy.counts.faults.total()
                show_progress(f"  {now} of {self._events} acknowledged, {struck} faults, {self.kills} kills")
            time.sleep(0.05)

    def _kill(self, what: str) -> None:
        self.kills += 1
        match what:
            case "worker":
                self._deployment.kill()
            case "instance":
                self._deployment.replace()
            case emulator:
                with self._deployment.without(emulator):
                    time.sleep(2)  # how long the outage lasts


def show_progress(text: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(f"{text}\n")


def soak(events: int, seed: int, share: float, history: pathlib.Path | None) -> bool:
    """Run it and report its numbers; return whether everything adds up."""
    file = soak_history.new_file(history)
    show_progress(f"history: {file}")
    recorder = Recorder(file, f"soak: {events} messages, seed {seed}, share {share:g}")
    with (
        tempfile.TemporaryDirectory(prefix="sluice-soak-") as name,
        event_loop() as run,
        emulators(folder := pathlib.Path(name)) as running,
    ):
        os.environ.update(running.environment)
        with deployment(running, folder, run, "soak", seed, {}, LONG.backoff, CONCURRENCY) as deployed:
            deployed.proxy.counts, deployed.proxy.recorder = Counts(), recorder
            chaos = Soak(deployed, events, seed, recorder)
            started = time.monotonic()
            with deployed.proxy.breaking(*rules(share)):
                chaos.run()
            seconds = time.monotonic() - started
            show_progress("  reading the books")
            deployed.proxy.recorder = None
            checked = CheckedHistory.end(recorder, deployed.books.contents(chaos.published.event_ids))
            reconciled = deployed.books.reconciled()
    counts, totals = deployed.proxy.counts, checked.totals
    for fault, times in sorted(counts.faults.items()):
        print(f"{times:7d}  {fault}")
    lines = {
        "published messages": totals.messages,
        "events": totals.events,
        "faults": counts.faults.total(),
        "requests to BigQuery and Cloud Storage": counts.requests[BIGQUERY] + counts.requests[STORAGE],
        "inserts and uploads sent again": counts.repeated,
        "delivered again": counts.requests[PUSH] - totals.messages,
        "kills": chaos.kills,
        "duplicate rows and dead letters": totals.duplicates,
        "dead letters by an injected rejection": totals.rejected,
        "missing": totals.missing,
        "missing in the archive": totals.unarchived,
        "missing, says the reconciliation": reconciled.total.missing,
        "seconds": round(seconds),
        "events a second": round(totals.messages / seconds),
        "seed": seed,
    }
    for label, number in lines.items():
        print(f"{label:40} {number:9d}")
    is_complete = not checked.violations and reconciled.is_complete
    print("Every published event is accounted for." if is_complete else f"{checked.summary}\n{reconciled.summary()}")
    if is_complete:
        soak_history.drop(file, history)
    if "UPDATE_DOCS" in os.environ:
        rows = "".join(f"| {label} | {number} |\n" for label, number in lines.items())
        fault_report.write("soak", f"| | |\n|---|--:|\n{rows}")
    return is_complete


def main() -> None:
    """Run the soak from the command line; ends with 1 when anything does not add up."""
    parser = argparse.ArgumentParser(description="Many events, many faults, nothing missing.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", type=float, default=0.03, help="of requests that a fault befalls")
    soak_history.add_option(parser)
    sys.exit(not soak(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
