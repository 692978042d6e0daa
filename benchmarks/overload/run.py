"""Run a scenario: the real function between the subscription and the stand-in."""

import asyncio
import contextlib
import dataclasses
import gc
import itertools
import pathlib
import time
from collections.abc import AsyncIterator, Callable, Mapping

import uvloop

from benchmarks.events import good_bodies
from benchmarks.load import Open, arrivals
from benchmarks.machine import FUNCTION_CORE, OTHER_CORE, on_core
from benchmarks.overload.records import WINDOW, PhaseRecord, Record, Sample, goodput, recovered_after
from benchmarks.overload.scenarios import MAX_IN_FLIGHT, Scenario
from benchmarks.overload.subscription import Subscription
from benchmarks.servers import environment
from benchmarks.stand_in import StandIn
from fake_google.service_queue import Disturbance
from sluice.local.functions import serving, unpacked

SAMPLE_SECONDS = 1.0
"""Seconds between two samples, at a pace of 1."""

DRAIN_SECONDS = 120.0
"""Maximum seconds until the backlog is drained after the last phase."""

type Report = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Conditions:
    """Settings that all scenarios of a run have in common.

    Attributes:
        cloud: The stand-in.
        project: Folder of the project whose function is served.
        settings: Environment variables of the function, which replace those of the scenarios.
        logs: Folder of the function's logs.
        pace: Factor on all times.
        drain_seconds: Maximum seconds until the backlog is drained.
        report: Called with each phase that begins.
    """

    cloud: StandIn
    project: pathlib.Path
    settings: Mapping[str, str]
    logs: pathlib.Path
    pace: float
    drain_seconds: float
    report: Report


def run(scenario: Scenario, conditions: Conditions) -> Record:
    """Run a scenario and return what it recorded."""
    cloud = conditions.cloud
    cloud.limit(scenario.inserts, scenario.uploads)
    scenario = scenario if conditions.pace == 1 else scenario.scaled(conditions.pace)
    settings = {**scenario.settings, **conditions.settings}
    name = scenario.name.lower().replace(" ", "-").replace(",", "")
    with contextlib.ExitStack() as stack:
        with on_core(FUNCTION_CORE):
            variables = {**environment(cloud.url), **settings}
            code = unpacked(conditions.logs / f"{name}-code", conditions.project)
            function = stack.enter_context(serving("ingest", conditions.logs, variables, name, code=code))
        with on_core(OTHER_CORE):
            return uvloop.run(_Run(scenario, conditions, settings).record(function.url))


class _Run:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, conditions: Conditions, settings: Mapping[str, str]) -> None:
        self._scenario = scenario
        self._conditions = conditions
        self._settings = settings
        self._samples: list[Sample] = []
        self._started = 0.0

    async def record(self, url: str) -> Record:
        scenario, cloud = self._scenario, self._conditions.cloud
        load = Open(scenario.rate, scenario.seconds)
        subscription = Subscription(url, good_bodies(), scenario.backoff, MAX_IN_FLIGHT)
        times = [*arrivals(load)]
        gc.collect()
        gc.freeze()
        self._started = time.monotonic()
        async with asyncio.TaskGroup() as tasks, self._sampling(subscription):
            redelivering = tasks.create_task(subscription.redeliver())
            publishing = tasks.create_task(subscription.publish(times))
            spans = await self._phases()
            await publishing
            ended = self._now()
            self._conditions.report(f"{scenario.name}: drain")
            is_drained = await subscription.drained(self._conditions.drain_seconds)
            drain_seconds = self._now() - ended if is_drained else None
            redelivering.cancel()
        await self._sample(subscription)
        subscription.close()
        written = await asyncio.to_thread(cloud.event_ids)
        return Record(
            scenario=scenario.name,
            pace=self._conditions.pace,
            rate=scenario.rate,
            settings=dict(self._settings),
            phases=self._records(spans),
            samples=self._samples,
            drain_seconds=drain_seconds,
            lost=len(subscription.event_ids - (written.rows & written.archived)),
        )

    async def _phases(self) -> list[tuple[float, float]]:
        """Let the phases pass; return when each began and ended."""
        scenario, cloud = self._scenario, self._conditions.cloud
        spans = []
        due = 0.0
        for phase in scenario.phases:
            self._conditions.report(f"{scenario.name}: {phase.name}")
            await asyncio.to_thread(cloud.disturb, dict.fromkeys(scenario.disturbed, phase.disturbance))
            start = self._now()
            due += phase.seconds
            await asyncio.sleep(due - start)
            spans.append((start, self._now()))
        await asyncio.to_thread(cloud.disturb, dict.fromkeys(scenario.disturbed, Disturbance()))
        return spans

    def _records(self, spans: list[tuple[float, float]]) -> list[PhaseRecord]:
        records: list[PhaseRecord] = []
        samples, scenario = self._samples, self._scenario
        window = WINDOW * self._conditions.pace
        for phase, (start, end) in zip(scenario.phases, spans, strict=True):
            is_recovery = bool(records) and records[-1].is_disturbed
            records.append(
                PhaseRecord(
                    name=phase.name,
                    start=start,
                    end=end,
                    is_disturbed=phase.disturbance != Disturbance(),
                    goodput=goodput(samples, start, end),
                    recovered_after=recovered_after(samples, start, end, scenario.rate, window)
                    if is_recovery
                    else None,
                )
            )
        return records

    def _now(self) -> float:
        return time.monotonic() - self._started

    @contextlib.asynccontextmanager
    async def _sampling(self, subscription: Subscription) -> AsyncIterator[None]:
        """Sample at regular times while the context lasts."""

        async def sample() -> None:
            for number in itertools.count():
                due = number * SAMPLE_SECONDS * self._conditions.pace
                await asyncio.sleep(max(0.0, due - self._now()))
                await self._sample(subscription)

        task = asyncio.create_task(sample())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _sample(self, subscription: Subscription) -> None:
        cloud = self._conditions.cloud
        counts, written = await asyncio.to_thread(lambda: (cloud.counts(), cloud.written()))
        so_far = subscription.so_far
        self._samples.append(
            Sample(
                at=round(self._now(), 3),
                offered=so_far.offered,
                acknowledged=so_far.acknowledged,
                deliveries=so_far.deliveries,
                in_flight=subscription.in_flight,
                backlog=subscription.backlog,
                rejected=dict(so_far.rejected),
                insert_rows=sum(counts.rows.values()),
                written_rows=written.rows,
                distinct_rows=written.distinct_rows,
                objects=written.objects,
                queued_inserts=written.queued_inserts,
                queued_uploads=written.queued_uploads,
                abandoned=written.abandoned,
            )
        )
