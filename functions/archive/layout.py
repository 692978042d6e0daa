"""Names and addresses of the archive's objects, by the hour of arrival. No other module spells them."""

import contextlib
import re
from datetime import UTC, date, datetime
from typing import NamedTuple

PREFIX = "raw/"
"""Prefix of the names of all objects of the archive. The bucket has other folders, too."""

_TIME = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"raw/dt=(\d{4}-\d\d-\d\d)/hr=(\d\d)/(?:(\d{8}T\d{6}\.\d{6}Z))?")
_ENDING = ".ndjson.gz"
_STEM = r"\d{8}T\d{6}\.\d{6}Z-[0-9a-z]+-\d{8}"
_ORIGINAL = re.compile(rf"raw/dt=[\d-]+/hr=\d\d/{_STEM}\.ndjson\.gz")
_COMPACTED = re.compile(rf"(raw/dt=[\d-]+/hr=\d\d/)\d{{8}}T\d\dZ-({_STEM})_to_({_STEM})\.ndjson\.gz")


def day_prefix(day: date) -> str:
    """Return the prefix of the names of all objects whose events arrived on a day, in UTC."""
    return f"{PREFIX}dt={day:%Y-%m-%d}/"


def hour_prefix(time: datetime) -> str:
    """Return the prefix of the names of all objects whose events arrived in an hour."""
    utc = time.astimezone(UTC)
    return f"{day_prefix(utc.date())}hr={utc:%H}/"


def is_begin_of_hour(name: str) -> bool:
    """Return whether a name from `first_name_at` is the first one of its hour."""
    time = arrival_time(name)
    return name == first_name_at(time.replace(minute=0, second=0, microsecond=0))


def first_name_at(time: datetime) -> str:
    """Return the smallest possible object name for messages that arrived at or after a time."""
    return f"{hour_prefix(time)}{time.astimezone(UTC):{_TIME}}"


def object_name(time: datetime, instance: str, sequence: int) -> str:
    """Return the name of a new object.

    Args:
        time: Time of arrival of its events.
        instance: Random hex digits of the instance that writes it.
        sequence: Number of the object among those of the instance.
    """
    return f"{first_name_at(time)}-{instance}-{sequence:08d}.ndjson.gz"


def is_original(name: str) -> bool:
    """Return whether a name is that of an object as the archive writes it, which may be compacted."""
    return _ORIGINAL.fullmatch(name) is not None


def origin_of(name: str) -> str:
    """Return the name of an original object without folder and ending, as the lines of a compacted object have it."""
    return name.rpartition("/")[2].removesuffix(_ENDING)


def original_of(name: str, origin: str) -> str:
    """Return the name, or the address, of an original object.

    Args:
        name: Name or address of an object of the same hour.
        origin: From `origin_of`.
    """
    return f"{name.rpartition('/')[0]}/{origin}{_ENDING}"


class OriginalsRange(NamedTuple):
    """Names of the first and the last original object of a compacted one; all lie in one hour."""

    first: str
    last: str

    def has(self, name: str) -> bool:
        """Return whether a name lies in the range. The object of the name may be another one that came later."""
        return self.first <= name <= self.last


def compacted_prefix(name: str) -> str:
    """Return the prefix of the names of all compacted objects of the hour of an object.

    They sort after the originals of the hour. So a listing that has an original before it is deleted, or else the
    compacted object that replaced it, misses no event (`functions.archive.compaction`).
    """
    hour = arrival_time(name)
    return f"{hour_prefix(hour)}{hour:%Y%m%dT%H}Z-"


def compacted_name(originals: OriginalsRange) -> str:
    """Return the name of the compacted object of a range of originals."""
    return f"{compacted_prefix(originals.first)}{origin_of(originals.first)}_to_{origin_of(originals.last)}{_ENDING}"


def compacted_range(name: str) -> OriginalsRange | None:
    """Return the range of a compacted object by its name; None for any other object."""
    if match := _COMPACTED.fullmatch(name):
        folder, first, last = match.groups()
        return OriginalsRange(f"{folder}{first}{_ENDING}", f"{folder}{last}{_ENDING}")
    return None


def arrival_time(name: str) -> datetime:
    """Return when the events of an object arrived, by its name; of a name without a time, the begin of its hour.

    The events of a compacted object arrived then or later.

    Raises:
        ValueError: No object of the archive has such a name.
    """
    if match := _NAME.match(name):
        day, hour, time = match.groups()
        if time:
            with contextlib.suppress(ValueError):  # The name has digits, but no time: its hour counts.
                return datetime.strptime(time, _TIME).replace(tzinfo=UTC)
        return datetime.strptime(f"{day} {hour}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    raise ValueError(f"{name}: an object of the archive has a name that begins with raw/dt=YYYY-MM-DD/hr=HH/")


def address(bucket: str, name: str) -> str:
    """Return the `gs://` address of an object, or of all objects whose names begin so."""
    return f"gs://{bucket}/{name}"


def is_archived(bucket: str, uri: str) -> bool:
    """Return whether an address is that of an object of the archive in a bucket."""
    return uri.startswith(address(bucket, PREFIX))
