"""Checks of a deployment under load: workers are lost, jobs are drained or updated."""

import functools
import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sluice.verify.check import Check
from sluice.verify.load import Load
from sluice.verify.project import Failed, NotThere, Project, short_name

_PATIENCE = 1800.0
"""Seconds that a check waits: a drained job or the push is restarted, and workers go some minutes after a load."""

_SWITCH = "terraform apply"
"""Command that updates a job, or switches the engine."""


class _Worker(NamedTuple):
    """A VM of a Dataflow job."""

    name: str
    zone: str


class Observer:
    """Observes a deployment under load.

    Args:
        project: The deployment.
    """

    def __init__(self, project: Project) -> None:
        self.since = datetime.now(UTC)
        self._states = _states(project)
        self._workers = _workers(project)

    def commands(self, project: Project) -> Sequence[str]:
        """Return commands that change the deployment in the meantime: lose a worker, drain, update, switch the engine.

        Raises:
            Failed: No Dataflow job runs, or several do.
            Unknown: An API rejected a request or did not answer.
        """
        if not self._states:
            return (_SWITCH,)
        name, location, job_id = project.id, project.settings.location, project.dataflow_job["id"]
        return (
            *(
                f"gcloud compute instances delete {worker.name} --project {name} --zone {worker.zone} --quiet"
                for worker in sorted(self._workers.values())[:1]
            ),
            f"gcloud dataflow jobs drain {job_id} --project {name} --region {location}",
            _SWITCH,
        )

    def checks(self, load: Load) -> Sequence[Check]:
        """Return the checks; a load has been published."""
        return (
            Check(
                "No event that was published during the test is missing",
                "Dataflow acknowledges messages when it commits a bundle.",
                functools.partial(_missing, load),
                _PATIENCE,
            ),
            Check(
                "A correction that is published within minutes arrives",
                "Only the source of Dataflow drops duplicates by attribute, whatever their content.",
                functools.partial(_corrected, load),
                _PATIENCE,
            ),
            Check(
                "A worker was lost",
                "Workers are VMs of the project, and can be deleted only there.",
                self._lost,
            ),
            Check(
                "Workers were added and removed",
                "Dataflow scales by its own measurements of backlog and CPU.",
                self._scaled,
                _PATIENCE,
            ),
            Check(
                "A job was drained or updated, and events are processed again",
                "A drain finishes what the job has read; an update hands it to the new job.",
                self._replaced,
                _PATIENCE,
            ),
        )

    def _lost(self, project: Project) -> str:
        _of_dataflow(self._states)
        if project.dataflow_job["id"] in self._ended(project):
            raise NotThere("the job and its workers ended; delete a worker in another run")
        gone = self._workers.keys() - _workers(project).keys()
        if not gone:
            raise NotThere("no worker was lost; delete one during the test")
        lost = sorted(self._workers[worker_id].name for worker_id in gone)
        return f"{', '.join(lost)} ended, by deletion or by scaling"

    def _scaled(self, project: Project) -> str:
        _of_dataflow(self._states)
        of_jobs = [_worker_counts(project, job, self.since) for job in project.dataflow_jobs()]
        grown = [counts for counts in of_jobs if any(before < after for before, after in itertools.pairwise(counts))]
        if not grown:
            raise NotThere("the number of workers did not increase; increase --rate")
        counts = next((counts for counts in grown if _falls_after_growth(counts)), None)
        if counts is None:
            raise Failed(f"the number of workers went from {min(grown[0])} to {grown[0][-1]} and did not decrease")
        return f"the number of workers was {', '.join(map(str, counts))}"

    def _replaced(self, project: Project) -> str:
        _of_dataflow(self._states)
        ended = self._ended(project)
        if not ended:
            raise NotThere("no job ended; drain or update one during the test")
        if lossy := sorted(job_id for job_id, state in ended.items() if state not in _KEPT):
            raise Failed(f"{', '.join(lossy)} lost messages that it had read: docs/scale.md, After a cancel")
        running = [job for job in project.dataflow_jobs() if job["currentState"] == "JOB_STATE_RUNNING"]
        pushes = project.pushes()
        if len(running) + pushes != 1:
            raise Failed(f"{len(running)} jobs run, and the subscription {'pushes' if pushes else 'does not push'}")
        states = ", ".join(f"{job_id} is {state}" for job_id, state in sorted(ended.items()))
        return f"{states}; {'ingest gets the events' if pushes else f'{running[0]["id"]} runs'}"

    def _ended(self, project: Project) -> dict[str, str]:
        """Return the states of the jobs that have ended in the meantime, by their ids."""
        states = {job["id"]: job["currentState"] for job in project.dataflow_jobs()}
        return {
            job_id: state for job_id, state in states.items() if state in _ENDED and state != self._states.get(job_id)
        }


_KEPT = frozenset({"JOB_STATE_DRAINED", "JOB_STATE_UPDATED"})
"""States of jobs that have written, or handed on, what they had read."""
_ENDED = _KEPT | {"JOB_STATE_CANCELLED", "JOB_STATE_FAILED"}


def _missing(load: Load, _: Project) -> str:
    arrived = load.arrived()
    if missing := load.published - arrived.keys():
        raise Failed(f"{len(missing)} of {len(load.published)} events have no row, first {min(missing)}")
    several = sum(event.rows > 1 for event_id, event in arrived.items() if event_id not in load.changed)
    return f"all {len(load.published)} events have a row; {several} have several, of which the views show one"


def _corrected(load: Load, _: Project) -> str:
    arrived = load.arrived()
    both = {event_id for event_id, event in arrived.items() if event.contents > 1}  # Two rows may be one content twice.
    if dropped := sorted(load.changed - both):
        raise Failed(
            f"{len(dropped)} of {len(load.changed)} have one row, first {dropped[0]}: does the job have an --id_label?"
        )
    return f"{len(load.changed)} were published again with different content, and both versions have a row"


def _of_dataflow(states: Mapping[str, str]) -> None:
    if not states:
        raise NotThere("no Dataflow job ran when the test began")


def _states(project: Project) -> dict[str, str]:
    """Return the state of each job by its id; none where the subscription pushes."""
    return {} if project.engine != "dataflow" else {job["id"]: job["currentState"] for job in project.dataflow_jobs()}


def _workers(project: Project) -> dict[str, _Worker]:
    """Return the workers by the ids of their VMs."""
    if project.engine != "dataflow":
        return {}
    job = project.dataflow_job["id"]
    path = f"compute/v1/{project.path}/aggregated/instances"
    items = project.get("compute", path, filter=f"labels.dataflow_job_id={job}").get("items", {})
    return {
        instance["id"]: _Worker(instance["name"], short_name(zone))
        for zone, listed in items.items()
        for instance in listed.get("instances", ())
    }


def _worker_counts(project: Project, job: Mapping[str, Any], since: datetime) -> list[int]:
    """Return the numbers of workers that a job had, in the order of time."""
    path = f"v1b3/{project.place}/jobs/{job['id']}/messages"
    events = project.all("dataflow", path, "autoscalingEvents", startTime=since.isoformat())
    changes = sorted(
        (event["time"], int(event["currentNumWorkers"])) for event in events if "currentNumWorkers" in event
    )
    return [count for _, count in changes]


def _falls_after_growth(counts: Sequence[int]) -> bool:
    """Return whether workers were removed after some had been added."""
    changes = [after - before for before, after in itertools.pairwise(counts) if after != before]
    return any(first > 0 > second for first, second in itertools.pairwise(changes))
