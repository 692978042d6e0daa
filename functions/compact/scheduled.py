"""The scheduled compaction: each run continues where the last one ended, and stops before its deadline."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from google.api_core.exceptions import PreconditionFailed
from google.cloud.storage import Client as StorageClient

from functions.archive.compaction import Compacted, HourChanged, NotVerified
from functions.archive.reader import ObjectNotFound, UnreadableObject
from functions.reconcile.scheduled import Checkpoint, Checkpoints

MAX_SECONDS = 1_500
"""Maximum seconds of a run; the next one continues. The function has 1 800, of which the last object may take some."""

LOOK_BACK = timedelta(days=1)
"""Time before the end of the last run that each run looks at again, for objects that came late."""

_BEHIND = f"left to the next run: {MAX_SECONDS} s were enough for one hour at most, and each hour brings another one"
"""Error of the oldest hour that is not compacted, where runs do not catch up. There is one in an hour."""

_HOUR = timedelta(hours=1)
_PROGRESS = "compacted/until.json"


def complete_hours(checkpoints: Iterable[Checkpoint]) -> Iterator[datetime]:
    """Yield the hours of which a reconciliation has compared all events and found each in its place.

    Args:
        checkpoints: All checkpoints of a time, the oldest first.
    """
    complete_from = complete_to = hour = datetime.min.replace(tzinfo=UTC)
    for checkpoint in checkpoints:
        if not checkpoint.is_complete:
            complete_from = complete_to = checkpoint.end
        elif checkpoint.start <= complete_to:
            complete_to = max(complete_to, checkpoint.end)
        else:
            complete_from, complete_to = checkpoint.start, checkpoint.end
        hour = max(hour, _next_hour(complete_from))
        while hour + _HOUR <= complete_to:
            yield hour
            hour += _HOUR


def _next_hour(time: datetime) -> datetime:
    """Return a time, if it is the begin of an hour, or else the begin of the next one."""
    begin = time.replace(minute=0, second=0, microsecond=0)
    return begin if begin == time else begin + _HOUR


class Progress:
    """The time of arrival up to which hours are compacted: an object of the archive's bucket.

    Args:
        storage: Client of the archive's project.
        bucket: Name of the bucket.
    """

    def __init__(self, storage: StorageClient, bucket: str) -> None:
        self._bucket = storage.bucket(bucket)
        self._generation: int | None = 0

    def read(self) -> datetime | None:
        """Return the time; None if nothing is compacted."""
        blob = self._bucket.get_blob(_PROGRESS)
        if blob is None:
            return None
        self._generation = blob.generation
        return msgspec.json.decode(blob.download_as_bytes(), type=datetime)

    def write(self, until: datetime) -> None:
        """Keep a time, unless another run has kept one since `read`."""
        blob = self._bucket.blob(_PROGRESS)
        try:
            blob.upload_from_string(
                msgspec.json.encode(until), content_type="application/json", if_generation_match=self._generation
            )
        except PreconditionFailed:
            return
        self._generation = blob.generation


class HourResult(NamedTuple):
    """The result of the compaction of an hour.

    Attributes:
        hour: The begin of the hour.
        compacted: What was compacted; None if nothing could be.
        error: The reason why nothing could be.
    """

    hour: datetime
    compacted: Compacted | None = None
    error: str | None = None

    def summary(self) -> dict[str, Any]:
        """Return the fields of a log line."""
        result = {"error": self.error} if self.compacted is None else msgspec.to_builtins(self.compacted)
        return {"hour": self.hour.isoformat(), **result}


class ScheduledCompaction:
    """A run: compacts the hours that the reconciliation has found complete since the last run.

    Args:
        compact: Compacts an hour, unless the second argument returns that the run is over.
        checkpoints: Where the reconciliations ended, and what they found.
        progress: Where the last run ended.
        clock: Returns seconds that never go back, from any start.

    Attributes:
        until: The time of arrival up to which hours are compacted; None if none is.
    """

    def __init__(
        self,
        compact: Callable[[datetime, Callable[[], bool]], Compacted],
        checkpoints: Checkpoints,
        progress: Progress,
        clock: Callable[[], float],
    ) -> None:
        self._compact = compact
        self._checkpoints = checkpoints
        self._progress = progress
        self._clock = clock
        self._deadline = clock() + MAX_SECONDS
        self.until = progress.read()

    def is_over(self) -> bool:
        """Return whether the run has to end."""
        return self._clock() >= self._deadline

    def __iter__(self) -> Iterator[HourResult]:
        """Compact one hour after the other; yield those of which something was, or could not be, compacted."""
        since = None if self.until is None else self.until - LOOK_BACK
        new_hours = 0
        for hour in complete_hours(self._checkpoints.since(since)):
            result = self._attempt(hour)
            if result is None:
                if self.is_over() and new_hours <= 1:
                    yield HourResult(hour, error=_BEHIND)
                return
            if result.compacted != Compacted():
                yield result
            end = hour + _HOUR
            if self.until is None or end > self.until:
                self._progress.write(end)
                self.until = end
                new_hours += 1

    def _attempt(self, hour: datetime) -> HourResult | None:
        """Return the result of an hour; None if it is left to the next run."""
        if self.is_over():
            return None
        try:
            return HourResult(hour, self._compact(hour, self.is_over))
        except HourChanged:
            return None
        except (NotVerified, UnreadableObject, ObjectNotFound) as error:
            return HourResult(hour, error=str(error))
