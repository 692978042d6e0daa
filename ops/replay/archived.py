"""The archive as a source of lines: its objects of a time of arrival, and of them the events of a type."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
from google.cloud.storage import Client as StorageClient

from ops.backfill.sources import Line, Source, find_objects

_NAME = re.compile(r"raw/dt=\d{4}-\d{2}-\d{2}/hr=\d{2}/(\d{8}T\d{6}\.\d{6}Z)-")


def arrived(storage: StorageClient, bucket: str, start: datetime, end: datetime) -> list[Source]:
    """The objects that were begun within a time, in its order.

    Args:
        storage: Client of the bucket's project.
        bucket: The archive.
        start: The first moment that counts, with a time zone.
        end: The first moment after it that does not.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Cloud Storage refused or did not answer.
    """
    first, last = start.astimezone(UTC), end.astimezone(UTC)
    days = [first.date() + timedelta(days=number) for number in range((last.date() - first.date()).days + 1)]
    found = (one for day in days for one in find_objects(bucket, storage, prefix=f"raw/dt={day:%Y-%m-%d}/"))
    return sorted(one for one in found if first <= _time(one.name) < last)


def _time(name: str) -> datetime:
    """When the flush of an object began; what is not named as the archive names its objects has no time."""
    matched = _NAME.search(name)
    if matched is None:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.strptime(matched[1], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


class _Typed(msgspec.Struct):
    event_type: str | None = None


_decode_type = msgspec.json.Decoder(_Typed).decode


@dataclasses.dataclass(frozen=True, slots=True)
class OfType:
    """The lines of a source whose envelopes say that their events are of a type.

    Attributes:
        source: The source.
        event_type: The type.
    """

    source: Source
    event_type: str

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        """As the source's; raises as they do."""
        return (line for line in self.source.lines(advance) if self._is_of_type(line))

    def _is_of_type(self, line: Line) -> bool:
        try:
            return _decode_type(line.data).event_type == self.event_type
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
