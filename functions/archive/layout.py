"""Names of the archive's objects, by hour of arrival. No other module knows them."""

import re
from datetime import UTC, datetime


def hour_prefix(time: datetime) -> str:
    """Return the prefix of the names of all objects that arrived in an hour."""
    return f"raw/dt={time.astimezone(UTC):%Y-%m-%d/hr=%H}/"


def first_name_at(time: datetime) -> str:
    """Return the smallest possible object name for messages that arrived at or after a time."""
    return f"{hour_prefix(time)}{time.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


_NAME = re.compile(r"raw/dt=(\d{4}-\d\d-\d\d)/hr=(\d\d)/(?:(\d{8}T\d{6}\.\d{6}Z))?")


def arrival_time(name: str) -> datetime:
    """Return when the events of an object arrived, by its name; of a name without a time, the begin of its hour.

    Raises:
        ValueError: No object of the archive has such a name.
    """
    if match := _NAME.match(name):
        day, hour, time = match.groups()
        text, form = (time, "%Y%m%dT%H%M%S.%fZ") if time else (f"{day} {hour}", "%Y-%m-%d %H")
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    raise ValueError(f"{name} is no name of an object of the archive, which begins with raw/dt=YYYY-MM-DD/hr=HH/")
