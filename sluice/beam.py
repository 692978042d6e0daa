"""The pipeline on Apache Beam as a child process: its command line, and the counts that its log reports."""

import collections
import csv
import dataclasses
import io
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

import msgspec

from functions.files.id_fields import WithoutId
from functions.files.messages import ReadReport
from functions.ingest.flush_report import FlushReport
from sluice.package import ROOT

_PLACES = (pathlib.Path(sys.prefix) / "beam", ROOT / ".venv" / "beam")

_LOGGED = re.compile(r"[A-Z]+:dataflow\.\w+:(read|flush) (\{.*\})")
_ENDED = re.compile(r"(Failed|Nothing was done): (.*)")


class NoBeam(Exception):
    """Raised when Apache Beam is not installed; says how to install it."""


def find_python(given: pathlib.Path | None) -> pathlib.Path:
    """Return the Python interpreter of Beam's environment.

    Args:
        given: Interpreter to use; None for the one that `make beam` installs.

    Raises:
        NoBeam: It does not exist.
    """
    if given:
        if given.is_file():
            return given
        raise NoBeam(f"{given} is not a Python interpreter")
    for place in _PLACES:
        if (place / "ready").exists():
            return place / "bin" / "python"
    raise NoBeam("Apache Beam is not installed; run `make beam` in the folder of the project")


@dataclasses.dataclass(frozen=True, slots=True)
class BeamRun:
    """A run of the pipeline from files.

    Attributes:
        python: Python of Beam's environment.
        names: Files, folders, globs and `gs://BUCKET/PREFIX`.
        schema_version: Contract version of plain events; None for the default of the type.
        id_fields: Paths of the fields with the ids of plain events.
        dry_run: Whether nothing is written.
    """

    python: pathlib.Path
    names: Sequence[str]
    schema_version: int | None = None
    id_fields: Sequence[str] = ()
    dry_run: bool = False

    @property
    def command(self) -> list[str]:
        """Program and arguments."""
        options = {
            "runner": "FnApiRunner",
            "input_files": _list(self.names),
            "log_level": "DEBUG",
            "id_fields": _list(self.id_fields),
            "schema_version": str(self.schema_version or ""),
            "dry_run": "true" if self.dry_run else "",
        }
        given = [f"--{name}={value}" for name, value in options.items() if value]
        return [str(self.python), "-P", "-m", "dataflow.main", *given]

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables besides those of this process."""
        return {"PYTHONPATH": str(ROOT)}


def _list(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue() if values else ""


@dataclasses.dataclass(slots=True)
class Counts:
    """Counts of a run, read from its log.

    Attributes:
        files: Files that were read to their end.
        bytes: Bytes that were read, as they are stored.
        events: Events that were read.
        smoke_tests: Events of `sluice smoke`, which are skipped.
        without_id: Events without the id of `--id-field`, which are skipped.
        rows: Rows by table. This and all following counts are of durable data, or of data that would be.
        dead_letters: Number of dead letters by stage.
        objects: Number of archive objects that were written.
        object_bytes: Size of these objects in bytes.
        why: Reason why the run failed; empty if it did not.
    """

    files: int = 0
    bytes: int = 0
    events: int = 0
    smoke_tests: int = 0
    without_id: WithoutId = dataclasses.field(default_factory=WithoutId)
    rows: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    dead_letters: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    objects: int = 0
    object_bytes: int = 0
    why: str = ""

    @property
    def durable(self) -> int:
        """Number of events that are rows or dead letters."""
        return self.rows.total() + self.dead_letters.total()

    @property
    def unfinished(self) -> int:
        """Number of events that were read and are not confirmed as rows or dead letters."""
        return max(0, self.events - self.durable)

    @property
    def lines(self) -> int:
        """Number of lines that were read."""
        return self.events + self.smoke_tests + self.without_id.count

    def add(self, line: str) -> None:
        """Add the counts of a log line; most lines are Beam's own and have none."""
        if ended := _ENDED.fullmatch(line):
            self.why = ended[2]
        elif logged := _LOGGED.fullmatch(line):
            what, fields = logged.groups()
            if what == "read":
                self._read(msgspec.json.decode(fields, type=ReadReport))
            else:
                self._flushed(msgspec.json.decode(fields, type=FlushReport, dec_hook=_counter))

    def _read(self, report: ReadReport) -> None:
        self.files += report.files
        self.bytes += report.bytes
        self.events += report.events
        self.smoke_tests += report.smoke_tests
        self.without_id.count += report.without_id
        self.without_id.first += report.first_without_id

    def _flushed(self, report: FlushReport) -> None:
        self.rows += report.rows
        self.dead_letters += report.dead_letters
        self.objects += report.archive_bytes > 0
        self.object_bytes += report.archive_bytes


def _counter(_: type, value: Mapping[str, int]) -> collections.Counter[str]:
    return collections.Counter(value)


def whole_lines(log: TextIO) -> Iterator[str]:
    """Yield the complete lines that were added to a log since the last call."""
    while True:
        start = log.tell()
        line = log.readline()
        if not line.endswith("\n"):
            log.seek(start)
            return
        yield line.rstrip("\n")
