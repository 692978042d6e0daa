"""Names and addresses of the archive's objects, by the hour of arrival. No other module spells them."""

import contextlib
import re
from datetime import UTC, date, datetime

PREFIX = "raw/"
"""Prefix of the names of all objects of the archive. The bucket has other folders, too."""

_TIME = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"raw/dt=(\d{4}-\d\d-\d\d)/hr=(\d\d)/(?:(\d{8}T\d{6}\.\d{6}Z))?")


def day_prefix(day: date) -> str:
    """Return the prefix of the names of all objects whose events arrived on a day, in UTC."""
    return f"{PREFIX}dt={day:%Y-%m-%d}/"


def hour_prefix(time: datetime) -> str:
    """Return the prefix of the names of all objects whose events arrived in an hour."""
    utc = time.astimezone(UTC)
    return f"{day_prefix(utc.date())}hr={utc:%H}/"


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


def arrival_time(name: str) -> datetime:
    """Return when the events of an object arrived, by its name; of a name without a time, the begin of its hour.

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
