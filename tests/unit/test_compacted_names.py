"""Names of compacted objects, their ranges and blocks, and the hours that may be compacted."""

import io
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.archive import compacted_file, layout
from functions.archive.compacted_file import CompactedMetadata, CompactedWriter, DamagedLine
from functions.archive.compaction import Compacted, HourChanged
from functions.archive.summary import Summary
from functions.compact.scheduled import MAX_SECONDS, ScheduledCompaction, complete_hours
from functions.reconcile.findings import HourCounts
from functions.reconcile.scheduled import Checkpoint

HOUR = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOURS = timedelta(hours=1)


def original(second: float, sequence: int = 1) -> str:
    return layout.object_name(HOUR + timedelta(seconds=second), "0a1b2c3d4e5f", sequence)


def test_compacted_object_sorts_after_the_originals_that_name_it() -> None:
    names = layout.OriginalsRange(original(0), original(3599.999999))
    compacted = layout.compacted_name(names)
    assert compacted == (
        "raw/dt=2026-11-23/hr=09/20261123T09Z-20261123T090000.000000Z-0a1b2c3d4e5f-00000001_to_"
        "20261123T095959.999999Z-0a1b2c3d4e5f-00000001.ndjson.gz"
    )
    assert layout.compacted_range(compacted) == names
    assert names.last < compacted < layout.first_name_at(HOUR + HOURS)
    assert compacted.startswith(layout.compacted_prefix(original(7)))
    assert (layout.is_original(compacted), layout.is_original(names.first)) == (False, True)
    assert layout.compacted_range(names.first) is None
    assert [names.has(name) for name in (original(7), compacted, original(3600))] == [True, False, False]
    assert layout.original_of(compacted, layout.origin_of(names.last)) == names.last
    assert layout.original_of(f"gs://b/{compacted}", layout.origin_of(names.last)) == f"gs://b/{names.last}"


@given(
    seconds=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    size=st.integers(1, 400),
    blocks=st.integers(1, 8),
)
def test_each_original_is_found_in_its_blocks_alone(seconds: list[int], size: int, blocks: int) -> None:
    names = [original(second, number) for number, second in enumerate(sorted(seconds))]
    lines = {name: b'{"event_id":"%d","payload":"\\u00e9\\n"}\n' % number * 3 for number, name in enumerate(names)}
    file = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compacted_file, "_BLOCK_BYTES", size)
        patch.setattr(compacted_file, "_MAX_BLOCKS", blocks)
        writer = CompactedWriter(file)
        for name in names:
            writer.add(name, lines[name].split(b"\n"))
        writer.close()
    assert 1 <= len(writer.blocks) <= blocks
    stored = file.getvalue()
    metadata = CompactedMetadata(Summary({"order": 3 * len(names)}, 7), tuple(writer.blocks), is_finished=True)
    assert CompactedMetadata.of(metadata.metadata()) == metadata
    assert Summary.from_metadata(metadata.metadata()) == metadata.summary
    for name in names:
        start, end = metadata.place_of(name)
        part = compacted_file.inflate([stored[start:end]], has_start=start == 0, has_end=end is None)
        assert dict(compacted_file.split(part))[layout.origin_of(name)] == lines[name]


def test_index_has_room_in_the_metadata_of_an_object() -> None:
    blocks = tuple(compacted_file.Block("5959.999999", 2**26 + number) for number in range(compacted_file._MAX_BLOCKS))
    counts = {f"an_event_type_with_a_long_name_{number}": 10**6 for number in range(50)}
    metadata = CompactedMetadata(Summary(counts, 2**62), blocks).metadata()
    assert sum(len(name) + len(value) for name, value in metadata.items()) < 8 * 2**10


def test_damaged_object_is_no_shorter_one() -> None:
    file = io.BytesIO()
    writer = CompactedWriter(file)
    writer.add(original(0), [b'{"event_id":"a"}'] * 1000)
    writer.close()
    with pytest.raises(EOFError):
        list(compacted_file.inflate([file.getvalue()[:-20]], has_start=True, has_end=True))
    with pytest.raises(DamagedLine):
        list(compacted_file.split([b'{"origin":"a","event_id":"a"}\n{"event_id":"a"}\n']))


PARTS = st.lists(st.tuples(st.integers(1, 100), st.booleans()), max_size=30)


@given(minutes=PARTS, skipped=st.integers(0, 400))
def test_hour_is_complete_if_all_its_minutes_are(minutes: list[tuple[int, bool]], skipped: int) -> None:
    checkpoints, complete, end = [], set[int](), 0
    for number, (length, is_complete) in enumerate(minutes):
        start = end + (skipped if number == 7 else 0)
        end = start + length
        total = HourCounts() if is_complete else HourCounts(missing=1)
        begin, until = (HOUR + timedelta(minutes=minute) for minute in (start, end))
        checkpoints.append(Checkpoint(begin, until, total))
        complete |= set(range(start, end)) if is_complete else set()
    hours = [HOUR + number * HOURS for number in range(60) if complete.issuperset(range(number * 60, number * 60 + 60))]
    assert list(complete_hours(checkpoints)) == hours


@pytest.mark.parametrize(
    ("total", "unreadable"), [(HourCounts(missing=1), 0), (HourCounts(different=1), 0), (HourCounts(), 1)]
)
def test_hour_with_findings_is_not_complete(total: HourCounts, unreadable: int) -> None:
    incomplete = Checkpoint(HOUR, HOUR + HOURS, total, unreadable)
    after = Checkpoint(HOUR + HOURS, HOUR + 2 * HOURS, HourCounts(redelivered=1, duplicates=2, conflicts=3))
    assert list(complete_hours([incomplete, after])) == [HOUR + HOURS]
    assert list(complete_hours(itertools.repeat(after, 2))) == [HOUR + HOURS]


class Kept:
    """A bucket's progress and checkpoints, of hours that are all complete."""

    until: datetime | None = None

    def read(self) -> datetime | None:
        return self.until

    def write(self, until: datetime) -> None:
        self.until = until

    def since(self, time: datetime | None) -> list[Checkpoint]:
        first = HOUR if time is None else max(time, HOUR)
        return [Checkpoint(first, HOUR + 100 * HOURS, HourCounts())]


@pytest.mark.parametrize(("share", "is_behind"), [(0.3, False), (0.9, True), (2.5, True)])
def test_compaction_that_does_not_catch_up_is_an_error(share: float, is_behind: bool) -> None:
    """An hour of events takes a share of a run, of which there is one an hour."""
    kept, seconds, compacted = Kept(), 0.0, dict[datetime, float]()

    def compact(hour: datetime, is_over: Callable[[], bool]) -> Compacted:
        nonlocal seconds
        while compacted.get(hour, 0.0) < share * MAX_SECONDS:
            if is_over():
                raise HourChanged
            compacted[hour] = compacted.get(hour, 0.0) + 50
            seconds += 50
        return Compacted()

    for number in range(4):
        run = ScheduledCompaction(compact, cast("Any", kept), cast("Any", kept), lambda: seconds)
        errors = [result for result in run if result.error]
        assert len(errors) == is_behind, number
        assert all(result.hour == max(compacted) for result in errors)
