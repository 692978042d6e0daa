"""Compaction of an hour of the archive: whatever happens meanwhile, each event is there once."""

import contextlib
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import httpx
import pytest
from google.cloud.storage import Client as StorageClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.archive import compaction
from functions.archive.compaction import HourChanged, HourCompaction, NotVerified
from functions.archive.layout import hour_prefix
from functions.archive.reader import ArchivedObject, UnreadableObject, object_at
from sluice.local.names import PROJECT
from sluice.local.stack import Emulators
from tests.support.compacted_hour import HOUR, PERSONS, TYPES, CompactedHour, Killed, interrupted, small_objects
from tests.support.waiting import PATIENCE

type NewHour = Callable[[], CompactedHour]


@pytest.fixture(scope="module")
def new_hour(running_emulators: Emulators) -> Iterator[NewHour]:
    """Makes an hour without objects."""
    bucket = f"compacted-{uuid.uuid4().hex[:12]}"
    httpx.post(f"{running_emulators.storage}/storage/v1/b?project={PROJECT}", json={"name": bucket}).raise_for_status()
    hours = itertools.count()
    with small_objects():
        yield lambda: CompactedHour(lambda: StorageClient(project=PROJECT), bucket, HOUR + timedelta(hours=next(hours)))


def filled(new_hour: NewHour, objects: int = 12) -> CompactedHour:
    hour = new_hour()
    for number in range(objects):
        hour.write(number * 250, [f"{person}-{number}-{copy}" for person in PERSONS for copy in range(number % 3 + 1)])
    return hour


def finish(hour: CompactedHour) -> None:
    """Check that nothing is lost or doubled, now and after the next runs, which leave compacted objects only."""
    hour.check()
    hour.compact()
    hour.compact()
    hour.check()
    originals, compacted = hour.objects
    assert originals <= (compacted == 0)
    assert hour.empty() == sorted(itertools.chain.from_iterable(hour.expected.values()))


def test_many_small_objects_become_few_large_ones(new_hour: NewHour) -> None:
    hour = filled(new_hour)
    hour.check()
    done = HourCompaction(hour.storage, hour.bucket, TYPES)(hour.hour)
    assert (done.originals, done.events) == (12, sum(map(len, hour.expected.values())))
    assert hour.objects == (0, done.objects)
    assert 1 < done.objects < 6
    hour.check()
    assert HourCompaction(hour.storage, hour.bucket, TYPES)(hour.hour) == compaction.Compacted()
    finish(hour)


def test_late_object_within_the_range_is_read_and_compacted(new_hour: NewHour) -> None:
    hour = filled(new_hour)
    hour.compact()
    _, before = hour.objects
    hour.write(1, ["ada-late"])
    hour.check()
    hour.compact()
    assert hour.objects == (0, before + 1)
    finish(hour)


def test_single_object_and_those_of_other_programs_stay(new_hour: NewHour) -> None:
    hour = filled(new_hour, 1)
    hour.compact()
    assert hour.objects == (1, 0)
    other = "raw/dt=2026-11-23/hr=23/other.ndjson.gz"
    hour.storage.bucket(hour.bucket).blob(other).upload_from_string(b"{}")
    HourCompaction(hour.storage, hour.bucket, TYPES)(HOUR.replace(hour=23))
    assert hour.storage.bucket(hour.bucket).blob(other).exists()
    hour.storage.bucket(hour.bucket).blob(other).delete()
    finish(hour)


def test_original_that_is_not_what_its_metadata_says_stays(new_hour: NewHour) -> None:
    hour = filled(new_hour, 2)
    [first, _] = hour.reader.stored(hour.hour, hour.hour + timedelta(hours=1))
    for content, error in ((b"no gzip", UnreadableObject), (first.blob.download_as_bytes() * 2, NotVerified)):
        blob = hour.storage.bucket(hour.bucket).blob(first.blob.name)
        blob.metadata = first.blob.metadata
        blob.upload_from_string(content)
        with pytest.raises(error):
            HourCompaction(hour.storage, hour.bucket, TYPES)(hour.hour)
        assert hour.objects == (2, 0)
    hour.empty()


def test_lifecycle_counts_from_the_arrival_of_what_is_rewritten(new_hour: NewHour) -> None:
    """Otherwise events of an hour that is compacted late, or erased from, would be kept for longer than promised."""
    hour = new_hour()
    arrivals = [hour.hour + timedelta(seconds=second) for second in (0, 1800)]
    for second, events in ((0, ["ada-1", "bob-1"]), (1800, ["ada-2", "bob-2"])):
        hour.write(second, events)

    def custom_times() -> list[datetime]:
        return [blob.custom_time for blob in hour.storage.list_blobs(hour.bucket, prefix=hour_prefix(hour.hour))]

    hour.erase("bob")
    assert custom_times() == arrivals
    hour.compact()
    assert custom_times() == arrivals[1:]
    hour.write(3599, ["bob-3", "cyd-3"])
    hour.compact()
    hour.erase("bob")
    assert custom_times() == [arrivals[1], hour.hour + timedelta(seconds=3599)]
    finish(hour)


def test_run_that_is_over_leaves_the_rest_to_the_next_one(new_hour: NewHour) -> None:
    hour, calls = filled(new_hour), itertools.count()
    with pytest.raises(HourChanged):
        HourCompaction(hour.storage, hour.bucket, TYPES)(hour.hour, lambda: next(calls) > 4)
    originals, compacted = hour.objects
    assert (0 < originals < 12, compacted > 0) == (True, True)
    finish(hour)


