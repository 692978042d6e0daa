"""Each run of the scheduled reconciliation goes on where the last one ended."""

import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core.exceptions import PreconditionFailed

from functions.reconcile.findings import Reconciliation
from functions.reconcile.scheduled import MAX_BEHIND, MAX_SECONDS, Checkpoints, ScheduledReconciliation

NOW = datetime(2026, 11, 23, 12, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAST_HOUR = NOW.replace(minute=0) - HOUR
"""The end of the hours that a run at this time compares."""


class Bucket:
    """Objects without content, with a clock of its own."""

    def __init__(self) -> None:
        self.created: dict[str, datetime] = {}
        self.now = NOW + 1_000 * HOUR

    def bucket(self, _: str) -> "Bucket":
        return self

    def list_blobs(self, prefix: str, start_offset: str, fields: str) -> list[Any]:
        assert fields == "items(name,timeCreated),nextPageToken"
        return [
            types.SimpleNamespace(name=name, time_created=created)
            for name, created in self.created.items()
            if name.startswith(prefix) and name >= start_offset
        ]

    def blob(self, name: str) -> Any:
        def upload_from_string(*_: Any, if_generation_match: int, **__: Any) -> None:
            assert if_generation_match == 0
            if name in self.created:
                raise PreconditionFailed(name)  # type: ignore[no-untyped-call]
            self.created[name] = self.now

        return types.SimpleNamespace(upload_from_string=upload_from_string)


class Archive:
    """A stand-in for the reconciliation that records the compared hours; each takes some seconds."""

    def __init__(self, seconds: float = 0) -> None:
        self.compared: list[tuple[datetime, datetime]] = []
        self.now = 0.0
        self._seconds = seconds

    def __call__(
        self,
        start: datetime,
        end: datetime,
        advance: Callable[[datetime], object] = print,
        is_over: Callable[[], bool] = bool,
    ) -> Reconciliation:
        del advance
        until = start
        while until < end and not (until > start and is_over()):
            self.now += self._seconds / 60
            until += timedelta(minutes=1)
        self.compared.append((start, until))
        return Reconciliation(until)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def checkpoints(bucket: Any) -> Checkpoints:
    return Checkpoints(bucket, "archive")


def run(archive: Archive, checkpoints: Checkpoints, now: datetime) -> ScheduledReconciliation:
    archive.now = 0
    reconciliation = ScheduledReconciliation(archive, checkpoints, now, lambda: archive.now)
    for _ in reconciliation:
        pass
    return reconciliation


def test_each_run_continues_at_the_end_of_the_previous(checkpoints: Checkpoints) -> None:
    archive = Archive()
    for now in (NOW, NOW + HOUR / 2, NOW + HOUR, NOW + 4 * HOUR):
        assert run(archive, checkpoints, now).behind == timedelta()
    assert archive.compared == [
        (LAST_HOUR - 2 * HOUR, LAST_HOUR),
        (LAST_HOUR, LAST_HOUR + HOUR),
        (LAST_HOUR + HOUR, LAST_HOUR + 4 * HOUR),
    ]


def test_a_run_stops_when_its_time_is_over_and_the_next_one_goes_on(checkpoints: Checkpoints) -> None:
    archive = Archive(seconds=MAX_SECONDS * 0.8)
    first = run(archive, checkpoints, NOW)
    assert timedelta() < first.behind < HOUR
    assert not first.is_behind
    assert run(archive, checkpoints, NOW + HOUR / 2).behind == timedelta()
    assert archive.compared == [(LAST_HOUR - 2 * HOUR, first.until), (first.until, LAST_HOUR)]


def test_parts_end_at_full_hours_again_after_a_run_that_stopped(checkpoints: Checkpoints) -> None:
    run(Archive(seconds=MAX_SECONDS * 0.8), checkpoints, NOW)
    archive = Archive()
    run(archive, checkpoints, NOW + 12 * HOUR)
    assert len(archive.compared) == 3
    assert all(end.minute == 0 for _, end in archive.compared)


def test_hours_that_take_longer_than_they_are_leave_the_runs_behind(checkpoints: Checkpoints) -> None:
    archive = Archive(seconds=3 * MAX_SECONDS)
    runs = [run(archive, checkpoints, NOW + number * HOUR / 2) for number in range(8)]
    assert [run.is_behind for run in runs[-3:]] == [True] * 3
    assert all(before[1] == after[0] for before, after in zip(archive.compared, archive.compared[1:], strict=False))


def test_failed_run_is_repeated_by_the_next(checkpoints: Checkpoints) -> None:
    def fail(*_: Any, **__: Any) -> Reconciliation:
        raise RuntimeError

    archive = Archive()
    run(archive, checkpoints, NOW)
    with pytest.raises(RuntimeError):
        list(ScheduledReconciliation(fail, checkpoints, NOW + HOUR))
    run(archive, checkpoints, NOW + 2 * HOUR)
    assert archive.compared[-1] == (LAST_HOUR, LAST_HOUR + 2 * HOUR)


@pytest.mark.parametrize("oldest", [LAST_HOUR - timedelta(minutes=30), LAST_HOUR + timedelta(seconds=5)])
def test_what_is_not_loaded_yet_is_compared_later(checkpoints: Checkpoints, oldest: datetime) -> None:
    """Batch mode has written it, and a load job brings it into its table. Its events may be of the hour before."""
    archive = Archive()
    run = ScheduledReconciliation(archive, checkpoints, NOW, loaded_until=oldest)
    assert all(part.is_complete for part in run)
    assert run.until == LAST_HOUR - HOUR
    assert run.is_behind
    run = ScheduledReconciliation(archive, checkpoints, NOW)
    assert all(part.is_complete for part in run)
    assert (run.until, run.is_behind) == (LAST_HOUR, False)


def test_a_run_goes_back_a_week_at_most(checkpoints: Checkpoints) -> None:
    archive = Archive()
    run(archive, checkpoints, NOW)
    run(archive, checkpoints, NOW + MAX_BEHIND - 2 * HOUR)
    compared = len(archive.compared)
    assert archive.compared[-1][1] == LAST_HOUR + MAX_BEHIND - 2 * HOUR
    late = run(archive, checkpoints, NOW + 3 * MAX_BEHIND)
    assert late.skipped == (LAST_HOUR + MAX_BEHIND - 2 * HOUR, LAST_HOUR + 2 * MAX_BEHIND)
    assert archive.compared[compared][0] == LAST_HOUR + 2 * MAX_BEHIND
    assert late.until == LAST_HOUR + 3 * MAX_BEHIND
    assert run(archive, checkpoints, NOW + 3 * MAX_BEHIND).skipped is None


def test_a_checkpoint_of_a_clock_that_was_ahead_hides_nothing(bucket: Bucket, checkpoints: Checkpoints) -> None:
    archive = Archive()
    run(archive, checkpoints, NOW)
    bucket.now = NOW
    run(archive, checkpoints, NOW + 3 * HOUR)
    archive.compared.clear()
    for hours in range(1, 6):
        bucket.now = NOW + hours * HOUR
        run(archive, checkpoints, bucket.now)
    compared = {start + number * HOUR for start, end in archive.compared for number in range((end - start) // HOUR)}
    assert compared == {LAST_HOUR + number * HOUR for number in range(5)}
    assert archive.compared[-1] == (LAST_HOUR + 4 * HOUR, LAST_HOUR + 5 * HOUR)


def test_a_clock_that_is_behind_compares_nothing_twice(checkpoints: Checkpoints) -> None:
    archive = Archive()
    run(archive, checkpoints, NOW)
    assert run(archive, checkpoints, NOW - 5 * HOUR).behind == timedelta()
    run(archive, checkpoints, NOW + HOUR)
    assert archive.compared == [(LAST_HOUR - 2 * HOUR, LAST_HOUR), (LAST_HOUR, LAST_HOUR + HOUR)]


@pytest.mark.parametrize("name", ["reconciled/", "reconciled/README.txt", "reconciled/20261399T000000Z.json"])
def test_other_objects_of_the_folder_are_no_checkpoints(bucket: Bucket, checkpoints: Checkpoints, name: str) -> None:
    bucket.created[name] = NOW
    assert run(Archive(), checkpoints, NOW).until == LAST_HOUR


def test_two_concurrent_runs_both_end(checkpoints: Checkpoints) -> None:
    archive = Archive()
    both = [ScheduledReconciliation(archive, checkpoints, NOW) for _ in range(2)]
    for parts in both:
        assert [part.reconciliation.until for part in parts] == [LAST_HOUR]


def test_run_without_a_checkpoint_is_repeated(checkpoints: Checkpoints) -> None:
    archive = Archive()
    next(iter(ScheduledReconciliation(archive, checkpoints, NOW)))
    run(archive, checkpoints, NOW + HOUR)
    assert archive.compared == [(LAST_HOUR - 2 * HOUR, LAST_HOUR), (LAST_HOUR - 2 * HOUR, LAST_HOUR + HOUR)]
