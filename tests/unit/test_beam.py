"""`sluice beam` without Beam: what is started, what is made of its log, and what is said where Beam is missing."""

import collections
import csv
import io
import os
import pathlib

import msgspec
import pytest

from functions.files.messages import ReadReport
from functions.ingest.flush_report import FlushReport
from sluice import beam
from sluice.beam import BeamRun, Counts, whole_lines
from tests.support.command_line import sluice

SETTINGS = {"ARCHIVE_BUCKET": "archive", "GOOGLE_CLOUD_PROJECT": "project"}


def test_missing_beam_is_reported_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "_PLACES", ())
    ended = sluice(["beam", __file__, "--dry-run"], SETTINGS)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Failed: Apache Beam is not installed; run `make beam` in the folder of the project\n"


def test_a_pipe_is_rejected_before_anything_is_read(tmp_path: pathlib.Path) -> None:
    """The process with Beam could not read it, or would lack what was read before."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    ended = sluice(["beam", pipe, "--dry-run"], SETTINGS)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"Failed: {pipe}: is neither a file nor a folder" in ended.stderr


def test_names_with_commas_and_quotes_arrive_as_they_are() -> None:
    names = ["gs://b/{1,2}/**", 'a "b", c', "d"]
    run = BeamRun(pathlib.Path("python"), names)
    [option] = [text for text in run.command if text.startswith("--input_files=")]
    assert next(csv.reader([option.partition("=")[2]])) == names


def test_counts_are_the_sum_of_the_log_lines() -> None:
    flush = FlushReport(
        archive_uri="gs://archive/raw/1",
        events=4,
        message_bytes=9,
        archive_bytes=100,
        rows=collections.Counter(orders=2),
        dead_letters=collections.Counter(contract=1),
        failed=1,
        errors=["NotDurable: one"],
    )
    read = ReadReport(files=1, events=4, bytes=9, smoke_tests=1, without_id=1, first_without_id=["a line 3: no id"])
    counts = Counts()
    for line in [
        "INFO:apache_beam.runners:read {}",
        f"DEBUG:dataflow.files:read {msgspec.json.encode(read).decode()}",
        f"ERROR:dataflow.write:flush {msgspec.json.encode(flush).decode()}",
        f"WARNING:dataflow.write:flush {msgspec.json.encode(flush).decode()}",
        "Traceback (most recent call last):",
        "Failed: NotDurable: 1 of 4 rows",
    ]:
        counts.add(line)
    assert (counts.files, counts.events, counts.bytes, counts.lines) == (1, 4, 9, 6)
    assert (counts.rows, counts.dead_letters) == ({"orders": 4}, {"contract": 2})
    assert (counts.objects, counts.object_bytes, counts.why) == (2, 200, "NotDurable: 1 of 4 rows")
    assert counts.without_id.first == ["a line 3: no id"]


def test_a_line_counts_when_it_is_whole() -> None:
    log = io.StringIO()
    log.write("a\nb")
    log.seek(0)
    assert list(whole_lines(log)) == ["a"]
    log.seek(0, io.SEEK_END)
    log.write("c\n")
    log.seek(2)
    assert list(whole_lines(log)) == ["bc"]
