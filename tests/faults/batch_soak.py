"""The soak of batch mode: runs with every kind of fault among them, and kills, drawn by a seed; nothing is missing.

python -m tests.faults.batch_soak --events 20000 --seed 7 --share 0.2
"""

import argparse
import itertools
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
from sluice.publish import Publication, publish
from tests.history.records import Recorder
from tests.support import fault_report, soak_history
from tests.support.background import event_loop
from tests.support.batch_faults import RULES, BatchDeployment, BatchRun, batch_deployment, faults_of
from tests.support.fault_harness import scenario
from tests.support.fault_proxy import Rule

EVENTS_OF_A_ROUND = 500

KILLS = 0.3
"""Share of the rounds in which the function is killed."""

_MAX_SECONDS = 3.0
"""Maximum seconds of a run after which it is killed."""


def rules(share: float) -> list[Rule]:
    """Return rules for all kinds of faults, equally many of each, for a share of the requests of each kind."""
    return [
        rule(fault, share=share / len(faults_of(what))) for what, rule in RULES.items() for fault in faults_of(what)
    ]


class BatchSoak:
    """Publishes, runs, breaks and kills.

    Args:
        deployment: What it runs on.
        events: How many messages.
        seed: Of everything that is drawn.
        recorder: Records the history.

    Attributes:
        run: What was published, and the kills.
    """

    def __init__(self, deployment: BatchDeployment, events: int, seed: int, recorder: Recorder) -> None:
        self.run = BatchRun(deployment, seed, recorder)
        self._deployment = deployment
        self._messages = scenario(events, seed, duplicate=0.02)
        self._draw = random.Random(seed)

    def __call__(self, share: float) -> None:
        """Publish all events round by round, with faults in a share of the requests; then load what is left."""
        with self._deployment.proxy.breaking(*rules(share)), ThreadPoolExecutor(2) as threads:
            while messages := list(self._of_a_round()):
                publish(messages, self._deployment.topic)
                runs = [threads.submit(self._deployment.run) for _ in range(self._draw.choice((1, 1, 2)))]
                if self._draw.random() < KILLS:
                    threading.Event().wait(self._draw.random() * _MAX_SECONDS)
                    self._deployment.kill()
                    self.run.kills += 1
                for running in runs:
                    running.result()
                show_progress(f"  {self.run.published.messages} messages, {self.run.kills} kills")
        self.run.settle()

    def _of_a_round(self) -> Iterator[Publication]:
        for message in itertools.islice(self._messages, EVENTS_OF_A_ROUND):
            self.run.published.add(message)
            yield Publication(message.data, message.attributes)


def show_progress(text: str) -> None:
    """Write a line of progress to standard error."""
    sys.stderr.write(f"{text}\n")


def soak(events: int, seed: int, share: float, history: pathlib.Path | None) -> bool:
    """Run it and report its numbers; return whether everything adds up."""
    file = soak_history.new_file(history)
    show_progress(f"history: {file}")
    recorder = Recorder(file, f"batch soak: {events} messages, seed {seed}, share {share:g}")
    with (
        tempfile.TemporaryDirectory(prefix="sluice-soak-") as name,
        event_loop() as run,
        # Google's emulator never delivers again some of the messages that a killed client was about to get.
        emulators(folder := pathlib.Path(name), stand_in=True) as running,
    ):
        os.environ.update(running.environment)
        with batch_deployment(running, folder, run, "batchsoak", seed) as deployed:
            chaos, started = BatchSoak(deployed, events, seed, recorder), time.monotonic()
            chaos(share)
            seconds = time.monotonic() - started
            checked = chaos.run.history()
            reconciled = deployed.books.reconciled()
    counts, totals = deployed.proxy.counts, checked.totals
    lines = {
        "published messages": totals.messages,
        "events": totals.events,
        "faults": counts.faults.total(),
        "requests to BigQuery and Cloud Storage": counts.requests.total(),
        "delivered again": totals.copies,
        "kills": chaos.run.kills,
        "duplicate rows and dead letters": totals.duplicates,
        "missing": totals.missing,
        "missing in the archive": totals.unarchived,
        "missing, says the reconciliation": reconciled.total.missing,
        "seconds": round(seconds),
        "seed": seed,
    }
    for label, number in lines.items():
        show_progress(f"{label:40} {number:9d}")
    is_complete = not checked.violations and reconciled.is_complete
    show_progress(
        "Every published event is accounted for." if is_complete else f"{checked.summary}\n{reconciled.summary()}"
    )
    if is_complete:
        soak_history.drop(file, history)
    if "UPDATE_DOCS" in os.environ:
        rows = "".join(f"| {label} | {number} |\n" for label, number in lines.items())
        fault_report.write("batch soak", f"| | |\n|---|--:|\n{rows}")
    return is_complete


def main() -> None:
    """Run the soak from the command line; ends with 1 when anything does not add up."""
    parser = argparse.ArgumentParser(description="Batch mode: many events, many faults, nothing missing.")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", type=float, default=0.2, help="of requests that a fault befalls")
    soak_history.add_option(parser)
    sys.exit(not soak(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