def test_listed_original_is_read_after_it_is_compacted(new_hour: NewHour) -> None:
    hour = filled(new_hour)
    listed = [archived for archived in hour.reader.objects(hour.hour) if isinstance(archived, ArchivedObject)]
    hour.compact()
    for archived in listed:
        name = archived.uri.removeprefix(f"gs://{hour.bucket}/")
        assert [envelope.event_id for envelope in archived.envelopes()] == hour.expected[name]
        assert archived.open().read() == archived.ndjson() == object_at(archived.uri, hour.storage).ndjson()
    finish(hour)


def kill() -> None:
    raise Killed


@pytest.mark.parametrize("program", ["compact", "erase"])
@pytest.mark.parametrize("interference", ["kill", "lost answer", "erase", "compact", "write"])
def test_interference_at_any_request_loses_and_doubles_nothing(
    new_hour: NewHour, program: str, interference: str
) -> None:
    for request_number in itertools.count(1):
        hour = filled(new_hour, 4)
        if program == "erase":  # Some originals are compacted, others are not.
            hour.compact()
            hour.write(1800, ["ada-late", "bob-late"])
            hour.write(1801, ["ada-later"])
        other = CompactedHour(hour.client, hour.bucket, hour.hour, hour.expected)
        actions: dict[str, Callable[[], object]] = {
            "kill": kill,
            "lost answer": kill,
            "erase": lambda on=other: on.erase("ada"),  # type: ignore[misc]
            "compact": other.compact,
            "write": lambda on=other: on.write(700, ["cyd-new"]),  # type: ignore[misc]
        }
        is_after = interference == "lost answer"
        with interrupted(hour.storage, request_number, actions[interference], after=is_after) as reached:
            try:
                hour.compact() if program == "compact" else hour.erase("bob")
            except Killed:
                if program == "erase":
                    hour.erase("bob")  # It is run again.
        finish(hour)
        if not reached:
            assert request_number > 8
            return


class Pause:
    """A program that stops before its first request of a method until it is released."""

    def __init__(self, hour: CompactedHour, method: str, program: Callable[[], None]) -> None:
        self._is_reached, self._is_released = threading.Event(), threading.Event()

        def run() -> None:
            with interrupted(hour.storage, method, self._stop):
                program()

        self._threads = ThreadPoolExecutor(1)
        self._running = self._threads.submit(run)
        assert self._is_reached.wait(PATIENCE)

    def _stop(self) -> None:
        self._is_reached.set()
        assert self._is_released.wait(PATIENCE)

    def release(self) -> None:
        """Let it run to its end."""
        self._is_released.set()
        self._running.result(PATIENCE)
        self._threads.shutdown()


def test_two_runs_of_different_listings_do_not_both_finish(new_hour: NewHour) -> None:
    hour = filled(new_hour, 2)
    other = CompactedHour(hour.client, hour.bucket, hour.hour, hour.expected)
    about_to_write = Pause(hour, "POST", hour.compact)
    hour.write(1800, ["ada-late"])
    about_to_finish = Pause(other, "PATCH", other.compact)
    about_to_write.release()
    about_to_finish.release()
    finish(hour)


def test_object_stays_finished_while_it_is_rewritten(new_hour: NewHour) -> None:
    hour = new_hour()
    for second, event_id in enumerate(("bob-1", "bob-2", "ada-1")):
        hour.write(second, [event_id])
    other = CompactedHour(hour.client, hour.bucket, hour.hour, hour.expected)
    about_to_finish = Pause(hour, "PATCH", hour.compact)
    about_to_rewrite = Pause(other, "POST", lambda: other.erase("ada"))
    about_to_finish.release()
    assert hour.objects == (0, 1)
    about_to_rewrite.release()
    finish(hour)


def test_object_that_a_killed_run_wrote_too_late_does_not_count(new_hour: NewHour) -> None:
    hour = filled(new_hour, 2)
    other = CompactedHour(hour.client, hour.bucket, hour.hour, hour.expected)

    def overtake() -> None:
        hour.write(1800, ["ada-late"])
        other.compact()

    with (
        pytest.raises(Killed),
        interrupted(hour.storage, "POST", overtake),
        interrupted(hour.storage, "POST", kill, after=True),
    ):
        hour.compact()
    assert hour.objects == (0, 2)
    finish(hour)


SECONDS = st.integers(0, 3599)
STEPS = st.one_of(
    st.tuples(st.just("write"), SECONDS, st.lists(st.sampled_from(PERSONS), min_size=1, max_size=5)),
    st.tuples(st.just("compact"), st.none() | st.integers(1, 40), st.booleans()),
    st.tuples(st.just("erase"), st.sampled_from(PERSONS), st.booleans()),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=4, max_size=12))
def test_any_sequence_leaves_each_event_once(new_hour: NewHour, steps: Sequence[tuple[str, int, list[str]]]) -> None:
    hour, ids = new_hour(), itertools.count()
    for step in steps:
        match step:
            case "write", second, persons:
                hour.write(second, [f"{person}-{next(ids)}" for person in persons])
            case "compact", killed_at, after:
                with contextlib.suppress(Killed), interrupted(hour.storage, killed_at or 0, kill, after=bool(after)):
                    hour.compact()
            case "erase", person, _:
                hour.erase(str(person))
        hour.check()
    finish(hour)
