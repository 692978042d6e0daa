"""The checker of recorded histories finds and names each violation."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.history.check import CheckedHistory, Totals
from tests.history.invariants import Invariant
from tests.history.records import (
    Acknowledgement,
    Answer,
    Archived,
    End,
    Fault,
    Insert,
    Loaded,
    Note,
    Pending,
    Published,
    Record,
    Recorder,
    Shown,
    StoredRow,
    Upload,
    read_records,
)
from tests.history.timeline import timeline

OBJECT, FILE = "gs://archive/raw/dt=2026-11-30/hr=00/one.ndjson.gz", "gs://archive/load/orders/one.ndjson.gz"
OTHER = OBJECT.replace("one", "two")

GOOD, BAD = Published("good", "1a", ["orders"]), Published("bad", "2b", ["dead_letters"])
UPLOAD = Upload(OBJECT, {"good": "", "bad": ""}, 200)
ROW, DEAD = Insert("orders", [("good", OBJECT)], {}, 200), Insert("dead_letters", [("bad", OBJECT)], {}, 200)
ANSWER, DEAD_ANSWER = Answer("good", 204), Answer("bad", 204)
ARCHIVED = Archived(OBJECT, [("good", "1a"), ("bad", "2b")])
STORED, DEAD_LETTER = StoredRow("good", "orders", OBJECT, "x"), StoredRow("bad", "dead_letters", OBJECT, "y")
SHOWN = Shown("good", "orders", 1)

PUSHED: Sequence[Record] = [GOOD, BAD, UPLOAD, ROW, DEAD, ANSWER, DEAD_ANSWER]
FOUND: Sequence[Record] = [ARCHIVED, STORED, DEAD_LETTER, SHOWN, End()]

LOAD_FILE = Upload(FILE, {"good": OBJECT}, 200)
LOADED, AGAIN = Loaded("job", [FILE]), Loaded("other job", [FILE])
DRAINED: Sequence[Record] = [GOOD, BAD, UPLOAD, LOAD_FILE, DEAD, Acknowledgement(["good", "bad"]), LOADED]


def without(records: Sequence[Record], *left_out: Record) -> list[Record]:
    return [record for record in records if record not in left_out]


def also(records: Sequence[Record], record: Record, *, before: Record) -> list[Record]:
    index = records.index(before)
    return [*records[:index], record, *records[index:]]


def violations(records: Sequence[Record]) -> list[tuple[str, str]]:
    return [(violation.invariant, violation.name) for violation in CheckedHistory(records).violations]


@pytest.mark.parametrize(
    "records",
    [
        [*PUSHED, *FOUND],
        [*DRAINED, *FOUND],
        # Redelivered: archived and inserted twice, once without an answer; the view shows one row.
        [
            *also(PUSHED, Upload(OTHER, {"good": ""}, 200), before=ANSWER),
            Insert("orders", [("good", OTHER)], {}, 200),
            Archived(OTHER, [("good", "1a")]),
            StoredRow("good", "orders", OTHER, "x", 3),
            *FOUND,
        ],
        # The answer to the first upload was lost; the second attempt was told that the object is there.
        [Upload(OBJECT, UPLOAD.events, 412) if record == UPLOAD else record for record in [*PUSHED, *FOUND]],
        [*also(DRAINED, Answer("good", 503), before=UPLOAD), *FOUND],
        # A late upload has brought the file back: it is loaded once more.
        [*DRAINED, LOAD_FILE, AGAIN, *FOUND],
        # Two runs have asked for the job.
        [*DRAINED, LOADED, *FOUND],
        [GOOD, *also(PUSHED, Fault("BigQuery", "no answer", "POST", ["good"]), before=ROW), Note("killed"), *FOUND],
    ],
)
def test_a_good_history_has_no_violation(records: Sequence[Record]) -> None:
    history = CheckedHistory(records)
    assert (history.violations, history.is_complete) == ([], True)


BROKEN: list[tuple[Invariant, str, Sequence[Record]]] = [
    (Invariant.ARCHIVED, "good", [LOAD_FILE, *also(without(PUSHED, ANSWER), ANSWER, before=UPLOAD), *FOUND]),
    (Invariant.RECORDED, "good", [*also(without(PUSHED, ANSWER), ANSWER, before=ROW), *FOUND]),
    (Invariant.RECORDED, "good", [*also(without(DRAINED, LOAD_FILE), LOAD_FILE, before=LOADED), *FOUND]),
    (Invariant.OBJECT, "good", [*also(without(PUSHED, ROW), ROW, before=UPLOAD), *FOUND]),
    (Invariant.OBJECT, "good", [*also(without(DRAINED, LOAD_FILE), LOAD_FILE, before=UPLOAD), *FOUND]),
    (Invariant.OBJECT, "good", [*PUSHED, StoredRow("good", "orders", OTHER, "x"), *FOUND]),
    (Invariant.LOADED_ONCE, FILE, [*DRAINED, AGAIN, *FOUND]),
    (Invariant.ACKNOWLEDGED, "good", [*without(PUSHED, ANSWER), Answer("good", 503), *FOUND]),
    (Invariant.PLACE, "good", [*PUSHED, *without(FOUND, STORED, SHOWN)]),
    (Invariant.PLACE, "good", [*PUSHED, StoredRow("good", "dead_letters", OBJECT, "z"), *FOUND]),
    (Invariant.PLACE, "bad", [*PUSHED, StoredRow("bad", "orders", OBJECT, "z"), Shown("bad", "orders", 1), *FOUND]),
    (Invariant.PAYLOAD, "good", [*PUSHED, Archived(OTHER, [("good", "2b")]), *FOUND]),
    (
        Invariant.PAYLOAD,
        "bad",
        [*PUSHED, Archived(OBJECT, [("good", "1a")]), *without(FOUND, ARCHIVED, DEAD_LETTER)],
    ),
    (Invariant.CONTENT, "good", [*PUSHED, StoredRow("good", "orders", OBJECT, "other"), *FOUND]),
    (Invariant.SHOWN_ONCE, "good", [*PUSHED, *without(FOUND, SHOWN)]),
    (Invariant.SHOWN_ONCE, "good", [*PUSHED, *without(FOUND, SHOWN, FOUND[-1]), Shown("good", "orders", 2), End()]),
    (Invariant.SHOWN_ONCE, "bad", [*PUSHED, Shown("bad", "orders", 1), *FOUND]),
    (Invariant.NO_FILE, FILE, [*DRAINED, Pending(FILE), *FOUND]),
]


@pytest.mark.parametrize(("invariant", "name", "records"), BROKEN)
def test_each_violation_is_found_and_named(invariant: Invariant, name: str, records: Sequence[Record]) -> None:
    assert (invariant, name) in violations(records)
    assert {name for _, name in violations(records)} == {name}


def test_each_invariant_has_a_history_that_breaks_it() -> None:
    assert {invariant for invariant, _, _ in BROKEN} == set(Invariant)


def test_an_injected_rejection_makes_good_events_dead_letters() -> None:
    rejected = Published("good", "1a", ["orders", "dead_letters"])
    records = [rejected if record == GOOD else record for record in [*PUSHED, *without(FOUND, STORED, SHOWN)]]
    assert violations(records) == [(Invariant.PLACE, "good")]
    history = CheckedHistory(also(records, StoredRow("good", "dead_letters", OBJECT, "z"), before=records[-1]))
    assert (history.violations, history.totals.rejected) == ([], 1)


def test_totals_count_what_is_there_twice_and_what_is_missing() -> None:
    again: list[Record] = [GOOD, StoredRow("good", "orders", OBJECT, "x", 2), Archived(OTHER, [("good", "1a")])]
    lost = Published("lost", "3c", ["orders"])
    history = CheckedHistory([*PUSHED, lost, *again, *FOUND])
    assert history.totals == Totals(messages=4, events=3, duplicates=2, copies=1, missing=1, unarchived=1, rejected=0)


@pytest.fixture
def recorded(tmp_path: pathlib.Path) -> pathlib.Path:
    """Write a history whose good event has no row: a worker was killed after it acknowledged."""
    recorder = Recorder(tmp_path / "history.ndjson", "a test")
    recorder.add(*also(without(PUSHED, ROW), Note("SIGKILL of the worker"), before=DEAD_ANSWER))
    recorder.add(*without(FOUND, STORED, SHOWN))
    recorder.close()
    return recorder.file


def test_a_file_has_the_records_in_their_order(recorded: pathlib.Path) -> None:
    records = list(read_records(recorded))
    assert [type(record).__name__ for record in records[:3]] == ["Note", "Published", "Published"]
    assert [record.at for record in records] == sorted(record.at for record in records)


def test_an_error_names_the_first_violations_and_the_file(recorded: pathlib.Path) -> None:
    with pytest.raises(AssertionError) as raised:
        CheckedHistory.read(recorded).check()
    assert str(raised.value).splitlines() == [
        "2 violations:",
        "  acknowledged is recorded: good was acknowledged and is in no table and no load file",
        "  each is where it belongs: good is in no table, and belongs into orders",
        f"  python -m tests.history {recorded}",
    ]


def test_a_history_without_its_end_proves_nothing(recorded: pathlib.Path) -> None:
    """A process was killed while it wrote a line."""
    recorded.write_bytes(recorded.read_bytes().partition(b'{"what":"archived"')[0] + b'{"what":"arch')
    with pytest.raises(AssertionError, match="has no end"):
        CheckedHistory.read(recorded).check()


def test_a_timeline_has_the_load_job_of_an_event(tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path / "history.ndjson", "a test")
    CheckedHistory.end(recorder, [*DRAINED, *FOUND]).check()
    lines = [line[12:] for line in timeline(recorder.file, "good")]
    assert lines[3:5] == ["good is acknowledged", f"{FILE} is loaded by job job"]
    assert lines[-2] == f"in the end orders has rows of good with {OBJECT}: 1"


def command(*arguments: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.history", *arguments], capture_output=True, check=False, text=True, env=os.environ
    )
    return ended.returncode, ended.stdout


def test_the_command_prints_violations_and_timelines(recorded: pathlib.Path) -> None:
    code, output = command(str(recorded))
    assert code == 1
    lines = [line[12:] if line.startswith("   ") else line for line in output.splitlines()]
    assert lines == [
        "acknowledged is recorded: good was acknowledged and is in no table and no load file",
        "each is where it belongs: good is in no table, and belongs into orders",
        "",
        "good",
        "good is published, and belongs into orders",
        f"{OBJECT} is uploaded with good: 200",
        "good is acknowledged: 204",
        "(SIGKILL of the worker)",
        f"in the end {OBJECT} has lines of good: 1",
        "2 messages of 2 events, 2 violations",
    ]


def test_the_command_prints_the_timeline_of_an_event(recorded: pathlib.Path) -> None:
    code, output = command(str(recorded), "--event", "bad")
    assert code == 0
    assert "dead_letters: a row of bad is inserted, with " in output
    assert command(str(recorded), "--event", "none")[0] == 1


def test_the_command_rejects_a_file_that_is_no_history(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("hello\n")
    run = subprocess.run([sys.executable, "-m", "tests.history", file], capture_output=True, check=False, text=True)
    assert (run.returncode, f"{file} is no history: JSON is malformed" in run.stderr) == (2, True)
