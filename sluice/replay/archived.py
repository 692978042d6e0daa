"""The archive as a source of lines: its objects by arrival time, and their events by type."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec
from google.cloud.storage import Client as StorageClient

from functions.archive import layout
from functions.files.sources import Line, Source, find_objects


def arrived(storage: StorageClient, bucket: str, start: datetime, end: datetime) -> list[Source]:
    """Return the archive objects of a time range, in order of time.

    Args:
        storage: Client of the bucket's project.
        bucket: The archive.
        start: Start of the range, inclusive, with a time zone.
        end: End of the range, exclusive.

    Raises:
        google.api_core.exceptions.GoogleAPIError: Cloud Storage rejected the request or did not answer.
    """
    days = [start.astimezone(UTC).date()]
    while days[-1] < end.astimezone(UTC).date():
        days.append(days[-1] + timedelta(days=1))
    first, last = (f"gs://{bucket}/{layout.first_name_at(moment)}" for moment in (start, end))
    sources = (source for day in days for source in find_objects(bucket, storage, prefix=f"raw/dt={day:%Y-%m-%d}/"))
    return sorted(source for source in sources if first <= source.name < last)


class _Typed(msgspec.Struct):
    event_type: str | None = None


_decode_type = msgspec.json.Decoder(_Typed).decode


@dataclasses.dataclass(frozen=True, slots=True)
class OfType:
    """Lines of a source with events of one type, according to their envelopes.

    Attributes:
        source: The source.
        event_type: The type.
    """

    source: Source
    event_type: str

    def lines(self, advance: Callable[[int], object]) -> Iterator[Line]:
        """Yield the lines of the source; raise the errors of the source."""
        return (line for line in self.source.lines(advance) if self._is_of_type(line))

    def _is_of_type(self, line: Line) -> bool:
        try:
            return _decode_type(line.data).event_type == self.event_type
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
