"""Checkpoint of the archive's part of an erasure, in a file: the hours that were read are not read again.

The file has a line for the request, and one for each hour. It has no id, only hashes. Of an hour that was read, the
next run reads only:

- objects that were created after the run that read the hour had begun, unless that run wrote them itself: events that
  arrived late, and compacted objects;
- objects from which not everything could be erased, so that they are reported again.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import BinaryIO, Self

import msgspec

from functions.archive.reader import Archived
from sluice.erase.ownership import Persons
from sluice.erase.report import EventRef

CLOCK_MARGIN = timedelta(minutes=1)
"""Maximum difference between the clocks of BigQuery, which has the begin of a run, and of Cloud Storage."""


class WrongCheckpoint(Exception):
    """Raised for a file that is not the checkpoint of the request; says what differs."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Persons, bucket and time of a run, without the ids.

    Attributes:
        bucket: Bucket of the archive.
        start: Start of the arrival times.
        end: End of the arrival times.
        persons: Hash of all ids.
    """

    bucket: str
    start: datetime | None
    end: datetime | None
    persons: str

    @classmethod
    def of(cls, persons: Persons, bucket: str, start: datetime | None, end: datetime | None) -> Self:
        """Return the request of a run."""
        ids = {field: sorted(values) for field, values in sorted(persons.ids.items()) if values}
        content = msgspec.json.encode([ids, sorted(persons.event_ids)])
        return cls(bucket=bucket, start=start, end=end, persons=hashlib.sha256(content).hexdigest())


class _Hour(msgspec.Struct, frozen=True, kw_only=True):
    """An hour that was read.

    Attributes:
        hour: Address of its objects, without their names.
        began: When the run began to list the archive, by Google's clock.
        again: Names of the objects that have to be read again.
        written: Generation of each object that was rewritten, by name; 0 for one that was deleted.
        events: Hashes of the erased events whose ids name a person.
    """

    hour: str
    began: datetime
    again: list[str] = []
    written: dict[str, int] = {}
    events: list[str] = []


_BEGIN = b'{"bucket":'
_WHAT = {"bucket": "the bucket is", "start": "--from is", "end": "--to is"}


@dataclasses.dataclass(slots=True)
class Checkpoint:
    """The hours that earlier runs of a request have read, and those that this run reads.

    Attributes:
        request: The request.
        began: When this run began to list the archive, by Google's clock.
        read_before: Number of hours that earlier runs have read.
    """

    request: Request
    began: datetime
    read_before: int
    _file: BinaryIO
    _hours: dict[str, _Hour]
    _events: set[str]

    @classmethod
    def open(cls, path: pathlib.Path, request: Request, began: datetime) -> Self:
        """Open a checkpoint, or create it; only the user may read it.

        Args:
            path: The file.
            request: What the run erases from where.
            began: The present, by Google's clock.

        Raises:
            WrongCheckpoint: The file belongs to another request, or is no checkpoint.
            OSError: The file cannot be read or written.
        """
        file = open(path, "a+b", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
        try:
            checkpoint = cls(request, began, 0, file, {}, set())
            checkpoint._load(path)
        except BaseException:
            file.close()
            raise
        return checkpoint

    def _load(self, path: pathlib.Path) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rpartition(b"\n")[0] + b"\n" if b"\n" in content else b""
        if whole:
            first, *lines = whole.splitlines()
        elif not content.startswith(_BEGIN) and not _BEGIN.startswith(content):
            raise WrongCheckpoint(f"{path} is not a checkpoint of `sluice erase`")
        else:
            self._file.truncate(0)
            self._append(self.request)
            return
        try:
            self._check(path, msgspec.json.decode(first, type=Request))
            hours = [msgspec.json.decode(line, type=_Hour) for line in lines]
        except msgspec.DecodeError as error:
            raise WrongCheckpoint(f"{path} is not a checkpoint of `sluice erase`: {error}") from error
        self._file.truncate(len(whole))  # A run that was killed may have written a part of a line.
        for hour in hours:
            self._add(hour)
        self.read_before = len(self._hours)

    def _check(self, path: pathlib.Path, stored: Request) -> None:
        for field, what in _WHAT.items():
            value, of_file = getattr(self.request, field), getattr(stored, field)
            if value != of_file:
                raise WrongCheckpoint(
                    f"{path} is the checkpoint of another run: {what} {_readable(of_file)} there, and"
                    f" {_readable(value)} here; give the same, as a time with a date, or another file"
                )
        if stored != self.request:
            raise WrongCheckpoint(
                f"{path} is the checkpoint of another run, with other ids or events; give the same, or another file"
            )

    def is_read(self, archived: Archived) -> bool:
        """Return whether nothing of an object is left to be read."""
        folder, _, name = archived.uri.rpartition("/")
        hour = self._hours.get(folder)
        if hour is None or name in hour.again:
            return False
        if name in hour.written and hour.written[name] == archived.generation:
            return True
        return archived.created is not None and archived.created < hour.began - CLOCK_MARGIN

    def has_erased(self, event: EventRef) -> bool:
        """Return whether an earlier run has erased an event whose id names a person."""
        return bool(self._events) and self._hash(event) in self._events

    def written(self) -> set[str]:
        """Return the addresses of all objects that earlier runs have rewritten or deleted."""
        return {f"{folder}/{name}" for folder, hour in self._hours.items() for name in hour.written}

    def add(
        self, hour: str, again: Collection[str], written: Mapping[str, int], events: Iterable[EventRef] = ()
    ) -> None:
        """Add an hour that is read, durably.

        Args:
            hour: Address of its objects, without their names.
            again: Addresses of the objects that have to be read again.
            written: Generation of each object that was rewritten, by address; 0 for one that was deleted.
            events: Erased events whose ids name a person.
        """
        line = _Hour(
            hour=hour,
            began=self.began,
            again=sorted(map(_name, again)),
            written={_name(uri): generation for uri, generation in sorted(written.items())},
            events=sorted(map(self._hash, events)),
        )
        self._append(line)
        self._add(line)

    def _add(self, line: _Hour) -> None:
        """Add a line; what an earlier one says of objects that were written stays true."""
        before = self._hours.get(line.hour)
        written = {**before.written, **line.written} if before else line.written
        self._hours[line.hour] = msgspec.structs.replace(line, written=written, events=[])
        self._events.update(line.events)

    def _append(self, line: msgspec.Struct) -> None:
        content = msgspec.json.encode(line) + b"\n"
        if self._file.write(content) != len(content):
            raise OSError(f"{self._file.name}: a line was not written completely; is the disk full?")
        os.fsync(self._file.fileno())

    def _hash(self, event: EventRef) -> str:
        key = bytes.fromhex(self.request.persons)
        return hashlib.blake2b("\0".join(event).encode(), digest_size=16, key=key).hexdigest()


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]


def _readable(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value or "not given")
