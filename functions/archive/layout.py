"""Names of the archive's objects, by hour of arrival. No other module knows them."""

import re
from datetime import UTC, datetime


def hour_prefix(time: datetime) -> str:
    """What the names of all objects of an hour of arrival begin with."""
    return f"raw/dt={time.astimezone(UTC):%Y-%m-%d/hr=%H}/"


def first_name_at(time: datetime) -> str:
    """What sorts before the name of any object that arrived at a time or later, and after those of all others."""
    return f"{hour_prefix(time)}{time.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


_NAME = re.compile(r"raw/dt=(\d{4}-\d\d-\d\d)/hr=(\d\d)/(?:(\d{8}T\d{6}\.\d{6}Z))?")


def arrival_time(name: str) -> datetime:
    """Return when the events of an object arrived, by its name; of a name without a time, the begin of its hour.

    Raises:
        ValueError: No object of the archive has such a name.
    """
    if found := _NAME.match(name):
        day, hour, time = found.groups()
        text, form = (time, "%Y%m%dT%H%M%S.%fZ") if time else (f"{day} {hour}", "%Y-%m-%d %H")
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    raise ValueError(f"{name} is no name of an object of the archive, which begins with raw/dt=YYYY-MM-DD/hr=HH/")
