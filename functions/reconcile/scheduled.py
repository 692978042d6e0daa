"""The scheduled reconciliation: each run starts where the last one ended, and stops before its deadline."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import msgspec
from google.api_core.exceptions import PreconditionFailed
from google.cloud.storage import Client as StorageClient

from functions.reconcile.findings import HourCounts, Reconciliation
from functions.reconcile.reconciler import SPAN
from functions.system import SYSTEM

MAX_SECONDS = 1_500
"""Maximum seconds of a run; the next one continues. The function has 1 800, of which the last look-up may take some."""

_HOUR = timedelta(hours=1)

MAX_BEHIND = timedelta(days=7)
"""Maximum time that a run goes back. It reports what is older, which `sluice reconcile` compares."""

ARCHIVED_BEFORE = timedelta(minutes=20)
"""More than the time from the arrival of events, which their archive object has in its name, until their load files are
written: `FLUSH_TIMEOUT` for the object, and for each table before the last."""

_FOLDER = "reconciled/"
_TIME = "%Y%m%dT%H%M%S.%fZ"
_CHECKPOINT = re.compile(rf"{_FOLDER}(\d{{8}}T\d{{6}}\.\d{{6}}Z)\.json")


def recent_hours(now: datetime) -> tuple[datetime, datetime]:
    """Return the time that the first run compares: two hours, which ended at least an hour ago.

    Within an hour Pub/Sub has redelivered the messages of an outage of minutes.
    """
    end = _hour_of(now) - _HOUR
    return end - 2 * _HOUR, end


def _hour_of(time: datetime) -> datetime:
    return time.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


class Part(NamedTuple):
    """The part of a run that ends with one checkpoint.

    Attributes:
        start: The first time of arrival.
        reconciliation: Its result.
    """

    start: datetime
    reconciliation: Reconciliation

    @property
    def is_complete(self) -> bool:
        """Return whether no event is missing, different or unreadable."""
        return self.reconciliation.is_complete

    def summary(self) -> dict[str, Any]:
        """Return the fields of a log line."""
        return {
            "start": self.start.isoformat(),
            "end": self.reconciliation.until.isoformat(),
            **self.reconciliation.summary(),
        }


class Checkpoint(msgspec.Struct, frozen=True):
    """The content of a checkpoint.

    Attributes:
        start: The first time of arrival that its run compared.
        end: The time of arrival up to which all is compared.
        total: Counts of the events that arrived in between.
        unreadable: Number of archive objects that could not be read.
    """

    start: datetime
    end: datetime
    total: HourCounts
    unreadable: int = 0

    @property
    def is_complete(self) -> bool:
        """Return whether every event was there, with the content that came in."""
        return not (self.total.missing or self.total.different or self.unreadable)


class Compares(Protocol):
    """The call of a `Reconciler`."""

    def __call__(
        self,
        start: datetime,
        end: datetime,
        advance: Callable[[datetime], object] = ...,
        is_over: Callable[[], bool] = ...,
    ) -> Reconciliation:
        """Compare all that arrived in a time."""


class Checkpoints:
    """The times up to which all is compared: objects `reconciled/TIME.json` of the archive's bucket.

    Each is written once, so that the function needs no permission to overwrite or delete anything.

    Args:
        storage: Client of the archive's project.
        bucket: Name of the bucket.
    """

    def __init__(self, storage: StorageClient, bucket: str) -> None:
        self._bucket = storage.bucket(bucket)

    def last(self, now: datetime) -> datetime | None:
        """Return the last checkpoint, however old; None without any.

        A checkpoint that was written before its time does not count: the clock of its run was ahead, and what arrived
        until then was not compared. Other objects of the folder do not count either.
        """
        # Two years have many checkpoints: all are listed only if the last days have none.
        return max(self._since(_name(now - MAX_BEHIND)), default=None) or max(self._since(_FOLDER), default=None)

    def _since(self, first: str) -> Iterator[datetime]:
        blobs = self._bucket.list_blobs(
            prefix=_FOLDER, start_offset=first, fields="items(name,timeCreated),nextPageToken"
        )
        for blob in blobs:
            if name := _CHECKPOINT.fullmatch(blob.name):
                until = datetime.strptime(name[1], _TIME).replace(tzinfo=UTC)
                if until <= blob.time_created:  # by the clock of Cloud Storage
                    yield until

    def since(self, time: datetime | None) -> Iterator[Checkpoint]:
        """Yield the checkpoints at a time or later, or all, the oldest first; each is read when it is yielded."""
        for until in sorted(self._since(_name(time) if time else _FOLDER)):
            yield msgspec.json.decode(self._bucket.blob(_name(until)).download_as_bytes(), type=Checkpoint)

    def add(self, part: Part) -> None:
        """Write the checkpoint of a part, with its counts."""
        result = part.reconciliation
        checkpoint = Checkpoint(part.start, result.until, result.total, len(result.unreadable))
        try:
            self._bucket.blob(_name(result.until)).upload_from_string(
                msgspec.json.encode(checkpoint), content_type="application/json", if_generation_match=0
            )
        except PreconditionFailed:  # An earlier attempt has succeeded.
            return


def _name(until: datetime) -> str:
    return f"{_FOLDER}{until.astimezone(UTC):{_TIME}}.json"


class ScheduledReconciliation:
    """A run: compares what has arrived since the last one, until an hour ago.

    Args:
        compare: Compares the archive with the tables.
        checkpoints: Where the last run ended.
        now: The time, in UTC.
        clock: Returns seconds that never go back, from any start.
        loaded_until: When the oldest load file was written that batch mode has not loaded; None if there is none. What
            it has would seem to be missing.

    Attributes:
        until: The time of arrival up to which all is compared, but for `skipped`.
        skipped: Begin and end of the time that is not compared, since it is too long ago; None if there is none.
    """

    def __init__(
        self,
        compare: Compares,
        checkpoints: Checkpoints,
        now: datetime,
        clock: Callable[[], float] = SYSTEM.monotonic,
        loaded_until: datetime | None = None,
    ) -> None:
        first, self._due = recent_hours(now)
        self._end = self._due if loaded_until is None else min(self._due, _hour_of(loaded_until - ARCHIVED_BEFORE))
        self._compare = compare
        self._checkpoints = checkpoints
        self._clock = clock
        last, oldest = checkpoints.last(now), self._due - MAX_BEHIND
        self.skipped = (last, oldest) if last is not None and last < oldest else None
        self._is_first = last is None
        self.until = first if last is None else max(last, oldest)

    def __iter__(self) -> Iterator[Part]:
        """Compare one part after the other; a part's checkpoint is written when the next one is asked for."""
        deadline = self._clock() + MAX_SECONDS
        if self._is_first:  # If it fails, the next run starts here, too.
            self._checkpoints.add(Part(self.until, Reconciliation(self.until)))
        while self.until < self._end and self._clock() < deadline:
            end = min(_hour_of(self.until) + SPAN, self._end)  # A part is one query of each table.
            reconciliation = self._compare(self.until, end, is_over=lambda: self._clock() >= deadline)
            part = Part(self.until, reconciliation)
            yield part
            self._checkpoints.add(part)
            self.until = reconciliation.until

    @property
    def behind(self) -> timedelta:
        """Return the time of arrival that is left to compare."""
        return max(self._due - self.until, timedelta())

    @property
    def is_behind(self) -> bool:
        """Return whether the next run has more than an hour's events to compare."""
        return self.behind >= _HOUR
